//! All replicas of this broker: what images, the store and time say to them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use millrace_model::{BrokerId, DirectoryId, Durability, Offset, PartitionId, TopicName};
use millrace_rpc::Routes;
use millrace_storage::{LogSettings, StoreEvents};
use tokio::sync::mpsc;

use crate::clock::ActiveClock;
use crate::core::{Follow, IsrOutcome, IsrRequest, Lead, Part, Rules, View};
use crate::metrics::ReplicationMetrics;
use crate::options::{Assignment, Following, IsrChange, Leadership, ReplicaOptions, Throttles};
use crate::push;
use crate::replica::{Replica, Todo};
use crate::shared::{Parts, Shared};

/// The brokers as the newest image shows them, and this one as the controller registered it.
pub type ClusterView = View;

/// Requests to the controller that travel together at most.
const MAX_CHANGES: usize = 2000;

/// How long an answer of the controller is waited for before the request may be repeated.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(2);

/// All replicas of one broker; cheap to clone.
#[derive(Clone)]
pub struct Replicas(pub(crate) Arc<Shared>);

/// What a [`millrace_storage::Store`] tells; made before the store, and bound to the replicas when
/// they start. Nothing is lost before: a replica that opens its log looks where it stands.
#[derive(Default)]
pub struct Events(OnceLock<Weak<Shared>>);

impl StoreEvents for Events {
    fn durable(&self, progress: &[(PartitionId, Offset)]) {
        let Some(shared) = self.0.get().and_then(Weak::upgrade) else {
            return;
        };
        let mut todo = Todo::default();
        for (id, _) in progress {
            if let Some(replica) = shared.replica(*id) {
                replica.log_moved(&mut todo);
            }
        }
        todo.carry_out(&shared);
    }

    fn start_moved(&self, logs: &[PartitionId]) {
        let Some(shared) = self.0.get().and_then(Weak::upgrade) else {
            return;
        };
        let mut todo = Todo::default();
        for replica in logs.iter().filter_map(|id| shared.replica(*id)) {
            replica.start_moved(&mut todo);
        }
        todo.carry_out(&shared);
    }

    fn relocated(&self, id: PartitionId, directory: DirectoryId) {
        if let Some(shared) = self.0.get().and_then(Weak::upgrade) {
            shared.link.opened(id, directory);
        }
    }

    fn condition_changed(&self) {
        if let Some(shared) = self.0.get().and_then(Weak::upgrade) {
            shared.link.condition_changed();
        }
    }

    fn damaged(&self, log: PartitionId) {
        let shared = self.0.get().and_then(Weak::upgrade);
        if let Some(replica) = shared.and_then(|shared| shared.replica(log)) {
            replica.damaged();
        }
    }

    fn offline(&self, directory: DirectoryId, why: &str) {
        let Some(shared) = self.0.get().and_then(Weak::upgrade) else {
            return;
        };
        tracing::error!(%directory, why, "a log directory has failed");
        for replica in shared.replicas() {
            if replica
                .open_log()
                .is_some_and(|log| log.directory_id() == directory)
            {
                replica.fail();
            }
        }
        shared.link.directory_failed(directory, why);
    }
}

impl Replicas {
    /// Starts without any replica: they come with [`Replicas::update`].
    pub fn start(options: ReplicaOptions) -> Replicas {
        let beat = beat(options.settings.session_timeout);
        let rules = Rules {
            lag_max: options.settings.lag_max,
            session: options.settings.session_timeout,
            ..Rules::default()
        };
        let clock = ActiveClock::new(options.host.clock.clone(), beat);
        let (requests, asked) = mpsc::unbounded_channel();
        let events = options.events.clone();
        let shared = Shared::new(Parts {
            options,
            rules,
            clock,
            requests,
        });
        if events.0.set(Arc::downgrade(&shared)).is_err() {
            tracing::error!("the events of a store are bound to other replicas already");
        }
        let tasks = &shared.host.tasks;
        tasks.spawn(
            shared
                .stopping
                .clone()
                .run_until_cancelled_owned(ask(shared.clone(), asked)),
        );
        tasks.spawn(
            shared
                .stopping
                .clone()
                .run_until_cancelled_owned(tick(shared.clone(), beat)),
        );
        Replicas(shared)
    }

    /// The services to serve to other brokers.
    pub fn routes(&self) -> Routes {
        push::routes(&self.0)
    }

    /// Takes over a new image: the brokers, and what changed for replicas of this broker. To be
    /// called in the order of images.
    pub fn update(&self, view: ClusterView, assignments: Vec<Assignment>) {
        let shared = &self.0;
        if *shared.view() != view {
            let view = Arc::new(view);
            shared.set_view(view.clone());
            let mut todo = Todo::default();
            for replica in shared.replicas() {
                let view = view.clone();
                replica.decide(&mut todo, |inner, log, now, fx| {
                    inner.core.set_view(view, log, now, fx);
                });
            }
            todo.carry_out(shared);
            for link in shared.links() {
                link.nudge();
            }
        }
        let any = !assignments.is_empty();
        for assignment in assignments {
            self.assign(assignment);
        }
        if any {
            self.release_held();
        }
    }

    /// These limits hold from now on for what is throttled.
    pub fn throttle(&self, throttles: Throttles) {
        if self.0.throttle.set(throttles, self.0.host.clock.now()) {
            self.release_held();
        }
    }

    /// What waits for a limit to let it pass may be limited no more.
    fn release_held(&self) {
        for session in self.0.sessions() {
            session.release_held();
        }
    }

