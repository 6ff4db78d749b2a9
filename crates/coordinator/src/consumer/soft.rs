//! What only the leader knows of a consumer group, beside its timers.

use millrace_model::Timestamp;

/// What a consumer group keeps beside its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Soft {
    /// The version of the cluster's topics that the group's epoch takes account of, and that epoch:
    /// if the group has a lower one, the record with it was not appended.
    seen: Option<(u64, i32)>,
    /// The version against which the group's expressions were last resolved, and when.
    resolved: Option<(u64, Timestamp)>,
}

impl Soft {
    /// Whether there is nothing here worth keeping: what is here can be found out again.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Whether the epoch takes account of this version of the cluster's topics.
    pub fn has_seen(&self, version: u64, epoch: i32) -> bool {
        self.seen
            .is_some_and(|(seen, at)| seen == version && epoch >= at)
    }

    pub fn see(&mut self, version: u64, epoch: i32) {
        self.seen = Some((version, epoch));
    }

    /// The version against which expressions were last resolved, and when.
    pub fn resolved(&self) -> Option<(u64, Timestamp)> {
        self.resolved
    }

    pub fn resolve(&mut self, version: u64, now: Timestamp) {
        self.resolved = Some((version, now));
    }
}
