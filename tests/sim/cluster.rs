//! The simulated cluster: brokers and clients on machines of their own, one network, one clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_host::Host;
use millrace_host::network::sim::{Path, SimNetwork};
use millrace_metadata::{Image, Partition, Topic};
use millrace_server::node::Node;
use millrace_server::{Broker, Config};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use crate::invariants::durable_survives;
use crate::machine::{Machine, SharedClock, TICK};
use crate::rot::{Batch, Rot};
use crate::trace::event;
use crate::workload::TOPICS;
use crate::{faults, seal, trace, workload};

/// The cluster's identity; Kafka's form of it is 22 characters of base64.
const CLUSTER_ID: &str = "c2ltdWxhdGVkLWNsdXN0cg";

/// The internal topic in which groups keep their offsets.
const GROUP_OFFSETS: &str = "__consumer_offsets";

/// The machine of clients that is far away in some runs, and how far.
const FAR: &str = "client-2";
const FAR_DELAY: Duration = Duration::from_millis(5);

/// Between two looks whether what a disk changed is mended.
const LOOK_FOR_ROT: Duration = Duration::from_millis(100);

/// The port for clients on every broker.
pub const CLIENT_PORT: u16 = 9092;

/// What became of a broker's process.
pub enum Status {
    /// There is none.
    Down,
    /// It opens its directories.
    Starting,
    /// It runs; this is what its request handlers share.
    Running(Arc<Node>),
    /// It ended by itself, for this reason.
    Ended(String),
}

type SharedStatus = Arc<Mutex<Status>>;

fn set(shared: &SharedStatus, status: Status) {
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = status;
}

/// A broker and its machine.
pub struct BrokerMachine {
    /// Its number.
    pub id: i32,
    /// Where it runs.
    pub machine: Machine,
    /// When it is to be started again, if it is not running.
    pub restart_at: Option<Duration>,
    status: SharedStatus,
    stop: Option<oneshot::Sender<()>>,
    /// Crashes of the disk that the simulation knows of.
    known_crashes: u64,
}

/// How many machines there are.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Brokers; all are controllers too, up to three.
    pub brokers: usize,
    /// Machines for clients.
    pub clients: usize,
}

/// Everything that is simulated.
pub struct Cluster {
    /// The brokers, by number from 1.
    pub brokers: Vec<BrokerMachine>,
    /// Where clients run.
    pub clients: Vec<Machine>,
    /// Between all of them.
    pub network: SimNetwork,
    /// Chance for whoever breaks things.
    pub rng: StdRng,
    /// Since the beginning.
    pub now: Duration,
    clock: SharedClock,
    turn: usize,
    /// Faults that cut a way at this moment.
    cuts: BTreeMap<(String, String), usize>,
    /// A broker that may have lost its disk and has not got everything again.
    damaged: Option<i32>,
    /// Whether disks change what they hold, so that brokers look for that all the time.
    bits_flip: bool,
    /// What a disk changed last, until it is mended.
    pub rot: Option<Rot>,
    /// When somebody looked for that.
    looked_for_rot: Duration,
    /// A broker that must not start with the metadata it has.
    must_refuse: Option<i32>,
    /// Whether a machine of clients is far away, so that much is under way to the brokers.
    far: bool,
    /// Broken promises that were found on the way.
    pub findings: Vec<String>,
}

/// The name of a broker's machine.
pub fn broker_name(id: i32) -> String {
    format!("broker-{id}")
}

impl Cluster {
    /// Machines on which nothing runs yet.
    pub fn new(seed: u64, size: Size) -> Cluster {
        let mut rng = StdRng::seed_from_u64(seed);
        let network = SimNetwork::new(rng.random());
        let clock = SharedClock::default();
        let brokers = (1..=i32::try_from(size.brokers).unwrap_or(i32::MAX))
            .map(|id| BrokerMachine {
                id,
                machine: Machine::new(&broker_name(id), rng.random(), &network, &clock),
                restart_at: None,
                status: Arc::new(Mutex::new(Status::Down)),
                stop: None,
                known_crashes: 0,
            })
            .collect();
        let clients = (1..=size.clients)
            .map(|n| Machine::new(&format!("client-{n}"), rng.random(), &network, &clock))
            .collect();
        let mut cluster = Cluster {
            brokers,
            clients,
            network,
            rng,
            now: Duration::ZERO,
            clock,
            turn: 0,
            cuts: BTreeMap::new(),
            damaged: None,
            bits_flip: faults::bits_flip(seed),
            rot: None,
            must_refuse: None,
            looked_for_rot: Duration::ZERO,
            far: workload::pipelines(seed),
            findings: Vec::new(),
        };
        cluster.mend_paths();
        cluster
    }

