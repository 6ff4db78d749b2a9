//! The cluster under test.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millrace_host::{BoxListener, Host, Tasks};
use millrace_model::{
    BrokerId, DirectoryId, Incarnation, LeaderEpoch, Offset, PartitionEpoch, PartitionId, TopicId,
    Uuid,
};
use millrace_protocol::batch::SoleBatch;
use millrace_replication::{
    Acks, AppendFailure, Events, Replica, ReplicaOptions, ReplicaSettings, ReplicaState, Replicas,
    Role, Throttled,
};
use millrace_rpc::{Channels, Identity, PeerListener, PeerServer};
use millrace_storage::{Appended, LogDirectory, LogSettings, Store, StoreOptions};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::controller::{Controller, Link, Partition, topic};
use crate::disk::{HeldDisk, Syncs};
use crate::network::{GatedNetwork, Wires};

/// Longest any test waits for a state.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at a state.
const STEP: Duration = Duration::from_millis(1);

/// What the brokers of a test are given.
#[derive(Clone)]
pub struct Setup {
    pub settings: ReplicaSettings,
    pub log: LogSettings,
    pub throttled: Throttled,
    pub tail_budget_bytes: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        // Long enough that a machine that stands still for a moment changes no ISR.
        let session_timeout = Duration::from_secs(10);
        Setup {
            settings: ReplicaSettings {
                session_timeout,
                ..ReplicaSettings::default()
            },
            log: LogSettings::default(),
            throttled: Throttled::default(),
            tail_budget_bytes: 64 << 20,
        }
    }
}

pub struct Broker {
    pub replicas: Replicas,
    pub store: Store,
    pub wires: Arc<Wires>,
    pub syncs: Arc<Syncs>,
    folder: TempDir,
    host: Host,
}

pub struct Cluster {
    pub controller: Arc<Controller>,
    setup: Setup,
    ports: BTreeMap<i32, u16>,
    listeners: BTreeMap<i32, BoxListener>,
    brokers: BTreeMap<i32, Broker>,
}

pub fn partition(index: i32) -> PartitionId {
    PartitionId {
        topic: TopicId(Uuid([5; 16])),
        index,
    }
}

impl Cluster {
    /// Brokers 1 to `count`, none of which runs yet.
    pub async fn prepared(setup: Setup, count: i32) -> Cluster {
        let mut cluster = Cluster {
            controller: Arc::default(),
            setup,
            ports: BTreeMap::new(),
            listeners: BTreeMap::new(),
            brokers: BTreeMap::new(),
        };
        let host = host();
        for id in 1..=count {
            let listener = host.network.listen("127.0.0.1", 0).await.unwrap();
            let port = listener.local_address().unwrap().port();
            cluster.ports.insert(id, port);
            cluster.listeners.insert(id, listener);
        }
        cluster
    }

    /// Brokers 1 to `count`.
    pub async fn started(setup: Setup, count: i32) -> Cluster {
        let mut cluster = Cluster::prepared(setup, count).await;
        for id in 1..=count {
            cluster.start(id).await;
        }
        cluster
    }

