//! Brokers that are played: they keep logs in memory, check sequences as Kafka does, and fail when
//! told to.

mod broker;
mod log;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use millrace_client::Cluster;
use millrace_host::disk::RealDisk;
use millrace_host::network::{BoxListener, BoxStream, Network};
use millrace_host::{Clock, Host, Random, Tasks};
use millrace_model::ErrorCode;

pub use log::{Log, values};

pub const TOPIC: &str = "t";
/// Broker 1 has this port, broker 2 the next, and so on.
pub const FIRST_PORT: u16 = 9001;
const BROKERS: i32 = 3;

/// What may go wrong with a Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the request is looked at.
    BreakBefore,
    /// It is done, and the connection breaks before the answer.
    BreakAfter,
    /// Refused with this code.
    Refuse(ErrorCode),
    /// Done, and answered with this code.
    DoAndRefuse(ErrorCode),
    /// Done after so long.
    Slow(Duration),
    /// The leader of every partition changes.
    MoveLeaders,
}

/// A cluster that is played; clones share it.
#[derive(Clone)]
pub struct FakeCluster(Arc<Shared>);

pub struct Shared {
    state: Mutex<State>,
    pub appended: tokio::sync::Notify,
}

pub struct State {
    /// The leader of each partition.
    pub leaders: Vec<i32>,
    /// A broker that takes itself for the leader of everything, when it is asked.
    pub cut_off: Option<i32>,
    /// One log for each partition, which all brokers share.
    pub logs: Vec<Log>,
    /// Asked for each Produce request.
    pub fault: Box<dyn FnMut() -> Option<Fault> + Send>,
    /// How long every Produce request takes.
    pub latency: Duration,
    /// The most Produce requests that waited on one connection at once.
    pub most_waiting: usize,
    /// Produce requests seen.
    pub requests: usize,
    /// Connections opened to each port.
    pub connections: BTreeMap<u16, usize>,
    /// The error of the topic in Metadata.
    pub topic_error: ErrorCode,
}

impl FakeCluster {
    /// Three brokers and one topic with so many partitions.
    pub fn new(partitions: usize) -> FakeCluster {
        let leader = |index: usize| index as i32 % BROKERS + 1;
        let state = State {
            leaders: (0..partitions).map(leader).collect(),
            cut_off: None,
            logs: vec![Log::default(); partitions],
            fault: Box::new(|| None),
            latency: Duration::from_millis(1),
            most_waiting: 0,
            requests: 0,
            connections: BTreeMap::new(),
            topic_error: ErrorCode::None,
        };
        FakeCluster(Arc::new(Shared {
            state: Mutex::new(state),
            appended: tokio::sync::Notify::new(),
        }))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Faults drawn from a seed: about one request in `one_in` meets one.
    pub fn fail_at_random(&self, seed: u64, one_in: u64) {
        let random = Random::from_seed(seed);
        self.state().fault = Box::new(move || {
            if random.range(0..one_in) != 0 {
                return None;
            }
            let codes = [
                ErrorCode::NotLeaderOrFollower,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::LeaderNotAvailable,
            ];
            let late_codes = [
                ErrorCode::NotEnoughReplicasAfterAppend,
                ErrorCode::RequestTimedOut,
            ];
            Some(match random.range(0..7) {
                0 => Fault::BreakBefore,
                1 => Fault::BreakAfter,
                2 => Fault::Refuse(codes[random.range(0..3) as usize]),
                3 => Fault::DoAndRefuse(late_codes[random.range(0..2) as usize]),
                4 => Fault::Slow(Duration::from_millis(random.range(1..100))),
                5 => Fault::Slow(Duration::from_secs(2)),
                _ => Fault::MoveLeaders,
            })
        });
    }

    /// A client of this cluster, on the current runtime.
    pub fn client(&self) -> Cluster {
        let tasks = Tasks::simulated(Duration::from_millis(1));
        let host = Host {
            disk: Arc::new(RealDisk),
            network: Arc::new(self.clone()),
            clock: Clock::real(),
            random: Random::from_seed(1),
            tasks: tasks.clone(),
            control: tasks,
            fatal: Arc::new(|why| panic!("{why}")),
        };
        let bootstrap = format!("fake:{FIRST_PORT}");
        Cluster::new(&host, &bootstrap, "test", Duration::from_secs(5)).unwrap()
    }

    /// The values in each partition's log, in order.
    pub fn written(&self) -> Vec<Vec<String>> {
        self.state()
            .logs
            .iter()
            .map(|log| values(&log.batches))
            .collect()
    }
}

impl State {
    /// Moves every partition to the next broker.
    pub fn move_leaders(&mut self) {
        for leader in &mut self.leaders {
            *leader = *leader % BROKERS + 1;
        }
    }
}

impl Network for FakeCluster {
    fn listen<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            *self.state().connections.entry(port).or_default() += 1;
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let id = i32::from(port - FIRST_PORT) + 1;
            broker::serve(self.clone(), id, theirs);
            Ok(stream::boxed(ours))
        })
    }
}
