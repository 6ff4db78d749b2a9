//! Committed offsets: those that count, and those that wait for the end of their transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::wire::{OffsetCommitKey, OffsetCommitValue};
use millrace_model::{LeaderEpoch, Offset, ProducerId, Timestamp, TopicId};

use super::{GroupId, Record};
use crate::shard::{Marker, Origin};

/// An offset that a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record to consume.
    pub offset: Offset,
    /// The epoch of the record before it.
    pub leader_epoch: LeaderEpoch,
    /// What the committer wrote beside it.
    pub metadata: Box<str>,
    /// When it was committed.
    pub at: Timestamp,
    /// When it expires, where the committer said so (OffsetCommit before version 5).
    pub expires: Option<Timestamp>,
    /// The topic's identity at the time; zero for records of before Kafka 4.1.
    pub topic: TopicId,
    /// Where its record stands in the log.
    pub(crate) recorded_at: Offset,
}

/// Offsets of one group: by topic, then by partition.
pub(crate) type OfGroup = BTreeMap<Arc<str>, BTreeMap<i32, Committed>>;

/// The offsets of all groups of a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offsets {
    committed: Store,
    /// By producer, what counts once its transaction commits.
    pending: BTreeMap<ProducerId, Store>,
    /// The producers with pending offsets in a group, even if tombstones took these again.
    open: BTreeMap<GroupId, BTreeSet<ProducerId>>,
    count: u64,
}

type Store = BTreeMap<GroupId, OfGroup>;

impl Offsets {
    /// The offset that counts for a partition.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.committed.get(group)?.get(topic)?.get(&partition)
    }

    /// All that count in a group.
    pub fn of(&self, group: &str) -> Option<&OfGroup> {
        self.committed.get(group)
    }

    /// Groups with offsets that count.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &OfGroup)> {
        self.committed.iter()
    }

    /// How many partitions a group has offsets for, those in open transactions included.
    pub fn count_of(&self, group: &str) -> usize {
        let committed = self.committed.get(group).into_iter();
        let topics = committed.chain(self.pending_of(group)).flatten();
        topics.map(|(_, partitions)| partitions.len()).sum()
    }

    /// How many count.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether a transaction holds an offset for this partition.
    pub fn is_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.pending_of(group)
            .any(|of| of.get(topic).is_some_and(|of| of.contains_key(&partition)))
    }

    /// Whether a transaction with offsets of this group is open.
    pub fn has_open_transaction(&self, group: &str) -> bool {
        self.open.contains_key(group)
    }

    /// What open transactions hold for this group.
    pub fn pending_of(&self, group: &str) -> impl Iterator<Item = &OfGroup> {
        let producers = self.open.get(group).into_iter().flatten();
        let stores = producers.filter_map(|producer| self.pending.get(producer));
        stores.filter_map(move |store| store.get(group))
    }

    /// Applies an offset's record.
    pub fn replay(&mut self, key: OffsetCommitKey, value: Option<OffsetCommitValue>, at: Origin) {
        match (value, at.producer) {
            (Some(value), None) => {
                let committed = Committed::from_record(value, at.offset);
                self.count += u64::from(put(&mut self.committed, &key, committed));
            }
            (Some(value), Some(producer)) => {
                let committed = Committed::from_record(value, at.offset);
                put(self.pending.entry(producer).or_default(), &key, committed);
                let open = self.open.entry(GroupId::from(key.group)).or_default();
                open.insert(producer);
            }
            (None, _) => {
                self.count -= u64::from(take(&mut self.committed, &key));
                for producer in self.open.get(key.group.as_str()).into_iter().flatten() {
                    if let Some(store) = self.pending.get_mut(producer) {
                        take(store, &key);
                    }
                }
            }
        }
    }

    /// Applies the end of a transaction. An offset that was committed after the transaction's one,
    /// by the order of the log, stays: compaction may have brought them out of order.
    pub fn replay_marker(&mut self, marker: Marker) {
        let pending = self.pending.remove(&marker.producer).unwrap_or_default();
        self.open.retain(|_, producers| {
            producers.remove(&marker.producer);
            !producers.is_empty()
        });
        if !marker.committed {
            return;
        }
        for (group, of_group) in pending {
            let known = self.committed.entry(group).or_default();
            for (topic, partitions) in of_group {
                let known = known.entry(topic).or_default();
                for (partition, committed) in partitions {
                    let older = known.get(&partition);
                    if older.is_none_or(|older| older.recorded_at < committed.recorded_at) {
                        self.count += u64::from(older.is_none());
                        known.insert(partition, committed);
                    }
                }
            }
        }
    }
}

/// Whether it is a partition without an offset so far.
fn put(store: &mut Store, key: &OffsetCommitKey, committed: Committed) -> bool {
    let of_group = match store.get_mut(key.group.as_str()) {
        Some(known) => known,
        None => store.entry(GroupId::from(key.group.as_str())).or_default(),
    };
    let of_topic = match of_group.get_mut(key.topic.as_str()) {
        Some(known) => known,
        None => of_group.entry(key.topic.as_str().into()).or_default(),
    };
    of_topic.insert(key.partition, committed).is_none()
}

/// Whether there was an offset to take out.
fn take(store: &mut Store, key: &OffsetCommitKey) -> bool {
    let Some(of_group) = store.get_mut(key.group.as_str()) else {
        return false;
    };
    let Some(of_topic) = of_group.get_mut(key.topic.as_str()) else {
        return false;
    };
    let taken = of_topic.remove(&key.partition).is_some();
    if of_topic.is_empty() {
        of_group.remove(key.topic.as_str());
    }
    if of_group.is_empty() {
        store.remove(key.group.as_str());
    }
    taken
}

impl Committed {
    fn from_record(value: OffsetCommitValue, recorded_at: Offset) -> Committed {
        Committed {
            offset: Offset(value.offset),
            leader_epoch: LeaderEpoch(value.leader_epoch),
            metadata: value.metadata.into(),
            at: Timestamp(value.commit_timestamp),
            expires: (value.expire_timestamp != -1).then_some(Timestamp(value.expire_timestamp)),
            topic: TopicId(value.topic_id),
            recorded_at,
        }
    }
}

/// The record that ends an offset.
pub(crate) fn tombstone(group: &str, topic: &str, partition: i32) -> Record {
    let key = OffsetCommitKey {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition,
    };
    Record::OffsetCommit(key, None)
}
