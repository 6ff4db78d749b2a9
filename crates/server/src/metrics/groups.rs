//! Metrics of the groups that this broker coordinates; looked up when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use millrace_coordinator::group::{Counters, States};
use millrace_model::LeaderEpoch;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Count, Level};

type StateLabels = [(&'static str, &'static str); 2];
type PartitionLabels = [(&'static str, String); 3];

/// What groups there are, and how far they have come.
#[derive(Default)]
pub struct GroupMetrics {
    groups: Family<StateLabels, Level>,
    offsets: Level,
    committed: Family<PartitionLabels, Level>,
    lags: Family<PartitionLabels, Level>,
    commits: Count,
    expirations: Count,
    deletions: Count,
    classic_rebalances: Count,
    consumer_rebalances: Count,
    /// What each shard had counted when somebody asked last: shards come and go with leaderships.
    counted: Mutex<BTreeMap<Shard, Counters>>,
}

/// A partition and the leadership its shard was loaded in.
type Shard = (i32, LeaderEpoch);

/// How groups are at one moment.
#[derive(Default)]
pub struct GroupSnapshot {
    /// What each shard has counted, and its groups by state.
    pub shards: Vec<(Shard, Counters, States)>,
    /// Committed offsets, as many as are shown.
    pub lags: Vec<GroupLag>,
}

/// How far a group has come with a partition.
pub struct GroupLag {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the group has committed.
    pub offset: i64,
    /// How many records it has not read; none where that could not be learned.
    pub lag: Option<i64>,
}

impl GroupMetrics {
    /// All at zero.
    pub(super) fn register(registry: &mut Registry) -> GroupMetrics {
        let metrics = GroupMetrics::default();
        registry.register(
            "millrace_groups",
            "Groups that this broker coordinates, by type and state",
            metrics.groups.clone(),
        );
        registry.register(
            "millrace_group_offsets",
            "Offsets that groups of this broker have committed",
            metrics.offsets.clone(),
        );
        registry.register(
            "millrace_group_committed_offset",
            "The offset that a group has committed, by partition",
            metrics.committed.clone(),
        );
        registry.register(
            "millrace_group_lag_records",
            "Records of a partition that a group has not committed yet",
            metrics.lags.clone(),
        );
        let mut count = |name: &str, help: &str, counter: &Count| {
            registry.register(name, help, counter.clone());
        };
        count(
            "millrace_group_offset_commits",
            "Offsets committed",
            &metrics.commits,
        );
        count(
            "millrace_group_offset_expirations",
            "Offsets that were too old to be kept",
            &metrics.expirations,
        );
        count(
            "millrace_group_offset_deletions",
            "Offsets deleted on request",
            &metrics.deletions,
        );
        count(
            "millrace_group_classic_rebalances",
            "Rebalances of classic groups that were completed",
            &metrics.classic_rebalances,
        );
        count(
            "millrace_group_consumer_rebalances",
            "New target assignments of consumer groups",
            &metrics.consumer_rebalances,
        );
        metrics
    }

    /// Takes over how groups are now.
    pub fn set(&self, now: GroupSnapshot) {
        let mut offsets = 0;
        self.groups.clear();
        for (_, _, states) in &now.shards {
            offsets += states.offsets;
            for (kind, state, groups) in by_state(states) {
                let labels = [("type", kind), ("state", state)];
                self.groups.get_or_create(&labels).inc_by(as_level(groups));
            }
        }
        self.offsets.set(as_level(offsets));
        self.count(&now.shards);
        self.committed.clear();
        self.lags.clear();
        for lag in now.lags {
            let labels = [
                ("group", lag.group),
                ("topic", lag.topic),
                ("partition", lag.partition.to_string()),
            ];
            self.committed.get_or_create(&labels).set(lag.offset);
            if let Some(records) = lag.lag {
                self.lags.get_or_create(&labels).set(records);
            }
        }
    }

    /// Adds what shards have counted since the last time.
    fn count(&self, shards: &[(Shard, Counters, States)]) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *counted);
        for (shard, now, _) in shards {
            let was = before.get(shard).copied().unwrap_or_default();
            let add = |counter: &Count, now: u64, was: u64| {
                counter.inc_by(now.saturating_sub(was));
            };
            add(&self.commits, now.offset_commits, was.offset_commits);
            add(
                &self.expirations,
                now.offset_expirations,
                was.offset_expirations,
            );
            add(&self.deletions, now.offset_deletions, was.offset_deletions);
            add(
                &self.classic_rebalances,
                now.classic_rebalances,
                was.classic_rebalances,
            );
            add(
                &self.consumer_rebalances,
                now.consumer_rebalances,
                was.consumer_rebalances,
            );
            counted.insert(*shard, *now);
        }
    }
}

fn by_state(states: &States) -> [(&'static str, &'static str, u64); 8] {
    [
        ("classic", "empty", states.classic_empty),
        (
            "classic",
            "preparing_rebalance",
            states.classic_preparing_rebalance,
        ),
        (
            "classic",
            "completing_rebalance",
            states.classic_completing_rebalance,
        ),
        ("classic", "stable", states.classic_stable),
        ("consumer", "empty", states.consumer_empty),
        ("consumer", "assigning", states.consumer_assigning),
        ("consumer", "reconciling", states.consumer_reconciling),
        ("consumer", "stable", states.consumer_stable),
    ]
}

fn as_level(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_comes_back_is_counted_on() {
        let metrics = GroupMetrics::default();
        let snapshot = |epoch, commits| GroupSnapshot {
            shards: vec![(
                (3, LeaderEpoch(epoch)),
                Counters {
                    offset_commits: commits,
                    ..Counters::default()
                },
                States::default(),
            )],
            lags: Vec::new(),
        };
        for (epoch, commits, total) in [(1, 5, 5), (1, 7, 7), (2, 1, 8), (2, 1, 8)] {
            metrics.set(snapshot(epoch, commits));
            assert_eq!(metrics.commits.get(), total, "{epoch} {commits}");
        }
        metrics.set(GroupSnapshot::default());
        assert_eq!(metrics.commits.get(), 8);
    }
}