    pub async fn start(&mut self, id: i32) {
        let (wires, syncs) = (Arc::<Wires>::default(), Arc::<Syncs>::default());
        let host = Host {
            network: Arc::new(GatedNetwork(wires.clone())),
            disk: Arc::new(HeldDisk(syncs.clone())),
            fatal: Arc::new(|why| panic!("a broken invariant: {why}")),
            ..host()
        };
        let folder = tempfile::tempdir().unwrap();
        let directory = LogDirectory {
            path: folder.path().to_owned(),
            id: DirectoryId(Uuid([id as u8; 16])),
        };
        let identity = Identity {
            cluster_id: "cluster-under-test".into(),
            node: BrokerId(id),
            directory: directory.id,
            incarnation: Incarnation(Uuid([id as u8; 16])),
        };
        let events = Arc::new(Events::default());
        let mut options = StoreOptions::new(vec![directory], host.clone(), events.clone());
        options.tail_budget_bytes = self.setup.tail_budget_bytes;
        let (store, _) = Store::open(options).await.unwrap();
        let channels = Channels::new(identity.clone(), host.clone());
        for (peer, port) in &self.ports {
            channels.set_address(BrokerId(*peer), PeerListener::Broker, "127.0.0.1", *port);
        }
        let replicas = Replicas::start(ReplicaOptions {
            node: BrokerId(id),
            host: host.clone(),
            store: store.clone(),
            events,
            channels,
            link: Arc::new(Link(self.controller.clone(), BrokerId(id))),
            settings: self.setup.settings,
        });
        let server = PeerServer::new(identity, replicas.routes());
        let mut listener = self.listeners.remove(&id).unwrap();
        let tasks = host.tasks.clone();
        host.tasks.spawn(async move {
            while let Ok(stream) = listener.accept().await {
                let (server, serving) = (server.clone(), tasks.clone());
                tasks.spawn(async move { server.serve(stream, &serving).await });
            }
        });
        let broker = Broker {
            replicas: replicas.clone(),
            store,
            wires,
            syncs,
            folder,
            host,
        };
        self.brokers.insert(id, broker);
        self.controller.register(BrokerId(id), replicas);
    }

    /// A partition whose first replica leads it; waits until that serves.
    pub async fn create(&self, index: i32, replicas: &[i32], isr: &[i32], min_isr: usize) {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        let partition_state = Partition {
            replicas: ids(replicas),
            isr: ids(isr),
            leader: BrokerId(replicas[0]),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            min_isr,
            throttled: self.setup.throttled.clone(),
            settings: self.setup.log.clone(),
        };
        self.controller.create(partition(index), partition_state);
        self.wait_to_lead(replicas[0], index).await;
    }

    pub fn broker(&self, id: i32) -> &Broker {
        &self.brokers[&id]
    }

    pub fn replica(&self, broker: i32, index: i32) -> Arc<Replica> {
        self.broker(broker).replicas.get(partition(index)).unwrap()
    }

    pub fn state(&self, broker: i32, index: i32) -> ReplicaState {
        self.replica(broker, index).state()
    }

    pub async fn wait_to_lead(&self, broker: i32, index: i32) {
        let epoch = self.controller.partition(partition(index)).leader_epoch;
        let serves = || {
            let state = self.state(broker, index);
            let serving = state.role == Role::Leader { serving: true };
            (serving && state.leader_epoch == epoch).then_some(())
        };
        until("a leader that serves", serves).await;
    }

    /// Until this leader knows that another one may lead by now.
    pub async fn wait_to_be_cut_off(&self, broker: i32, index: i32) {
        let replica = self.replica(broker, index);
        until("a leader that is cut off", || {
            replica.is_cut_off().then_some(())
        })
        .await;
    }

    pub async fn wait_for_isr(&self, index: i32, isr: &[i32]) {
        let what = format!("the ISR to be {isr:?}");
        let reached = || (self.controller.isr(partition(index)) == isr).then_some(());
        self.until(&what, index, reached).await;
    }

