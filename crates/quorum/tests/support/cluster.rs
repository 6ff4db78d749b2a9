//! The cluster under test.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_host::{Host, Tasks};
use millrace_metadata::decide::{self, Registration};
use millrace_metadata::{Decision, Image, Record, Resource};
use millrace_model::{BrokerId, DirectoryId, ImageVersion, Incarnation, PartitionId, Uuid};
use millrace_quorum::{
    Bootstrap, BrokerSession, DecideError, ForwardError, ForwardHandler, Forwarded, Place, Quorum,
    QuorumError, QuorumOptions, Timing, Voter,
};
use millrace_rpc::{Channels, Identity, PeerServer};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const CLUSTER: &str = "cluster-under-test";

/// Longest any test waits for a state.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Answers forwarded requests with the name of the node and what was asked.
struct Echo(BrokerId, std::sync::OnceLock<Quorum>);

impl ForwardHandler for Echo {
    fn handle(
        &self,
        request: Forwarded,
    ) -> BoxFuture<'_, Result<(Bytes, ImageVersion), ForwardError>> {
        Box::pin(async move {
            let quorum = self.1.get().ok_or(ForwardError::NoController)?;
            let value = String::from_utf8(request.body.to_vec()).unwrap();
            let name = format!("forwarded-by-{}", request.client_id);
            let version = set(quorum, &name, &value)
                .await
                .map_err(|error| match error {
                    DecideError::NotController { .. } => ForwardError::NoController,
                    other => ForwardError::Unconfirmed(other.to_string()),
                })?;
            Ok((Bytes::from(format!("done by {}", self.0)), version))
        })
    }
}

