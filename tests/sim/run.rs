//! One run: from a seed to a verdict.
//!
//! A cluster forms, clients load it, faults come and go; then the faults end, and within a bounded
//! time everything must be whole again; then the load ends, everything is read back, and what was
//! seen is judged.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millrace_metadata::Image;
use millrace_model::{BrokerId, Offset, PartitionId};
use millrace_replication::ReplicaState;
use tokio::sync::watch;

use crate::book::SharedBook;
use crate::cluster::{Cluster, Size, broker_name};
use crate::faults::{Weather, bits_flip};
use crate::invariants::{self, Invariant, View};
use crate::trace::event;
use crate::workload::{self, Client, GROUPS, Stage, TOPICS};
use crate::{cases, planted, rot, seal, trace};

/// What a run is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything else follows from it.
    pub seed: u64,
    /// Whether every event goes to standard error.
    pub aloud: bool,
    /// Faults from this number on are left out.
    pub most_faults: Option<usize>,
    /// The name of a bug to plant.
    pub planted: Option<String>,
    /// Nothing goes wrong but this.
    pub alone: Option<Alone>,
}

/// What goes wrong for a while where nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// The controller hears nobody.
    DeafController,
    /// One disk takes the better part of a second for everything.
    SlowDisk,
}

/// What a sound run tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Stands for everything that happened.
    pub digest: u64,
    /// How long it was, as those in it saw it.
    pub simulated: Duration,
    /// Records that were acknowledged.
    pub acked: u64,
    /// Faults that struck.
    pub faults: usize,
    /// Segments that arrived.
    pub segments: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "digest {:016x}, {:.1} s simulated, {} faults, {} records acknowledged, {} segments",
            self.digest,
            self.simulated.as_secs_f64(),
            self.faults,
            self.acked,
            self.segments
        )
    }
}

/// How long a cluster may take to form and to have its topics.
const FORMATION: Duration = Duration::from_secs(20);
/// How long it is under load and faults; an unoptimized build shows only that it can.
const TROUBLE: Duration = Duration::from_secs(if cases::OPTIMIZED { 20 } else { 3 });
/// How long everything may take to be whole again when the faults are over, load going on.
const HEALING: Duration = Duration::from_secs(40);
/// How long the others may take to do without a broker that hears nobody.
const FAILOVER: Duration = Duration::from_secs(2);
/// What a slow disk takes at least.
const SLOW_DISK: Duration = Duration::from_millis(700);
/// How long others may wait for a slow disk.
const DISK_FAILOVER: Duration = Duration::from_secs(6);
/// How long acknowledgements that are under way may take when nothing is wrong.
const DRAIN: Duration = Duration::from_millis(1500);
/// How long what was sent before that may take to arrive: a producer gives up, a kernel does not.
const ARRIVING: Duration = Duration::from_secs(30);
/// How long replicas may take to be alike when nothing is written.
const SETTLING: Duration = Duration::from_secs(10);
/// How long groups may take to read what is left.
const CATCHING_UP: Duration = Duration::from_secs(30);
/// How long it may take to read everything back.
const READING: Duration = Duration::from_secs(30);
/// Between two looks of the invariants.
const LOOK: Duration = Duration::from_millis(10);