    /// The way from one machine to another while nothing is wrong with it.
    pub fn usual_path(&self, from: &str, to: &str) -> Path {
        let usual = Path::default();
        match self.far && [from, to].contains(&FAR) {
            true => Path {
                delay: FAR_DELAY,
                jitter: FAR_DELAY,
                ..usual
            },
            false => usual,
        }
    }

    fn mend_paths(&mut self) {
        self.cuts.clear();
        let names = self.names();
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                self.network.set_path(from, to, self.usual_path(from, to));
            }
        }
    }

    /// The names of all machines, brokers first.
    pub fn names(&self) -> Vec<&str> {
        let brokers = self.brokers.iter().map(|broker| &broker.machine);
        let machines = brokers.chain(&self.clients);
        machines.map(|machine| machine.name.as_str()).collect()
    }

    /// Cuts the way between two machines, or takes one cut back: it is open when all are.
    pub fn cut(&mut self, from: &str, to: &str, both: bool, cut: bool) {
        let ways = [(from, to), (to, from)];
        for (from, to) in &ways[..if both { 2 } else { 1 }] {
            let key = ((*from).to_owned(), (*to).to_owned());
            let count = self.cuts.entry(key).or_default();
            *count = if cut {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            let mut path = self.network.path(from, to);
            path.cut = *count > 0;
            self.network.set_path(from, to, path);
        }
    }

    /// A machine loses its power; what it had called durable must still be there.
    pub fn power_off(&mut self, id: i32) {
        let expected = self
            .broker(id)
            .node()
            .map(|node| durable_survives::expect(&node));
        let broker = self.broker(id);
        broker.forget();
        broker.machine.power_off();
        broker.known_crashes = broker.machine.disk.crashes();
        if self.damaged != Some(id) {
            let disk = self.broker(id).machine.disk.mount();
            let lost = durable_survives::lost(&*disk, &expected.unwrap_or_default());
            let lost = lost.into_iter().map(|what| format!("broker {id}: {what}"));
            self.findings.extend(lost.collect::<Vec<_>>());
        }
    }

    /// A broker whose disk may be lost: there is one only while all others have everything.
    pub fn may_lose_a_disk(&mut self, rng: &mut StdRng) -> Option<i32> {
        if !self.is_whole() || !self.is_mended() {
            return None;
        }
        if let Some(before) = self.damaged.take() {
            // Failures that have not come yet would hit a second disk.
            self.broker(before).machine.disk.heal();
        }
        Some(self.brokers[rng.random_range(0..self.brokers.len())].id)
    }

    /// The disk of this broker may not have everything any more.
    pub fn damaged(&mut self, id: i32) {
        self.damaged = Some(id);
    }

    /// A disk changes a byte of this batch by itself, so far behind its beginning.
    pub fn flip(&mut self, id: i32, batch: Batch, at: u64) -> Option<()> {
        let disk = &self.broker(id).machine.disk;
        disk.rot(&batch.path, batch.at + at).ok()?;
        self.rot = Some(Rot::of(id, batch));
        self.damaged = Some(id);
        Some(())
    }

    /// A disk changes a byte of the metadata log by itself, while nothing runs there.
    pub fn rot_metadata(&mut self, id: i32, file: &std::path::Path, at: u64) -> Option<()> {
        self.broker(id).machine.disk.rot(file, at).ok()?;
        self.must_refuse = Some(id);
        self.damaged = Some(id);
        Some(())
    }

    /// Whether nothing is left of what a disk changed by itself.
    pub fn is_mended(&mut self) -> bool {
        let Some(rot) = &self.rot else {
            return true;
        };
        if self.now < self.looked_for_rot + LOOK_FOR_ROT {
            return false;
        }
        self.looked_for_rot = self.now;
        let broker = self.brokers.iter().find(|it| it.id == rot.broker);
        let is_mended = broker.is_some_and(|it| rot.is_mended(&it.machine.disk));
        if is_mended {
            event!("what rotted on broker {} is mended", rot.broker);
            self.rot = None;
        }
        is_mended
    }

    /// Whether what this broker has on its disk counts for nothing at the moment.
    pub fn is_damaged(&self, id: i32) -> bool {
        self.damaged == Some(id)
    }

    /// A broker's machine gets an empty disk.
    pub fn wipe(&mut self, id: i32) {
        let seed = self.rng.random();
        let broker = self.broker(id);
        broker.forget();
        broker.machine.power_off();
        broker.machine.replace_disk(seed);
        broker.known_crashes = 0;
        self.damaged = Some(id);
        self.must_refuse = self.must_refuse.filter(|refusing| *refusing != id);
    }

    /// Everything is mended, and whoever is down is started.
    pub fn mend(&mut self) {
        self.mend_paths();
        let now = self.now;
        for broker in &mut self.brokers {
            let machine = &mut broker.machine;
            machine.paused = false;
            machine.drift_ppm = 0;
            machine.reset_disk_latency();
            machine.disk.crash_after(u64::MAX);
            machine.disk.heal();
            machine.disk.set_capacity(u64::MAX);
            if !machine.runs() {
                broker.restart_at = Some(now);
            }
        }
    }

    /// Whether all that is committed is, by the metadata, also on another broker than this one.
    fn others_have_everything(&self, id: i32) -> bool {
        self.newest_image().is_some_and(|image| {
            every_partition(&image, |partition| {
                let mut holders = partition.isr.iter().chain(&partition.elr);
                holders.any(|holder| holder.get() != id)
            })
        })
    }

    /// Whether every broker is there and every replica of what the workload uses in sync.
    pub fn is_whole(&self) -> bool {
        let nodes = self.nodes();
        let Some(image) = self.newest_image() else {
            return false;
        };
        let registered = |(id, node): &(i32, Arc<Node>)| {
            let broker = image.broker(millrace_model::BrokerId(*id));
            broker
                .is_some_and(|broker| broker.is_active() && broker.incarnation == node.incarnation)
        };
        nodes.len() == self.brokers.len()
            && nodes.iter().all(registered)
            && every_partition(&image, |partition| {
                partition.leader.is_some() && partition.isr.len() == partition.replicas.len()
            })
    }

    /// `host:port` of every broker.
    pub fn bootstrap(&self) -> String {
        let addresses = self
            .brokers
            .iter()
            .map(|broker| format!("{}:{CLIENT_PORT}", broker.machine.name));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The broker of this number.
    pub fn broker(&mut self, id: i32) -> &mut BrokerMachine {
        let place = usize::try_from(id - 1).expect("brokers are numbered from 1");
        &mut self.brokers[place]
    }

    /// Starts a broker's process.
    pub fn start(&mut self, id: i32) {
        let config = self.config(id);
        event!("broker {id} starts");
        let broker = self.broker(id);
        let (stop, stopped) = oneshot::channel();
        let status = broker.status.clone();
        set(&status, Status::Starting);
        broker.stop = Some(stop);
        broker.restart_at = None;
        broker
            .machine
            .start(|host| process(config, host, status, stopped));
    }

    fn config(&self, id: i32) -> Config {
        let voters = self.brokers.iter().take(3);
        let voters = voters.map(|broker| format!("{}@{}:9093", broker.id, broker.machine.name));
        let voters = voters.collect::<Vec<_>>().join(",");
        let replication = self.brokers.len().min(3);
        let in_sync = replication.div_ceil(2);
        let name = broker_name(id);
        let (roles, listeners) = match id <= 3 {
            true => (
                "broker,controller",
                format!("PLAINTEXT://{name}:{CLIENT_PORT},CONTROLLER://{name}:9093"),
            ),
            false => ("broker", format!("PLAINTEXT://{name}:{CLIENT_PORT}")),
        };
        let scrub = match self.bits_flip {
            true => "millrace.scrub.interval.ms=1000\nlog.initial.task.delay.ms=500\n",
            false => "",
        };
        let text = format!(
            "{scrub}process.roles={roles}\nnode.id={id}\nlisteners={listeners}\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.voters={voters}\n\
             log.dirs=/data\ndefault.replication.factor={replication}\n\
             min.insync.replicas={in_sync}\nauto.create.topics.enable=false\n\
             leader.imbalance.check.interval.seconds=5\n\
             offsets.topic.num.partitions=3\noffsets.topic.segment.bytes=1048576\n\
             group.initial.rebalance.delay.ms=200\ngroup.min.session.timeout.ms=500\n\
             group.consumer.min.session.timeout.ms=500\n\
             group.consumer.session.timeout.ms=3500\n\
             group.consumer.min.heartbeat.interval.ms=50\n\
             group.consumer.heartbeat.interval.ms=300\n"
        );
        let config = Config::parse(&text).expect("the simulation's own settings are valid");
        Config {
            cluster_id: Some(CLUSTER_ID.to_owned()),
            ..config
        }
    }

    /// One step of time: what is due arrives, then every process runs.
    pub fn tick(&mut self) {
        self.now += TICK;
        self.clock.set(self.now);
        seal::set_now(self.now);
        trace::set_now(self.now);
        self.network.advance(self.now);
        let count = self.brokers.len() + self.clients.len();
        self.turn = (self.turn + 1) % count;
        for place in 0..count {
            let place = (place + self.turn) % count;
            match place.checked_sub(self.brokers.len()) {
                Some(client) => self.clients[client].step(),
                None => self.step_broker(place),
            }
        }
        self.restart_due();
    }

    fn step_broker(&mut self, place: usize) {
        let now = self.now;
        let broker = &mut self.brokers[place];
        broker.machine.step();
        if broker.machine.disk.crashes() != broker.known_crashes && broker.machine.runs() {
            event!(
                "broker {} lost its power in the middle of a write",
                broker.id
            );
            broker.forget();
            broker.machine.crashed();
            broker.known_crashes = broker.machine.disk.crashes();
            broker
                .restart_at
                .get_or_insert(now + Duration::from_secs(2));
        }
        let ended = match &*broker.status() {
            Status::Ended(why) => Some(why.clone()),
            Status::Running(_) if self.must_refuse == Some(broker.id) => {
                self.must_refuse = None;
                let what = format!("broker {} started with damaged metadata", broker.id);
                self.findings.push(what);
                None
            }
            _ => None,
        };
        if let Some(why) = ended {
            let id = broker.id;
            event!("broker {id} ended: {why}");
            broker.kill();
            broker
                .restart_at
                .get_or_insert(now + Duration::from_millis(500));
            // What an operator does about a broker that its disk has failed under.
            let lost_disk = self.damaged == Some(id) && self.rot.is_none();
            if lost_disk && why != TOLD && self.others_have_everything(id) {
                event!("broker {id} gets a new disk");
                self.wipe(id);
            }
        }
    }

    fn restart_due(&mut self) {
        let now = self.now;
        let due = self
            .brokers
            .iter()
            .filter(|broker| broker.restart_at.is_some_and(|at| at <= now));
        for id in due.map(|broker| broker.id).collect::<Vec<_>>() {
            self.broker(id).machine.power_on();
            self.start(id);
        }
    }

    /// The nodes that run, by broker number.
    pub fn nodes(&self) -> Vec<(i32, Arc<Node>)> {
        let nodes = self
            .brokers
            .iter()
            .filter_map(|broker| Some((broker.id, broker.node()?)));
        nodes.collect()
    }

    /// The newest image that any running node has.
    pub fn newest_image(&self) -> Option<Arc<Image>> {
        let images = self.nodes().into_iter().map(|(_, node)| node.image());
        images.max_by_key(|image| image.version())
    }
}

/// Whether the topics of the workload are there and this holds for each of their partitions, and
/// for those of the topic that groups keep their offsets in, once there is one.
fn every_partition(image: &Image, holds: impl Fn(&Partition) -> bool) -> bool {
    let hold = |topic: &Arc<Topic>| {
        let mut partitions = image.partitions_of(topic.id);
        partitions.all(|(_, partition)| holds(partition))
    };
    let mut topics = TOPICS.iter();
    topics.all(|topic| image.topic_named(topic.name).is_some_and(hold))
        && image.topic_named(GROUP_OFFSETS).is_none_or(hold)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What the processes share goes before the runtimes it belongs to.
        for broker in &mut self.brokers {
            broker.kill();
        }
        for client in &mut self.clients {
            client.kill();
        }
    }
}