/// Sets a cluster-wide setting of no meaning, on the active controller.
pub async fn set(quorum: &Quorum, name: &str, value: &str) -> Result<ImageVersion, DecideError> {
    let record = Record::Config {
        resource: Resource::cluster(),
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let decide = move |_: &Image, _: &mut _, _| Decision {
        records: vec![record.clone()],
        reply: (),
    };
    quorum
        .decide(deadline, decide)
        .await
        .map(|((), version)| version)
}

pub struct Node {
    pub id: i32,
    pub quorum: Quorum,
    pub runtime: Option<Runtime>,
    pub incarnation: Incarnation,
}

/// How nodes know of the quorum.
#[derive(Clone, Copy, PartialEq)]
pub enum Knowing {
    /// `controller.quorum.voters` on every node.
    Voters,
    /// `controller.quorum.bootstrap.servers` on every node; the controllers were formatted with
    /// `--initial-controllers`, or with `--standalone` where there is one.
    BootstrapServers,
}

/// A node that stands still, as after SIGSTOP: its sockets stay open.
pub struct Frozen {
    _thaw: std::sync::mpsc::Sender<()>,
}

pub struct Cluster {
    folders: Vec<TempDir>,
    directories: Vec<DirectoryId>,
    /// What the controllers were formatted with.
    pub formatted: Vec<DirectoryId>,
    pub knowing: Knowing,
    ports: Vec<u16>,
    voters: usize,
    pub nodes: Vec<Option<Node>>,
    pub timing: Timing,
    incarnations: u8,
}

/// A port that nobody listens on, and that no connection gets: from 32,768 on they are given to whoever
/// connects, while the node that is to listen there is not up yet.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(16_384 + place % 16_384).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Cluster {
    /// A cluster of nodes 1, 2, ...: the first `voters` are controllers. None runs yet.
    pub fn new(voters: usize, all: usize) -> Cluster {
        let directories: Vec<_> = (0..all)
            .map(|n| DirectoryId(Uuid([n as u8 + 1; 16])))
            .collect();
        Cluster {
            folders: (0..all).map(|_| tempfile::tempdir().unwrap()).collect(),
            formatted: directories.clone(),
            directories,
            knowing: Knowing::Voters,
            ports: (0..all).map(|_| free_port()).collect(),
            voters,
            nodes: (0..all).map(|_| None).collect(),
            timing: Timing::default(),
            incarnations: 0,
        }
    }

    pub fn started(voters: usize, all: usize) -> Cluster {
        let mut cluster = Cluster::new(voters, all);
        cluster.start_all();
        cluster
    }

    pub fn start_all(&mut self) {
        for id in 1..=self.nodes.len() as i32 {
            self.start(id).unwrap();
        }
    }

    fn place(&self, id: i32) -> Place {
        Place {
            host: "127.0.0.1".into(),
            port: self.ports[id as usize - 1],
        }
    }

    pub fn folder(&self, id: i32) -> PathBuf {
        self.folders[id as usize - 1].path().to_owned()
    }

    pub fn directory(&self, id: i32) -> DirectoryId {
        self.directories[id as usize - 1]
    }

    pub fn start(&mut self, id: i32) -> Result<(), QuorumError> {
        self.incarnations += 1;
        let incarnation = Incarnation(Uuid([self.incarnations; 16]));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let tasks = Tasks::on(runtime.handle().clone());
        let host = Host::real(tasks.clone(), tasks);
        let identity = Identity {
            cluster_id: CLUSTER.into(),
            node: BrokerId(id),
            directory: self.directories[id as usize - 1],
            incarnation,
        };
        let echo = Arc::new(Echo(BrokerId(id), std::sync::OnceLock::new()));
        let options = self.options(id, &identity, &host, echo.clone());
        let starting = async {
            let quorum = Quorum::start(options).await?;
            let server = PeerServer::new(identity, quorum.routes());
            let place = self.place(id);
            let mut listener = loop {
                // A killed node's sockets may close a moment later.
                match host.network.listen(&place.host, place.port).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
            let tasks = host.control.clone();
            tokio::spawn(async move {
                while let Ok(stream) = listener.accept().await {
                    let (server, serving) = (server.clone(), tasks.clone());
                    tasks.spawn(async move { server.serve(stream, &serving).await });
                }
            });
            Ok::<_, QuorumError>(quorum)
        };
        let quorum = runtime.block_on(starting)?;
        echo.1.set(quorum.clone()).ok().unwrap();
        self.nodes[id as usize - 1] = Some(Node {
            id,
            quorum,
            runtime: Some(runtime),
            incarnation,
        });
        Ok(())
    }

    fn options(
        &self,
        id: i32,
        identity: &Identity,
        host: &Host,
        forward: Arc<dyn ForwardHandler>,
    ) -> QuorumOptions {
        let is_controller = id <= self.voters as i32;
        let by_servers = self.knowing == Knowing::BootstrapServers;
        let formatted = |id: i32| self.formatted[id as usize - 1];
        let voters = (1..=self.voters as i32).map(|id| Voter {
            id: BrokerId(id),
            place: self.place(id),
            directory: by_servers.then(|| formatted(id)),
        });
        // Formatted anew, it knows nothing of the initial controllers.
        let knows_voters = !by_servers || (is_controller && formatted(id) == identity.directory);
        QuorumOptions {
            voters: voters.filter(|_| knows_voters).collect(),
            bootstrap_servers: (1..=self.voters as i32)
                .filter(|_| by_servers)
                .map(|id| self.place(id))
                .collect(),
            is_controller,
            place: self.place(id),
            metadata_dir: self.folder(id),
            host: host.clone(),
            channels: Channels::new(identity.clone(), host.clone()),
            timing: self.timing.clone(),
            session_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            balance: None,
            bootstrap: Bootstrap {
                features: vec![("metadata.version".into(), 30)],
                settings: vec![],
            },
            registration: None,
            forward,
        }
    }

    /// As kill -9: sockets close, nothing is said.
    pub fn kill(&mut self, id: i32) {
        let mut node = self.nodes[id as usize - 1].take().unwrap();
        node.runtime.take().unwrap().shutdown_background();
    }

    /// As SIGSTOP, until what is returned is dropped.
    pub fn freeze(&self, id: i32) -> Frozen {
        let (sender, thaw) = std::sync::mpsc::channel();
        let (frozen, is_frozen) = std::sync::mpsc::channel();
        // It has but one worker.
        self.node(id).runtime.as_ref().unwrap().spawn(async move {
            frozen.send(()).unwrap();
            let _ = thaw.recv();
        });
        is_frozen.recv().unwrap();
        Frozen { _thaw: sender }
    }

    /// Creates a topic of one partition; the first of these brokers leads it.
    pub fn create_topic(&self, controller: i32, name: &str, replicas: &[i32]) {
        let topic = decide::NewTopic {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            assignments: vec![(0, replicas.iter().copied().map(BrokerId).collect())],
            configs: Vec::new(),
        };
        let defaults = decide::TopicDefaults {
            partitions: 1,
            replication_factor: 1,
        };
        let quorum = self.quorum(controller).clone();
        let creating = async move {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
            let decide = move |image: &Image, _: &mut _, _| {
                let mut seed = u64::from(crc32c::crc32c(topic.name.as_bytes()));
                let mut random = || {
                    seed += 1;
                    seed
                };
                let topics = std::slice::from_ref(&topic);
                decide::create_topics(
                    image,
                    &decide::AnyConfig,
                    topics,
                    defaults,
                    false,
                    &mut random,
                )
            };
            quorum.decide(deadline, decide).await
        };
        // It may exist, from an attempt whose confirmation was lost.
        let _ = self.on(controller, creating);
        until("the topic", || self.leader_of(controller, name));
    }

    /// Who leads a topic's first partition, as a node knows it.
    pub fn leader_of(&self, seen_by: i32, topic: &str) -> Option<i32> {
        let image = self.quorum(seen_by).image();
        let topic = image.topic_named(topic)?.id;
        let partition = image.partition(PartitionId { topic, index: 0 })?;
        partition.leader.map(BrokerId::get)
    }

    /// Empties a stopped node's disk; what is formatted anew has another directory id.
    pub fn wipe(&mut self, id: i32) {
        self.folders[id as usize - 1] = tempfile::tempdir().unwrap();
        self.directories[id as usize - 1].0.0[0] += 100;
    }

    pub fn node(&self, id: i32) -> &Node {
        self.nodes[id as usize - 1].as_ref().unwrap()
    }

    pub fn quorum_if_running(&self, id: i32) -> Option<&Quorum> {
        let node = self.nodes[id as usize - 1].as_ref();
        node.map(|node| &node.quorum)
    }

    /// Every file of the quorum on the disks, with its length and when it was last written.
    pub fn contents_of_disks(&self) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
        let folders = (1..=self.nodes.len() as i32).map(|id| self.folder(id));
        let files = folders.flat_map(|folder| {
            let quorums = folder.join("__millrace_metadata");
            std::fs::read_dir(quorums).unwrap().map(|file| {
                let file = file.unwrap();
                let metadata = file.metadata().unwrap();
                (file.path(), metadata.len(), metadata.modified().unwrap())
            })
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    }

    pub fn quorum(&self, id: i32) -> &Quorum {
        &self.node(id).quorum
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// The active controller, once there is exactly one that the others of `among` follow.
    pub fn wait_for_controller(&self) -> i32 {
        until("a controller", || {
            let mut active = self.running().filter(|node| node.quorum.is_active());
            let id = active.next()?.id;
            let agreed = self
                .running()
                .all(|node| node.quorum.leader() == Some(BrokerId(id)));
            (active.next().is_none() && agreed).then_some(id)
        })
    }

    /// A node that is not this one and runs.
    pub fn another(&self, not: i32) -> i32 {
        self.running()
            .map(|node| node.id)
            .find(|id| *id != not)
            .unwrap()
    }

    pub fn on<T: Send + 'static>(
        &self,
        id: i32,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let runtime = self.node(id).runtime.as_ref().unwrap();
        let limited = async { tokio::time::timeout(PATIENCE, work).await };
        runtime.block_on(limited).expect("it takes too long")
    }

    pub fn set(&self, id: i32, name: &str, value: &str) -> Result<ImageVersion, DecideError> {
        let (quorum, name, value) = (self.quorum(id).clone(), name.to_owned(), value.to_owned());
        self.on(id, async move { set(&quorum, &name, &value).await })
    }

    /// Sets it on whichever node is the controller, until it is confirmed.
    pub fn confirm(&self, name: &str, value: &str) {
        until("a confirmation", || {
            let controller = self.wait_for_controller();
            self.set(controller, name, value).ok()
        });
    }

    pub fn get(&self, id: i32, name: &str) -> Option<String> {
        let image = self.quorum(id).image();
        image.config(&Resource::cluster(), name).map(str::to_owned)
    }

    /// Waits until every running node's image holds this setting.
    pub fn wait_for_setting(&self, name: &str, value: &str) {
        for node in self.running() {
            until(&format!("{name} on node {}", node.id), || {
                (self.get(node.id, name).as_deref() == Some(value)).then_some(())
            });
        }
    }

    pub fn register(&self, id: i32) -> BrokerSession {
        let node = self.node(id);
        let registration = Registration {
            id: BrokerId(id),
            cluster_id: CLUSTER.into(),
            incarnation: node.incarnation,
            listeners: Vec::new(),
            rack: None,
            features: millrace_metadata::SUPPORTED_FEATURES
                .iter()
                .map(|(name, min, max)| millrace_metadata::FeatureRange {
                    name: (*name).to_owned(),
                    min: *min,
                    max: *max,
                })
                .collect(),
            directories: vec![DirectoryId(Uuid([id as u8; 16]))],
            has_offline_directories: false,
            clean_shutdown_epoch: None,
        };
        node.quorum.start_session(registration)
    }

    /// Whether `of` is fenced, as node `seen_by` knows it.
    pub fn is_fenced(&self, seen_by: i32, of: i32) -> Option<bool> {
        self.quorum(seen_by)
            .image()
            .broker(BrokerId(of))
            .map(|broker| broker.fenced)
    }

    /// Waits until every running node's image holds the registration of this session, unfenced.
    pub fn wait_for_serving(&self, id: i32, session: &BrokerSession) {
        for node in self.running() {
            until(
                &format!("broker {id} to serve, seen by {}", node.id),
                || {
                    let image = node.quorum.image();
                    let broker = image.broker(BrokerId(id))?;
                    (Some(broker.epoch) == session.epoch() && !broker.fenced).then_some(())
                },
            );
        }
    }

    pub fn wait_for_fenced(&self, seen_by: i32, of: i32, fenced: bool) {
        until(&format!("broker {of} fenced: {fenced}"), || {
            (self.is_fenced(seen_by, of) == Some(fenced)).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(runtime) = node.as_mut().and_then(|node| node.runtime.take()) {
                runtime.shutdown_background();
            }
        }
    }
}

/// Looks again and again until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Measures a takeover, and how much the machine kept this very process from running meanwhile.
pub struct Stopwatch {
    begun: Instant,
    lost: Arc<std::sync::Mutex<Duration>>,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        const STEP: Duration = Duration::from_millis(2);
        let lost = Arc::new(std::sync::Mutex::new(Duration::ZERO));
        let counted = Arc::downgrade(&lost);
        std::thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(lost) = counted.upgrade() {
                std::thread::sleep(STEP);
                *lost.lock().unwrap() += last.elapsed().saturating_sub(2 * STEP);
                last = Instant::now();
            }
        });
        Stopwatch {
            begun: Instant::now(),
            lost,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Prints what took how long; fails if that was too long for the time this process could run.
    pub fn check(&self, what: &str, took: Duration, limit: Duration) {
        let lost = *self.lost.lock().unwrap();
        println!("{what}: {took:?} (the machine was busy for {lost:?})");
        assert!(took < limit + 20 * lost, "{what} took {took:?}");
    }
}

/// Prints what the nodes say where `RUST_LOG` asks for it.
pub fn trace() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}