/// A run under way.
struct Run {
    cluster: Cluster,
    book: SharedBook,
    stage: watch::Sender<Stage>,
    invariants: Vec<(&'static str, Box<dyn Invariant>)>,
    looked: Duration,
}

/// Whether this broker leads nothing that another one could lead, and is in no ISR where two others
/// are.
fn waits_for_nobody(image: &Image, id: BrokerId) -> bool {
    let mut hosted = image.hosted_by(id);
    hosted.all(|(_, partition)| {
        let others = partition.isr.iter().filter(|member| **member != id).count();
        let leads = partition.leader == Some(id);
        let is_in_sync = partition.isr.contains(&id);
        (others == 0 || !leads) && (others < 2 || !is_in_sync)
    })
}

/// Runs it on this thread, which must be a fresh one.
///
/// # Errors
/// The invariant that did not hold.
pub fn run(plan: &Plan) -> Result<Figures, String> {
    seal::seal(plan.seed);
    trace::begin(plan.aloud);
    if let Some(name) = &plan.planted {
        planted::plant(name)?;
    }
    let size = Size {
        brokers: 3,
        clients: 2,
    };
    let mut run = Run {
        cluster: Cluster::new(plan.seed, size),
        book: SharedBook::default(),
        stage: watch::Sender::new(Stage::Load),
        invariants: invariants::all(),
        looked: Duration::ZERO,
    };
    let most_faults = match plan.alone {
        Some(_) => 0,
        None => plan.most_faults.unwrap_or(usize::MAX),
    };
    let mut weather = Weather::new(plan.seed, most_faults);
    {
        let mut book = run.book.open();
        book.loses_disks = weather.loses_disks();
        book.bits_flip = bits_flip(plan.seed);
        book.pipelines = workload::pipelines(plan.seed);
    }
    run.form()?;
    run.load();
    if let Some(alone) = plan.alone {
        run.suffer(alone, plan.seed)?;
    }
    let end = run.cluster.now + TROUBLE;
    while run.cluster.now < end {
        weather.blow(&mut run.cluster);
        run.step()?;
    }
    weather.clear(&mut run.cluster);
    run.until("everything to be whole", HEALING, |run| {
        run.cluster.is_whole() && run.cluster.is_mended()
    })?;
    event!("everything is whole again");
    run.progress(HEALING)?;
    run.reach(Stage::Drain);
    let end = run.cluster.now + DRAIN;
    while run.cluster.now < end {
        run.step()?;
    }
    // What a kernel still holds would be written when everything has been read back.
    run.until("what was sent to arrive", ARRIVING, |run| {
        run.book.open().under_way == 0 && !run.cluster.network.is_stuck()
    })?;
    run.until("replicas to be alike", SETTLING, |run| run.is_settled())?;
    run.until("groups to have read everything", CATCHING_UP, |run| {
        run.unread().is_empty()
    })?;
    run.reach(Stage::ReadBack);
    let all = TOPICS.iter().map(|topic| topic.partitions).sum::<i32>();
    run.until("everything to be read back", READING, |run| {
        run.book.open().finished.len() == usize::try_from(all).unwrap_or(0)
    })?;
    run.judge()?;
    trace::fold(run.cluster.network.digest());
    let acked = run.book.open().acked;
    Ok(Figures {
        digest: trace::digest(),
        simulated: run.cluster.now,
        acked,
        faults: weather.struck(),
        segments: run.cluster.network.delivered(),
    })
}

impl Run {
    /// Starts the brokers and makes the topics.
    fn form(&mut self) -> Result<(), String> {
        for place in 0..self.cluster.brokers.len() {
            let id = self.cluster.brokers[place].id;
            self.cluster.start(id);
        }
        let client = self.client();
        self.cluster.clients[0].start(|host| async move { client(host).prepare().await });
        self.until("the cluster to form", FORMATION, |run| {
            run.cluster.is_whole()
        })?;
        event!("the cluster is there");
        self.cluster.clients[0].kill();
        Ok(())
    }

    fn client(&self) -> impl FnOnce(millrace_host::Host) -> Client + Send + 'static {
        let (bootstrap, book) = (self.cluster.bootstrap(), self.book.clone());
        let stage = self.stage.subscribe();
        move |host| Client::new(host, bootstrap, book, stage)
    }

    fn load(&mut self) {
        for number in 0..self.cluster.clients.len() {
            let client = self.client();
            let machine = &mut self.cluster.clients[number];
            machine.start(|host| async move { client(host).work(number == 0).await });
        }
    }

    fn reach(&mut self, stage: Stage) {
        event!("{stage:?}");
        self.stage.send_replace(stage);
    }

    /// One step of time, and a look now and then.
    fn step(&mut self) -> Result<(), String> {
        self.cluster.tick();
        let panics = trace::take_panics();
        if !panics.is_empty() {
            return Err(panics.join("\n"));
        }
        if self.cluster.now < self.looked + LOOK {
            return Ok(());
        }
        self.looked = self.cluster.now;
        let mut findings = std::mem::take(&mut self.cluster.findings);
        findings.append(&mut self.book.open().findings);
        let view = View::of(&self.cluster);
        for (name, invariant) in &mut self.invariants {
            let found = invariant.watch(&view).into_iter();
            findings.extend(found.map(|what| format!("{name}: {what}")));
        }
        verdict(findings)
    }

    fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut reached: impl FnMut(&mut Run) -> bool,
    ) -> Result<(), String> {
        let end = self.cluster.now + limit;
        while !reached(self) {
            if self.cluster.now >= end {
                let state = self.describe();
                return Err(format!("waited {limit:?} for {what}\n{state}"));
            }
            let next = self.cluster.now + LOOK;
            while self.cluster.now < next {
                self.step()?;
            }
        }
        Ok(())
    }

    /// What groups have not read though it is committed.
    fn unread(&self) -> Vec<String> {
        let committed = self.committed();
        let Some(image) = self.cluster.newest_image() else {
            return vec!["nobody knows what there is".to_owned()];
        };
        let book = self.book.open();
        let mut unread = Vec::new();
        for group in GROUPS {
            let read = |index| {
                let consumed = book.groups.get(group.name)?.consumed.get(&index)?;
                i64::try_from(consumed.len()).ok()
            };
            let topic = image.topic_named(group.topic).map(|topic| topic.id);
            let of_topic = committed.iter().filter(|(id, _)| Some(id.topic) == topic);
            for (id, end) in of_topic {
                let read = read(id.index).unwrap_or(0);
                if read < end.get() {
                    let (name, index) = (group.name, id.index);
                    unread.push(format!("{name} has read {read} of {index} up to {end}"));
                }
            }
        }
        unread
    }

    /// What the brokers say does not reach the controller any more, and it is heard all the same.
    /// The others must not wait for the end of that, nor may clients, whom all brokers reach.
    fn deafen(&mut self) -> Result<(), String> {
        self.progress(HEALING)?;
        let leader = |run: &Run| run.cluster.nodes().first()?.1.quorum.leader();
        let deaf = leader(self).ok_or("nobody is the controller of a sound cluster")?;
        let own = broker_name(deaf.get());
        let names = self.cluster.names().into_iter();
        let others = names.filter(|name| name.starts_with("broker") && *name != own);
        let others: Vec<String> = others.map(str::to_owned).collect();
        for other in &others {
            self.cluster.cut(other, &own, false, true);
        }
        event!("{own} hears no other broker");
        self.until("a broker that hears nobody to be fenced", FAILOVER, |run| {
            let image = run.cluster.newest_image();
            image.is_some_and(|image| image.broker(deaf).is_some_and(|broker| broker.fenced))
        })?;
        self.progress(FAILOVER)?;
        // Whoever asks the deaf one must not be told that it is the only one.
        self.until("the deaf one to doubt its own word", FAILOVER, |run| {
            let mut nodes = run.cluster.nodes().into_iter();
            let node = nodes.find(|(id, _)| *id == deaf.get());
            node.is_some_and(|(_, node)| node.silent_brokers().is_empty())
        })?;
        for other in &others {
            self.cluster.cut(other, &own, false, false);
        }
        self.progress(HEALING)
    }

    fn suffer(&mut self, alone: Alone, seed: u64) -> Result<(), String> {
        match alone {
            Alone::DeafController => self.deafen(),
            Alone::SlowDisk => self.slow_down(seed),
        }
    }

    /// A disk becomes so slow that whoever waits for it notices. Others lead then what its broker has
    /// led, and acknowledge as quickly as before; and when it is over everybody is in sync again.
    fn slow_down(&mut self, seed: u64) -> Result<(), String> {
        self.progress(HEALING)?;
        let id = i32::try_from(seed % 3).map_or(1, |place| place + 1);
        let machine = &self.cluster.broker(id).machine;
        machine.set_disk_latency(SLOW_DISK, SLOW_DISK / 2);
        event!("the disk of broker {id} takes {SLOW_DISK:?} and more");
        self.until("nobody to wait for a slow disk", DISK_FAILOVER, |run| {
            let image = run.cluster.newest_image();
            image.is_some_and(|image| waits_for_nobody(&image, BrokerId(id)))
        })?;
        // Clients find the new leaders, and send again what they had sent to the old ones.
        let settled = self.cluster.now + DISK_FAILOVER;
        while self.cluster.now < settled {
            self.step()?;
        }
        // Nothing that this disk must have is committed in that time.
        let appended = self.highest(|replica| replica.log_end);
        self.until("what is appended to be committed", SLOW_DISK, |run| {
            let committed = run.committed();
            appended
                .iter()
                .all(|(id, end)| committed.get(id) >= Some(end))
        })?;
        self.cluster.broker(id).machine.reset_disk_latency();
        self.until("everybody to be in sync again", HEALING, |run| {
            run.cluster.is_whole()
        })
    }

    /// Every partition takes records again, and commits them.
    fn progress(&mut self, limit: Duration) -> Result<(), String> {
        let before = self.committed();
        let moved = self.until("every partition to commit records", limit, |run| {
            let now = run.committed();
            before.iter().all(|(id, then)| now.get(id) > Some(then))
        });
        moved.map_err(|why| {
            let now = self.committed();
            let stand = before.iter().filter(|(id, then)| now.get(id) <= Some(then));
            format!("{why}\nnothing new in {:?}", stand.collect::<Vec<_>>())
        })
    }

    /// The highest offset that anybody calls committed, for each partition of the workload.
    fn committed(&self) -> BTreeMap<PartitionId, Offset> {
        self.highest(|replica| replica.high_watermark)
    }

    /// The highest of these offsets among the replicas, for each partition of the workload.
    fn highest(&self, which: impl Fn(&ReplicaState) -> Offset) -> BTreeMap<PartitionId, Offset> {
        let view = View::of(&self.cluster);
        let mut highest = BTreeMap::new();
        for (id, state) in view.brokers.iter().flat_map(|broker| &broker.replicas) {
            let known = highest.entry(*id).or_insert_with(|| which(state));
            *known = which(state).max(*known);
        }
        highest.retain(|id, _| {
            view.newest()
                .is_some_and(|image| is_of_workload(image, *id))
        });
        highest
    }

    /// Whether all replicas end at the same offset, and all of it is committed.
    fn is_settled(&self) -> bool {
        let view = View::of(&self.cluster);
        let Some(image) = view.newest() else {
            return false;
        };
        let mut ends = BTreeMap::new();
        for (id, state) in view.brokers.iter().flat_map(|broker| &broker.replicas) {
            let end = state.log_end;
            if is_of_workload(image, *id)
                && (*ends.entry(*id).or_insert(end) != end
                    || state.durable_end != end
                    || state.high_watermark != end)
            {
                return false;
            }
        }
        self.cluster.is_whole()
    }

    fn judge(&mut self) -> Result<(), String> {
        let mut findings = Vec::new();
        let book = self.book.open();
        for (name, invariant) in &mut self.invariants {
            let found = invariant.judge(&self.cluster, &book).into_iter();
            findings.extend(found.map(|what| format!("{name}: {what}")));
        }
        for (error, count) in &book.errors {
            event!("met {count} times: {error}");
        }
        verdict(findings)
    }

    /// The state of brokers and partitions, for a report.
    fn describe(&self) -> String {
        let view = View::of(&self.cluster);
        let mut lines = Vec::new();
        for broker in &self.cluster.brokers {
            lines.push(format!(
                "broker {}: runs {}, paused {}, restarts at {:?}",
                broker.id,
                broker.is_up(),
                broker.machine.paused,
                broker.restart_at
            ));
        }
        if let Some(image) = view.newest() {
            for broker in image.brokers() {
                let (id, fenced, epoch) = (broker.id, broker.fenced, broker.epoch);
                lines.push(format!("registered: {id}, fenced {fenced}, epoch {epoch}"));
            }
            for (id, partition) in image.partitions() {
                let name = image.topic(id.topic).map(|topic| topic.name.to_string());
                let name = name.unwrap_or_default();
                let (leader, epoch) = (partition.leader, partition.leader_epoch);
                let (isr, elr) = (&partition.isr, &partition.elr);
                lines.push(format!(
                    "{name}-{}: leader {leader:?} in {epoch}, isr {isr:?}, elr {elr:?}",
                    id.index
                ));
            }
        }
        for broker in &view.brokers {
            for (id, state) in &broker.replicas {
                let (role, end, hw) = (state.role, state.log_end, state.high_watermark);
                let epoch = state.leader_epoch;
                lines.push(format!(
                    "broker {}, {id}: {role:?} in {epoch}, ends at {end}, committed {hw}",
                    broker.id
                ));
            }
        }
        lines.extend(self.unread());
        if let Some(rot) = &self.cluster.rot {
            let mut brokers = self.cluster.brokers.iter();
            let broker = brokers.find(|broker| broker.id == rot.broker);
            let files = broker.map(|broker| rot::files(&broker.machine.disk, rot));
            lines.push(format!("{rot}; there are {}", files.unwrap_or_default()));
        }
        lines.join("\n")
    }
}

fn is_of_workload(image: &Image, id: PartitionId) -> bool {
    let topic = image.topic(id.topic);
    topic.is_some_and(|topic| {
        let mut known = TOPICS.iter();
        known.any(|known| known.name == topic.name.as_str())
    })
}

fn verdict(findings: Vec<String>) -> Result<(), String> {
    match findings.as_slice() {
        [] => Ok(()),
        findings => Err(findings.join("\n")),
    }
}
