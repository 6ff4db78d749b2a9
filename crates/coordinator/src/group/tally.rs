//! What happened, counted, and what is there: the numbers behind metrics (Kafka class
//! `GroupCoordinatorMetrics`).

/// What a shard has done since it was made; grows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Offsets committed (`offset-commit-count`).
    pub offset_commits: u64,
    /// Offsets that expired (`offset-expiration-count`).
    pub offset_expirations: u64,
    /// Offsets deleted on request (`offset-deletion-count`).
    pub offset_deletions: u64,
    /// Rebalances of classic groups that got an assignment (`group-completed-rebalance-count`).
    pub classic_rebalances: u64,
    /// New target epochs of consumer groups (`consumer-group-rebalance-count`).
    pub consumer_rebalances: u64,
}

/// Groups by state, and offsets, of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Classic groups without members.
    pub classic_empty: u64,
    /// Classic groups that wait for members to join.
    pub classic_preparing_rebalance: u64,
    /// Classic groups that wait for their leader's assignment.
    pub classic_completing_rebalance: u64,
    /// Classic groups at rest.
    pub classic_stable: u64,
    /// Consumer groups without members.
    pub consumer_empty: u64,
    /// Consumer groups that compute an assignment.
    pub consumer_assigning: u64,
    /// Consumer groups whose members move to an assignment.
    pub consumer_reconciling: u64,
    /// Consumer groups at rest.
    pub consumer_stable: u64,
    /// Committed offsets.
    pub offsets: u64,
}
