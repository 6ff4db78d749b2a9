//! What the replicas of a broker look like, in numbers.

use std::sync::atomic::Ordering;

use crate::core::Role;
use crate::shared::Shared;

/// Counts over all replicas of a broker; names follow Kafka's metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationMetrics {
    /// Replicas on this broker (PartitionCount).
    pub partitions: usize,
    /// Partitions it leads (LeaderCount).
    pub leaders: usize,
    /// Led partitions with fewer replicas in sync than there are (UnderReplicatedPartitions).
    pub under_replicated: usize,
    /// Led partitions with fewer in sync than acks=all needs (UnderMinIsrPartitionCount).
    pub under_min_isr: usize,
    /// Led partitions with just as many in sync as acks=all needs (AtMinIsrPartitionCount).
    pub at_min_isr: usize,
    /// Replicas whose directory has failed (OfflineReplicaCount).
    pub offline: usize,
    /// Offsets that the slowest follower of a led partition lacks, at most.
    pub max_lag: i64,
    /// ISRs of led partitions that became smaller since the start (IsrShrinksPerSec).
    pub isr_shrinks: u64,
    /// ISRs of led partitions that grew since the start (IsrExpandsPerSec).
    pub isr_expands: u64,
}

impl ReplicationMetrics {
    pub(crate) fn of(shared: &Shared) -> ReplicationMetrics {
        let mut metrics = ReplicationMetrics {
            isr_shrinks: shared.counters.isr_shrinks.load(Ordering::Relaxed),
            isr_expands: shared.counters.isr_expands.load(Ordering::Relaxed),
            ..ReplicationMetrics::default()
        };
        let replicas = shared.replicas();
        metrics.partitions = replicas.len();
        for replica in replicas {
            let state = replica.state();
            match state.role {
                Role::Leader { .. } => {
                    metrics.leaders += 1;
                    let isr = state.isr.len();
                    metrics.under_replicated += usize::from(isr < state.replicas.len());
                    metrics.under_min_isr += usize::from(isr < state.min_isr);
                    metrics.at_min_isr += usize::from(isr == state.min_isr);
                    let lag = state.followers.iter().map(|follower| follower.lag).max();
                    metrics.max_lag = metrics.max_lag.max(lag.unwrap_or(0));
                }
                Role::Offline => metrics.offline += 1,
                Role::Idle | Role::Follower(_) => {}
            }
        }
        metrics
    }
}