    /// As [`until`], for a partition of which all is told if it takes too long.
    async fn until(&self, what: &str, index: i32, mut look: impl FnMut() -> Option<()>) {
        let end = Instant::now() + PATIENCE;
        while look().is_none() {
            if Instant::now() > end {
                let brokers = self.brokers.keys();
                let states = brokers.map(|id| (id, self.state(*id, index)));
                let states: Vec<_> = states.collect();
                let registered = self.controller.partition(partition(index));
                panic!("waited too long for {what}: {registered:#?} {states:#?}");
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Nothing gets through between a follower and its leader.
    pub fn hold(&self, follower: i32, leader: i32) {
        self.broker(follower).wires.hold(self.ports[&leader]);
    }

    pub fn release(&self, follower: i32, leader: i32) {
        self.broker(follower).wires.release(self.ports[&leader]);
    }

    /// Ends the connections of a follower to its leader; it may open new ones.
    pub fn cut(&self, follower: i32, leader: i32) {
        self.broker(follower).wires.cut(self.ports[&leader]);
    }

    /// Connections that a follower opened to a leader so far.
    pub fn opened(&self, follower: i32, leader: i32) -> usize {
        self.broker(follower).wires.opened(self.ports[&leader])
    }

    /// Appends, and waits as a producer would.
    pub async fn produce(
        &self,
        broker: i32,
        index: i32,
        batch: SoleBatch,
        acks: Acks,
    ) -> Result<Appended, AppendFailure> {
        produce(&self.replica(broker, index), batch, acks).await
    }

    /// A replica's whole log, as its readers get it.
    pub async fn log(&self, broker: i32, index: i32) -> Vec<u8> {
        let replica = self.replica(broker, index);
        let log = replica.log();
        let end = log.bounds().log_end;
        let (mut all, mut from) = (Vec::new(), log.bounds().log_start);
        while from < end {
            let plan = log.read(from, 1 << 20, end, true).unwrap();
            for part in plan.load(&self.broker(broker).host.tasks).await.unwrap() {
                for batch in millrace_protocol::batch::batches(&part) {
                    from = batch.unwrap().last_offset().unwrap().next();
                }
                all.extend_from_slice(&part);
            }
        }
        all
    }

    /// A replica's segments as they lie on the disk: each file's base offset and bytes.
    pub fn segments(&self, broker: i32, index: i32) -> Vec<(String, Vec<u8>)> {
        let folder = self.broker(broker).folder.path();
        let folder = folder.join(format!("{}-{index}", topic()));
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        let logs = files.filter(|file| file.path().extension().is_some_and(|ext| ext == "log"));
        let mut segments: Vec<_> = logs
            .map(|file| {
                let name = file.file_name().into_string().unwrap();
                (name, std::fs::read(file.path()).unwrap())
            })
            .collect();
        segments.sort();
        segments
    }

    /// All the bytes of a replica's segments.
    pub fn on_disk(&self, broker: i32, index: i32) -> Vec<u8> {
        let segments = self.segments(broker, index).into_iter();
        segments.flat_map(|(_, bytes)| bytes).collect()
    }

    /// Waits until these replicas hold the first one's log, durable and with its high watermark;
    /// returns that log. They must be the same byte for byte, read and on the disk.
    pub async fn wait_to_agree(&self, index: i32, brokers: &[i32]) -> Vec<u8> {
        let stands = |broker: i32| {
            let state = self.state(broker, index);
            let ends = (state.log_end, state.durable_end, state.high_watermark);
            (ends, state.leader_epoch)
        };
        let agreed = || {
            let first @ ((log_end, durable_end, high_watermark), _) = stands(brokers[0]);
            let same = brokers.iter().all(|broker| stands(*broker) == first);
            (same && durable_end == log_end && high_watermark == log_end).then_some(())
        };
        self.until("the replicas to agree", index, agreed).await;
        let log = self.log(brokers[0], index).await;
        for broker in brokers {
            assert!(self.log(*broker, index).await == log, "broker {broker}");
            assert!(self.on_disk(*broker, index) == log, "disk of {broker}");
        }
        log
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.controller.stop();
        for broker in self.brokers.values() {
            broker.syncs.release();
            broker.replicas.stop();
        }
    }
}

fn host() -> Host {
    let tasks = Tasks::on(tokio::runtime::Handle::current());
    Host::real(tasks.clone(), tasks)
}

/// Appends at a leader, and waits as a producer would.
pub async fn produce(
    replica: &Arc<Replica>,
    batch: SoleBatch,
    acks: Acks,
) -> Result<Appended, AppendFailure> {
    let (appended, epoch) = replica.append(batch, acks)?;
    let deadline = Instant::now() + PATIENCE;
    let waiting = replica.wait_committed(appended.last, epoch, acks, deadline);
    waiting.await.map(|()| appended)
}

/// Where a log ends behind this append.
pub fn end_of(appended: &Appended) -> Offset {
    appended.last.next()
}

/// Looks again and again until there is something.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Runs a test; what its brokers still do at the end is dropped with the runtime.
pub fn run(test: impl Future<Output = ()>) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
    runtime.shutdown_background();
}
