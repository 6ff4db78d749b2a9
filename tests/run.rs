//! One run of a scenario: a topic, load and observers on a cluster; at the end, the verdict.

use std::time::{Duration, Instant};

use millrace_testkit::admin::{NewTopic, NodeId};
use millrace_testkit::history::{self, History};
use millrace_testkit::{Cluster, Options, replicas, wait};

use crate::load::Load;
use crate::outcome::Outcome;
use crate::readers::{Tail, Watch, read_back};
use crate::report;
use crate::workload::Workload;

/// The topic of every run.
pub const TOPIC: &str = "load";

/// A cluster under load.
pub struct Run {
    /// The cluster, to be broken.
    pub cluster: Cluster,
    name: String,
    partitions: i32,
    load: Load,
    tail: Tail,
    watch: Watch,
    fault_at: Option<Instant>,
    victims: Vec<i32>,
}

impl Run {
    /// Starts a cluster and loads it; returns when every partition has had acknowledgements and
    /// all replicas are in sync.
    pub fn start(name: &str, options: &Options, workload: &Workload) -> Run {
        Run::on(name, Cluster::start(options), workload)
    }

    /// The same on a cluster that runs already.
    pub fn on(name: &str, cluster: Cluster, workload: &Workload) -> Run {
        let ids = cluster.ids();
        let topic = NewTopic {
            name: TOPIC,
            assignment: workload.assignment(&ids),
            partitions: workload.partitions,
            replication: 3,
            configs: workload.configs.clone(),
        };
        wait::until("the topic to be made", Duration::from_secs(30), || {
            cluster.admin().create_topic(&topic)
        });
        cluster.wait_in_sync(TOPIC, Duration::from_secs(30));
        let bootstrap = cluster.bootstrap();
        let ports = ids.iter().map(|id| (*id, cluster.node(*id).client_port()));
        let run = Run {
            name: name.to_owned(),
            partitions: workload.partitions,
            load: Load::start(&bootstrap, TOPIC, workload.partitions, &workload.pace),
            tail: Tail::start(&bootstrap, TOPIC, workload.partitions),
            watch: Watch::start(ports.collect(), TOPIC),
            fault_at: None,
            victims: Vec::new(),
            cluster,
        };
        run.wait_progress(Duration::from_secs(30));
        run
    }

    /// A node that leads partitions and is not the active controller, and the active controller.
    pub fn leader_and_controller(&self) -> (NodeId, NodeId) {
        let controller = self.cluster.controller();
        (self.cluster.other_than(controller), controller)
    }

    /// The partitions that a node leads now.
    pub fn led_by(&self, node: NodeId) -> Vec<i32> {
        let partitions = self.cluster.admin().partitions(TOPIC).unwrap_or_default();
        let led = partitions
            .iter()
            .filter(|partition| partition.leader == Some(node));
        led.map(|partition| partition.index).collect()
    }

    /// Does something bad to a node, and takes the partitions that it leads as those whose gap
    /// counts (all partitions when it leads none).
    pub fn strike(&mut self, node: NodeId, fault: impl FnOnce(&mut Cluster, NodeId)) {
        let led = self.led_by(node);
        self.victims = if led.is_empty() {
            (0..self.partitions).collect()
        } else {
            led
        };
        self.fault_at = Some(Instant::now());
        fault(&mut self.cluster, node);
    }

    /// Does something bad to all at once.
    pub fn strike_all(&mut self, fault: impl FnOnce(&mut Cluster)) {
        self.victims = (0..self.partitions).collect();
        self.fault_at = Some(Instant::now());
        fault(&mut self.cluster);
    }

    /// Waits until every partition has had twenty acknowledgements more than now.
    pub fn wait_progress(&self, limit: Duration) {
        self.wait_progress_of(&(0..self.partitions).collect::<Vec<_>>(), limit);
    }

    /// The same for the partitions that the last fault did not hit.
    pub fn wait_progress_of_others(&self, limit: Duration) {
        let others = (0..self.partitions).filter(|partition| !self.victims.contains(partition));
        self.wait_progress_of(&others.collect::<Vec<_>>(), limit);
    }

    fn wait_progress_of(&self, partitions: &[i32], limit: Duration) {
        let counts = || -> Vec<usize> {
            let answers = self.load.answers();
            let count = |partition: &i32| answers.times.count(*partition);
            partitions.iter().map(count).collect()
        };
        let before = counts();
        wait::until("acknowledgements on every partition", limit, || {
            let now = counts();
            if now
                .iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + 20)
            {
                return Ok(());
            }
            let errors = self.load.answers().errors.clone();
            Err(format!(
                "of {partitions:?} before {before:?}, now {now:?}; {errors:?}"
            ))
        });
    }

    /// How many records were acknowledged so far.
    pub fn acked(&self) -> usize {
        self.load.answers().acked.len()
    }

    /// The longest silence on the partitions that the last fault hit, since that fault.
    pub fn gap(&self) -> Duration {
        let since = self.fault_at.unwrap_or_else(Instant::now);
        self.load.answers().times.longest(&self.victims, since)
    }

    /// Waits until all replicas are in sync, stops the load, reads everything back and judges.
    ///
    /// # Panics
    /// When the cluster does not heal.
    pub fn finish(self) -> Outcome {
        self.wait_progress(Duration::from_secs(60));
        let gap = self.gap();
        let answers = self.load.finish();
        self.cluster.wait_in_sync(TOPIC, Duration::from_secs(90));
        let bootstrap = self.cluster.bootstrap();
        let (log, corrupt) = read_back(&bootstrap, TOPIC, self.partitions, Duration::from_secs(60));
        let (seen, seen_corrupt) = self.tail.finish();
        let watched = self.watch.finish();
        let history = History {
            acked: answers.acked.clone(),
            unknown: answers.open.iter().copied().collect(),
            seen: vec![seen],
            watermarks: watched.watermarks,
            leaders: watched.leaders,
            log,
            idempotent: true,
        };
        let mut findings = corrupt;
        findings.extend(seen_corrupt);
        findings.extend(watched.nonsense);
        findings.extend(replicas::differences(&self.cluster, TOPIC));
        report::line(format!(
            "{:<50} {:>6} acked, longest gap {:>5} ms, {:?}",
            self.name,
            answers.acked.len(),
            gap.as_millis(),
            answers.errors
        ));
        Outcome {
            cluster: self.cluster,
            answers,
            gap,
            violations: history::check(&history),
            findings,
        }
    }
}
