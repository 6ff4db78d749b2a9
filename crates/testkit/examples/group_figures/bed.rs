//! The cluster that is measured, alike for both systems.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::FindCoordinatorRequest;
use millrace_testkit::admin::{NewTopic, NodeId};
use millrace_testkit::{Cluster, Options, System, resources, wait};

use crate::frames::text;

/// The internal topic.
pub const OFFSETS: &str = "__consumer_offsets";

/// Its partitions.
pub const OFFSETS_PARTITIONS: i32 = 50;

/// Patience with a busy machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Three brokers, and what they cost.
pub struct Bed {
    /// The brokers.
    pub cluster: Cluster,
}

impl Bed {
    /// Starts three brokers and waits for the internal topic.
    pub fn start(system: &System, durability: &str) -> Bed {
        let mut options = Options::three()
            .with("group.initial.rebalance.delay.ms", "200")
            .with("group.consumer.max.session.timeout.ms", "600000")
            .with("group.consumer.session.timeout.ms", "600000")
            .with("group.consumer.heartbeat.interval.ms", "5000")
            .with("offsets.topic.num.partitions", "50");
        options.system = system.clone();
        options = match (system.is_millrace(), durability) {
            (true, durability) => options.with("millrace.durability", durability),
            // Every replica flushes before it lets the high watermark pass.
            (false, "fsync") => options.with("log.flush.interval.messages", "1"),
            (false, _) => options,
        };
        let bed = Bed {
            cluster: Cluster::start(&options),
        };
        bed.coordinators(&["first".to_owned()]);
        bed.cluster.wait_in_sync(OFFSETS, LONG);
        bed
    }

    /// Makes a topic for groups to consume.
    pub fn make_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic {
            name,
            partitions,
            replication: 3,
            assignment: Vec::new(),
            configs: Vec::new(),
        };
        wait::until("the topic to be made", LONG, || {
            self.cluster.admin().create_topic(&topic)
        });
        self.cluster.wait_in_sync(name, LONG);
    }

    /// The port of each group's coordinator.
    pub fn coordinators(&self, groups: &[String]) -> Vec<u16> {
        let request = FindCoordinatorRequest::default()
            .with_key_type(0)
            .with_coordinator_keys(groups.iter().map(|group| text(group)).collect());
        wait::until("all coordinators", LONG, || {
            let answer = self.cluster.admin().ask(&request, 4)?;
            let by_name: BTreeMap<&str, _> = answer
                .coordinators
                .iter()
                .map(|found| (&*found.key, found))
                .collect();
            let ports = groups.iter().map(|group| match by_name.get(&**group) {
                Some(found) if found.error_code == 0 => Ok(found.port as u16),
                other => Err(format!("{group}: {other:?}")),
            });
            ports.collect()
        })
    }

    /// The broker that coordinates the groups of one partition of the internal topic.
    pub fn leader(&self, partition: i32) -> NodeId {
        self.cluster.leader_of(OFFSETS, partition)
    }

    /// Processor time of all brokers since they started.
    pub fn cpu(&self) -> Duration {
        self.pids().map(resources::cpu_time).sum()
    }

    /// Resident memory of all brokers, in MiB.
    pub fn resident_mib(&self) -> f64 {
        let bytes: u64 = self.pids().map(resources::resident_bytes).sum();
        bytes as f64 / f64::from(1 << 20)
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        let ids = self.cluster.ids().into_iter();
        ids.map(|id| self.cluster.node(id).pid())
    }
}

/// Names of groups that share one partition of the internal topic.
pub fn groups_of_partition(partition: i32, count: usize) -> Vec<String> {
    let names = (0..).map(|number: u64| format!("loaded-{number}"));
    let there = names.filter(|name| place_of(name) == partition);
    there.take(count).collect()
}

/// The partition of the internal topic that a group belongs to.
pub fn place_of(group: &str) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    hash.checked_abs().unwrap_or(0) % OFFSETS_PARTITIONS
}
