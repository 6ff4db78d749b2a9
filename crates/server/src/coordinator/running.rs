//! A coordinator: one driver for each partition of its topic that this broker leads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use millrace_host::Host;
use millrace_metadata::{Delta, Image};
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, PartitionId, TopicId};
use millrace_replication::Replicas;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Inlets, Order, Task, Tried, answered};
use super::driver::{Answer, Call, Driver, DriverOptions, DriverParts};
use super::family::Family;
use super::journal::ReplicaJournal;
use crate::Config;

/// Requests that wait for one driver; further callers wait for their turn to wait.
const MAX_CALLS: usize = 1024;

/// What a coordinator is made with.
pub struct CoordinatorParts<F> {
    /// What kind it is.
    pub family: F,
    /// This broker.
    pub id: BrokerId,
    /// Time and tasks.
    pub host: Host,
    /// The partitions.
    pub replicas: Replicas,
    /// The settings of the moment.
    pub config: watch::Receiver<Arc<Config>>,
    /// How drivers work with these settings.
    pub options: fn(&Config) -> DriverOptions,
}

/// A kind of coordinator on this broker.
pub struct Coordinator<F: Family> {
    family: Arc<F>,
    id: BrokerId,
    host: Host,
    replicas: Replicas,
    config: watch::Receiver<Arc<Config>>,
    options: fn(&Config) -> DriverOptions,
    running: RwLock<BTreeMap<i32, Running<F>>>,
    stopped: AtomicBool,
}

/// One partition's driver.
struct Running<F: Family> {
    topic: TopicId,
    epoch: LeaderEpoch,
    calls: mpsc::Sender<Call<F>>,
    orders: mpsc::UnboundedSender<Order<F>>,
    desk: Arc<Desk<F, ReplicaJournal>>,
    stopping: CancellationToken,
}

impl<F: Family> Drop for Running<F> {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

impl<F: Family> Coordinator<F> {
    /// A coordinator that leads nothing yet.
    pub fn new(parts: CoordinatorParts<F>) -> Coordinator<F> {
        Coordinator {
            family: Arc::new(parts.family),
            id: parts.id,
            host: parts.host,
            replicas: parts.replicas,
            config: parts.config,
            options: parts.options,
            running: RwLock::new(BTreeMap::new()),
            stopped: AtomicBool::new(false),
        }
    }

    /// What kind it is.
    pub fn family(&self) -> &F {
        &self.family
    }

    /// Starts and ends drivers as the image says; to be called after the replicas have been told.
    pub fn update(&self, image: &Arc<Image>, delta: &Delta) {
        self.family.update(&self.config.borrow(), image, delta);
        let led = self.led(image);
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(Ordering::Acquire) {
            return;
        }
        running.retain(|index, driver| {
            led.get(index)
                .is_some_and(|(id, epoch)| id.topic == driver.topic && *epoch == driver.epoch)
        });
        for (index, (id, epoch)) in led {
            if !running.contains_key(&index)
                && let Some(started) = self.start(id, epoch)
            {
                running.insert(index, started);
            }
        }
        for driver in running.values() {
            for notice in self.family.notices(delta) {
                // One that has ended needs none.
                let _ = driver.orders.send(Order::Notice(notice));
            }
        }
    }

    /// The partitions that this broker leads by the image.
    fn led(&self, image: &Image) -> BTreeMap<i32, (PartitionId, LeaderEpoch)> {
        let Some(topic) = image.topic_named(self.family.topic()) else {
            return BTreeMap::new();
        };
        let led = image
            .partitions_of(topic.id)
            .filter(|(_, partition)| partition.leader == Some(self.id));
        led.map(|(id, partition)| (id.index, (id, partition.leader_epoch)))
            .collect()
    }

    fn start(&self, id: PartitionId, epoch: LeaderEpoch) -> Option<Running<F>> {
        let replica = self.replicas.get(id)?;
        let (calls, called) = mpsc::channel(MAX_CALLS);
        let (orders, ordered) = mpsc::unbounded_channel();
        let running = Running {
            topic: id.topic,
            epoch,
            calls,
            orders,
            desk: Arc::default(),
            stopping: CancellationToken::new(),
        };
        let journal = ReplicaJournal::new(replica, epoch, self.host.tasks.clone());
        let journal = Arc::new(journal);
        let driver = Driver::new(DriverParts {
            family: self.family.clone(),
            partition: id.index,
            journal: journal.clone(),
            clock: self.host.clock.clone(),
            options: (self.options)(&self.config.borrow()),
        });
        let task = Task {
            desk: running.desk.clone(),
            journal,
            inlets: Inlets {
                calls: called,
                orders: ordered,
            },
            stopping: running.stopping.clone(),
        };
        self.host.tasks.spawn(task.run(driver));
        Some(running)
    }

    /// Asks the shard of a partition.
    ///
    /// # Errors
    /// NOT_COORDINATOR where another broker leads the partition, also when that turns out while the
    /// caller waits; COORDINATOR_LOAD_IN_PROGRESS; why the log did not take what was decided;
    /// REQUEST_TIMED_OUT where it is not known to be committed.
    pub async fn call(&self, partition: i32, request: F::Request) -> Answer<F> {
        let (desk, calls) = {
            let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
            let driver = running.get(&partition).ok_or(ErrorCode::NotCoordinator)?;
            if !driver.desk.is_open() {
                // One that could not load has ended.
                return Err(match driver.calls.is_closed() {
                    true => ErrorCode::NotCoordinator,
                    false => ErrorCode::CoordinatorLoadInProgress,
                });
            }
            (driver.desk.clone(), driver.calls.clone())
        };
        let request = match desk.ask(request) {
            Tried::Answered(answer) => return answer,
            Tried::Waits(answer) => {
                // The driver must not be kept alive by those who wait for its answer.
                drop((desk, calls));
                return answered::<F>(answer).await;
            }
            Tried::Busy(request) => request,
        };
        let (reply, answer) = oneshot::channel();
        let sent = calls.send(Call { request, reply }).await;
        drop((desk, calls));
        sent.map_err(|_| ErrorCode::NotCoordinator)?;
        answered::<F>(answer).await
    }

    /// The partitions with a driver, loaded or not.
    pub fn partitions(&self) -> Vec<i32> {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        running.keys().copied().collect()
    }

    /// What there is to know of each shard that is loaded, with its leadership.
    pub async fn measure(&self) -> Vec<((i32, LeaderEpoch), F::Measures)> {
        let asked: Vec<_> = {
            let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
            let loaded = running.iter().filter(|(_, driver)| driver.desk.is_open());
            let ask = loaded.map(|(index, driver)| {
                let (reply, answer) = oneshot::channel();
                // One that has ended drops the question, which is an answer too.
                let _ = driver.orders.send(Order::Measure(reply));
                ((*index, driver.epoch), answer)
            });
            ask.collect()
        };
        let mut measured = Vec::with_capacity(asked.len());
        for (of, answer) in asked {
            if let Ok(measures) = answer.await {
                measured.push((of, measures));
            }
        }
        measured
    }

    /// Ends all drivers; whoever waits is told NOT_COORDINATOR.
    pub fn stop(&self) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Release);
        running.clear();
    }
}
