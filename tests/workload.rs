//! What is produced, and to what topic.

use millrace_testkit::admin::NodeId;

use crate::load::Pace;

/// A topic and its producers.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many partitions, of three replicas each.
    pub partitions: i32,
    /// The topic's own settings.
    pub configs: Vec<(&'static str, &'static str)>,
    /// The producers.
    pub pace: Pace,
    /// The nodes that are preferred leaders, in turn; all that hold replicas, when empty.
    pub leaders: Vec<NodeId>,
    /// The nodes that hold replicas; all, when empty.
    pub nodes: Vec<NodeId>,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            partitions: 6,
            configs: Vec::new(),
            pace: Pace::default(),
            leaders: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl Workload {
    /// The same with these nodes as preferred leaders.
    pub fn led_by(mut self, leaders: &[NodeId]) -> Workload {
        self.leaders = leaders.to_vec();
        self
    }

    /// The same with replicas on these nodes only.
    pub fn on(mut self, nodes: &[NodeId]) -> Workload {
        self.nodes = nodes.to_vec();
        self
    }

    /// The same with one setting of the topic more.
    pub fn with(mut self, key: &'static str, value: &'static str) -> Workload {
        self.configs.push((key, value));
        self
    }

    /// The same with one setting of the producers more.
    pub fn with_producer(mut self, key: &str, value: &str) -> Workload {
        self.pace = self.pace.with(key, value);
        self
    }

    /// The replicas of each partition, preferred leader first.
    pub fn assignment(&self, all: &[NodeId]) -> Vec<Vec<NodeId>> {
        let nodes = if self.nodes.is_empty() {
            all
        } else {
            &self.nodes
        };
        let leaders = if self.leaders.is_empty() {
            nodes
        } else {
            &self.leaders
        };
        let replicas = |partition: usize| {
            let leader = leaders[partition % leaders.len()];
            let at = nodes.iter().position(|node| *node == leader).unwrap_or(0);
            let places = 0..nodes.len().min(3);
            places
                .map(|place| nodes[(at + place) % nodes.len()])
                .collect()
        };
        (0..self.partitions as usize).map(replicas).collect()
    }
}
