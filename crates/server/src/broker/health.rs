//! What the HTTP listener tells of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use millrace_metadata::Image;
use millrace_model::{BrokerId, Offset, PartitionId};
use tokio::sync::watch;

use crate::http::Health;
use crate::metrics::{GroupLag, GroupSnapshot, Snapshot};
use crate::node::{BrokerParts, Node};

/// Looks at the node when asked.
pub struct NodeHealth {
    /// The node.
    pub node: Arc<Node>,
    /// Whether clients are served.
    pub serving: watch::Receiver<bool>,
}

impl Health for NodeHealth {
    fn ready(&self) -> Result<Vec<String>, String> {
        if !*self.serving.borrow() {
            return Err("it has not joined its cluster yet".to_owned());
        }
        let image = self.node.image();
        match self.node.broker.get().is_some() && !image.is_active(self.node.id) {
            true => Err("the controller has fenced it".to_owned()),
            false => self.directories(),
        }
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            let groups = self.groups().await;
            self.node.metrics.groups.set(groups);
            self.node.metrics.render(&self.snapshot())
        })
    }
}

impl NodeHealth {
    /// A broker whose disk is nearly full refuses what producers send. One that has lost a
    /// directory serves what is in the others, and one whose disk is slow goes on; both say so.
    fn directories(&self) -> Result<Vec<String>, String> {
        let Some(broker) = self.node.broker.get() else {
            return Ok(Vec::new());
        };
        let mut wrong = Vec::new();
        for directory in broker.store.directories() {
            let path = directory.path.display();
            if let Some(why) = &directory.offline {
                wrong.push(format!("log directory {path} has failed: {why}"));
            } else if directory.full {
                return Err(format!("little space is left in {path}"));
            } else if directory.slow {
                wrong.push(format!("the disk under {path} takes long for every sync"));
            }
        }
        Ok(wrong)
    }

    /// The groups that this broker coordinates; those of shards that do not answer are left out.
    async fn groups(&self) -> GroupSnapshot {
        let mut groups = GroupSnapshot::default();
        let Some(broker) = self.node.broker.get() else {
            return groups;
        };
        let measured = tokio::time::timeout(PATIENCE, broker.groups.measure()).await;
        let image = self.node.image();
        let most = self.node.config().shown_group_lags;
        for (of, measures) in measured.unwrap_or_default() {
            groups.shards.push((of, measures.counters, measures.states));
            for (group, topic, index, offset) in measures.offsets {
                if groups.lags.len() >= most {
                    break;
                }
                groups.lags.push(GroupLag {
                    group,
                    topic,
                    partition: index,
                    offset,
                    lag: None,
                });
            }
        }
        let ends = ends_of(&image, broker, &groups.lags).await;
        for (lag, end) in groups.lags.iter_mut().zip(ends) {
            lag.lag = end.map(|end| (end.get() - lag.offset).max(0));
        }
        groups
    }

    fn snapshot(&self) -> Snapshot {
        let image = self.node.image();
        let fenced = image.brokers().filter(|broker| broker.fenced).count();
        let mut snapshot = Snapshot {
            offline_partitions: count(image.leaderless().count()),
            topics: count(image.topic_count()),
            active_brokers: count(image.brokers().count() - fenced),
            fenced_brokers: count(fenced),
            is_active_controller: self.node.quorum.is_active(),
            image_version: i64::try_from(image.version().get()).unwrap_or(i64::MAX),
            request_memory_bytes: count(self.node.request_memory.used_bytes()),
            ..Snapshot::default()
        };
        self.count_directories(&mut snapshot);
        self.count_partitions(&image, &mut snapshot);
        snapshot
    }

    fn count_directories(&self, snapshot: &mut Snapshot) {
        let Some(broker) = self.node.broker.get() else {
            return;
        };
        let directories = broker.store.directories();
        let least = directories
            .iter()
            .map(|directory| directory.free_bytes)
            .min();
        snapshot.least_free_bytes = i64::try_from(least.unwrap_or(0)).unwrap_or(i64::MAX);
        snapshot.full_directories = count(directories.iter().filter(|d| d.full).count());
        snapshot.slow_directories = count(directories.iter().filter(|d| d.slow).count());
        let offline = directories.iter().filter(|d| d.offline.is_some());
        snapshot.offline_directories = count(offline.count());
        let scrubbed = broker.store.scrubbed();
        snapshot.scrubbed_bytes = scrubbed.bytes;
        snapshot.scrub_passes = scrubbed.passes;
        snapshot.damages_found = scrubbed.damages;
        snapshot.damaged_replicas = i64::try_from(scrubbed.damaged_logs).unwrap_or(i64::MAX);
    }

    fn count_partitions(&self, image: &Image, snapshot: &mut Snapshot) {
        for (id, partition) in image.hosted_by(self.node.id) {
            snapshot.replicas += 1;
            if partition.leader != Some(self.node.id) {
                continue;
            }
            snapshot.led_partitions += 1;
            if partition.isr.len() < partition.replicas.len() {
                snapshot.under_replicated_partitions += 1;
            }
            let topic = image.topic(id.topic);
            if topic.is_some_and(|t| partition.isr.len() < image.min_insync(&t.name, partition)) {
                snapshot.under_min_isr_partitions += 1;
            }
        }
    }
}

/// How long the shards of groups, and the leaders of what they read, may take to say how they are.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the partitions end that groups have come so far with: by a replica here, else by their
/// leaders, of which each is asked once.
async fn ends_of(image: &Image, broker: &BrokerParts, lags: &[GroupLag]) -> Vec<Option<Offset>> {
    let mut ends = vec![None; lags.len()];
    let mut elsewhere: BTreeMap<BrokerId, (Vec<usize>, Vec<PartitionId>)> = BTreeMap::new();
    for (place, lag) in lags.iter().enumerate() {
        let Some(topic) = image.topic_named(&lag.topic) else {
            continue;
        };
        let (topic, index) = (topic.id, lag.partition);
        let id = PartitionId { topic, index };
        if let Some(replica) = broker.replicas.get(id) {
            let offsets = replica.offsets(None, true).ok();
            ends[place] = offsets.map(|offsets| offsets.high_watermark);
        } else if let Some(leader) = image.partition(id).and_then(|of| of.leader) {
            let (places, ids) = elsewhere.entry(leader).or_default();
            places.push(place);
            ids.push(id);
        }
    }
    let asked = elsewhere.iter().map(|(leader, (places, ids))| async move {
        let told = tokio::time::timeout(PATIENCE, broker.replicas.ends_at(*leader, ids)).await;
        (places, told.unwrap_or_default())
    });
    for (places, told) in join_all(asked).await {
        for (place, end) in places.iter().zip(told) {
            ends[*place] = end;
        }
    }
    ends
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