    fn assign(&self, assignment: Assignment) {
        match assignment {
            Assignment::Lead(lead) => {
                let replica = self.prepare(lead.id, &lead.topic, &lead.settings, lead.directory);
                self.count_isr_change(&replica, &lead);
                replica.told_to_lead(lead.leader_epoch);
                replica.set_throttled(lead.throttled.clone());
                take_part(&replica, Part::Lead(lead_part(lead)));
            }
            Assignment::Follow(follow) => {
                let replica =
                    self.prepare(follow.id, &follow.topic, &follow.settings, follow.directory);
                let part = Part::Follow(follow_part(&follow, self.0.node));
                take_part(&replica, part);
            }
            Assignment::Stop { id, delete } => match self.0.remove_replica(id) {
                Some(replica) => replica.stop(delete),
                None if delete => self.0.delete(id),
                None => {}
            },
        }
    }

    fn prepare(
        &self,
        id: PartitionId,
        topic: &TopicName,
        settings: &LogSettings,
        place: Option<DirectoryId>,
    ) -> Arc<Replica> {
        let make = || Replica::new(id, topic.clone(), settings.clone(), place, self.0.clone());
        let (replica, made) = self.0.replica_or(id, make);
        if made {
            replica.open();
        } else {
            replica.reconfigure(settings);
        }
        replica
    }

    fn count_isr_change(&self, replica: &Replica, lead: &Leadership) {
        let inner = replica.lock();
        let (before, _) = inner.core.isr_and_min();
        if inner.core.epoch() == lead.leader_epoch && before > 0 {
            let counters = &self.0.counters;
            if lead.isr.len() < before {
                counters.isr_shrinks.fetch_add(1, Ordering::Relaxed);
            } else if lead.isr.len() > before {
                counters.isr_expands.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The replica of a partition, if this broker has one.
    pub fn get(&self, id: PartitionId) -> Option<Arc<Replica>> {
        self.0.replica(id)
    }

    /// Every replica at this moment.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.0.replicas()
    }

    /// Counts over all replicas.
    pub fn metrics(&self) -> ReplicationMetrics {
        ReplicationMetrics::of(&self.0)
    }

    /// Ends every stream and stops following and leading; whoever waits is told so. The logs stay
    /// open.
    pub fn stop(&self) {
        self.0.stopping.cancel();
        for replica in self.0.replicas() {
            self.0.remove_replica(replica.id());
            replica.stop(false);
        }
    }
}

fn take_part(replica: &Arc<Replica>, part: Part) {
    replica.act(|inner, log, now, fx| inner.core.assign(part, log, now, fx));
}

fn lead_part(lead: Leadership) -> Lead {
    let fsync = lead.settings.durability == Durability::Fsync;
    Lead {
        epoch: lead.leader_epoch,
        partition_epoch: lead.partition_epoch,
        replicas: lead.replicas,
        isr: lead.isr,
        elr: lead.elr,
        min_isr: lead.min_isr,
        confirm_fsync: fsync && lead.durability == Durability::PageCache,
    }
}

fn follow_part(follow: &Following, me: BrokerId) -> Follow {
    Follow {
        leader: follow.leader,
        epoch: follow.leader_epoch,
        partition_epoch: follow.partition_epoch,
        counted_on: follow.isr.contains(&me) || follow.elr.contains(&me),
    }
}

/// How often leaders look around: several times a session.
fn beat(session: Duration) -> Duration {
    (session / 5).clamp(Duration::from_millis(10), Duration::from_millis(200))
}

/// Lets leaders look for followers that lag, and for requests to repeat. While no leader has a
/// reason to, time stands still, and nobody is woken for it.
async fn tick(shared: Arc<Shared>, beat: Duration) {
    loop {
        shared.stirring.any().await;
        shared.clock.beat();
        tokio::time::sleep(beat).await;
        shared.clock.beat();
        let mut todo = Todo::default();
        let mut stirring = shared.stirring.take();
        stirring.retain(|replica| replica.tick(&mut todo));
        shared.stirring.put_back(stirring);
        todo.carry_out(&shared);
    }
}

/// Carries requests for ISR changes to the controller, those that come together in one.
async fn ask(shared: Arc<Shared>, mut asked: mpsc::UnboundedReceiver<(Arc<Replica>, IsrRequest)>) {
    loop {
        let mut batch = Vec::new();
        if asked.recv_many(&mut batch, MAX_CHANGES).await == 0 {
            return;
        }
        // The newest request of a partition stands for it.
        let newest: BTreeMap<PartitionId, (Arc<Replica>, IsrRequest)> = batch
            .into_iter()
            .map(|(replica, request)| (replica.id(), (replica, request)))
            .collect();
        let changes: Vec<IsrChange> = newest
            .iter()
            .map(|(id, (_, request))| IsrChange {
                id: *id,
                leader_epoch: request.epoch,
                partition_epoch: request.partition_epoch,
                isr: request.isr.clone(),
                confirms_fsync: request.confirms_fsync,
            })
            .collect();
        tracing::debug!(changes = changes.len(), "asking for changes of ISRs");
        // Where no answer arrives, what followers say may not arrive either, though the controller
        // hears this broker: it would take them out of the ISR, and then fence the last one in it.
        let in_touch = *shared.link.in_touch().borrow();
        let granted = match in_touch {
            true => {
                let answer = shared.link.alter_partitions(changes);
                let answer = tokio::time::timeout(CONTROLLER_PATIENCE, answer).await;
                answer.unwrap_or_default()
            }
            false => Vec::new(),
        };
        let mut todo = Todo::default();
        for (place, (replica, request)) in newest.into_values().enumerate() {
            let outcome = match granted.get(place) {
                Some(true) => IsrOutcome::Accepted,
                Some(false) | None => IsrOutcome::Refused,
            };
            replica.decide(&mut todo, |inner, _, now, fx| {
                inner.core.isr_answered(&request, outcome, now, fx);
            });
        }
        todo.carry_out(&shared);
    }
}