impl BrokerMachine {
    fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its request handlers share, while it runs.
    pub fn node(&self) -> Option<Arc<Node>> {
        match &*self.status() {
            Status::Running(node) => Some(node.clone()),
            _ => None,
        }
    }

    /// Whether a process runs, stopped or not.
    pub fn is_up(&self) -> bool {
        self.machine.runs()
    }

    fn forget(&mut self) {
        set(&self.status, Status::Down);
        self.stop = None;
    }

    /// Kills the process: its kernel closes its connections.
    pub fn kill(&mut self) {
        self.forget();
        self.machine.kill();
        self.known_crashes = self.machine.disk.crashes();
    }

    /// Asks the process to stop, as SIGTERM does.
    pub fn terminate(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A process that is ending already needs no telling.
            let _ = stop.send(());
        }
    }
}

/// Why a broker ended that was told to.
const TOLD: &str = "it was told to stop";

/// What a broker's process does from its start to its end.
async fn process(config: Config, host: Host, status: SharedStatus, stopped: oneshot::Receiver<()>) {
    let broker = match Broker::start(config, host).await {
        Ok(broker) => broker,
        Err(error) => return set(&status, Status::Ended(error.to_string())),
    };
    set(&status, Status::Running(broker.node().clone()));
    let why = tokio::select! {
        biased;
        error = broker.wait() => error.to_string(),
        told = stopped => match told {
            Ok(()) => {
                broker.stop().await;
                TOLD.to_owned()
            }
            // Killed: this is never reached.
            Err(_) => return,
        },
    };
    set(&status, Status::Ended(why));
}
