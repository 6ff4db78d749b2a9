//! One run of a scenario: a topic, load and observers on a cluster; at the end, the verdict.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_testkit::admin::{NewTopic, NodeId};
use millrace_testkit::history::{self, History};
use millrace_testkit::{Cluster, Options, replicas, wait};

use crate::load::{Answers, Load, Pace};
use crate::readers::{Tail, Watch, read_back};
use crate::report;

/// The topic of every run.
pub const TOPIC: &str = "load";

/// What is produced, and to what.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many partitions, each with three replicas spread evenly.
    pub partitions: i32,
    /// The topic's own settings.
    pub configs: Vec<(&'static str, &'static str)>,
    /// The producers.
    pub pace: Pace,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            partitions: 6,
            configs: Vec::new(),
            pace: Pace::default(),
        }
    }
}

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

/// How a run ended.
pub struct Outcome {
    /// The cluster, healed.
    pub cluster: Cluster,
    /// What the producers were told.
    pub answers: Answers,
    /// The longest silence on partitions that the fault hit, after it.
    pub gap: Duration,
    /// Broken promises, in words.
    pub findings: Vec<String>,
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
        let placed = (0..workload.partitions as usize).map(|partition| {
            (0..ids.len().min(3))
                .map(|place| ids[(partition + place) % ids.len()])
                .collect()
        });
        let topic = NewTopic {
            name: TOPIC,
            assignment: placed.collect(),
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
        let counts = || -> Vec<usize> {
            let answers = self.load.answers();
            (0..self.partitions)
                .map(|partition| answers.times.count(partition))
                .collect()
        };
        let before = counts();
        wait::until("acknowledgements on every partition", limit, || {
            let now = counts();
            let all = now
                .iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + 20);
            if all {
                Ok(())
            } else {
                Err(format!(
                    "before {before:?}, now {now:?}; {:?}",
                    self.load.answers().errors
                ))
            }
        });
    }

    /// How many records were acknowledged so far.
    pub fn acked(&self) -> usize {
        self.load.answers().acked.len()
    }

    /// The longest silence on the partitions that the fault hit, since the fault.
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
        let mut findings: Vec<String> = history::check(&history)
            .iter()
            .map(|violation| format!("{violation:?}"))
            .collect();
        findings.extend(corrupt);
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
            findings,
        }
    }
}

impl Outcome {
    /// Wants every promise kept and every record acknowledged.
    ///
    /// # Panics
    /// When something is wrong; the message holds the first findings.
    pub fn expect_sound(self) -> Outcome {
        let shown = self
            .findings
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            self.findings.is_empty(),
            "{} broken promises:\n{shown}",
            self.findings.len()
        );
        assert!(
            self.answers.acked.len() > 100,
            "hardly anything was acknowledged"
        );
        self.expect_only_errors(&[])
    }

    /// Wants the records that failed to have failed by these errors only.
    ///
    /// # Panics
    /// When there were others.
    pub fn expect_only_errors(self, allowed: &[&str]) -> Outcome {
        let others: BTreeMap<_, _> = self
            .answers
            .errors
            .iter()
            .filter(|(name, _)| !allowed.contains(&name.as_str()))
            .collect();
        assert!(others.is_empty(), "producers were told of {others:?}");
        self
    }

    /// Wants the longest silence to be below `limit`. Stock Kafka, whose sessions are longer by
    /// default, is not held to it.
    ///
    /// # Panics
    /// When it was longer.
    pub fn expect_gap_below(self, limit: Duration) -> Outcome {
        assert!(
            self.gap < limit || !self.cluster.system().is_millrace(),
            "no acknowledgement for {:?}; at most {limit:?} is promised",
            self.gap
        );
        self
    }
}
