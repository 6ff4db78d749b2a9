//! What a replica wants done after a decision.

use millrace_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch};

use super::message::{Ack, Address, Join, Refuse, StreamId, Truncate};

/// A request to change the ISR, to be decided by the controller (rules 5 and 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrRequest {
    /// The leadership it is made under.
    pub epoch: LeaderEpoch,
    /// The state it is based on; the controller refuses it once that has changed.
    pub partition_epoch: PartitionEpoch,
    /// The new ISR, each member with the incarnation that caught up.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Every member keeps, synced, all that was there when fsync was asked for; only with the ISR
    /// as it is.
    pub confirms_fsync: bool,
}

/// What waits for the disk; one at a time for a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// The log is being opened or made.
    Open,
    /// A new leader makes its whole log durable before it serves.
    MakeDurable(LeaderEpoch),
    /// A follower cuts its log, durably.
    Cut(Offset),
    /// A follower drops its log and begins anew at this offset, durably.
    Restart(Offset),
}

/// What is to be done, once the replica's lock is released. Fields are set, never cleared, by the
/// core; an empty value costs nothing.
#[derive(Debug, Default)]
pub struct Effects {
    /// Followers for which there are batches, or an answer to their join.
    pub push: Vec<BrokerId>,
    /// Followers that should learn of a moved high watermark or log start before long.
    pub advance: Vec<BrokerId>,
    /// To a follower, which joined by the stream of this address.
    pub truncate: Option<(BrokerId, Address, Truncate)>,
    /// To a broker that joined by this stream; it may well be the one this replica follows, when
    /// two brokers change places and one learns of it first.
    pub refuse: Option<(BrokerId, StreamId, Refuse)>,
    /// To the leader, whose batches by this stream could not be appended.
    pub cannot_follow: Option<(BrokerId, StreamId, Refuse)>,
    /// To the leader.
    pub join: Option<(BrokerId, Join)>,
    /// To the leader, by this stream.
    pub ack: Option<(BrokerId, StreamId, Ack)>,
    /// Join again after a pause.
    pub retry_join: bool,
    /// Start this job; `Core::job_done` when it ended.
    pub job: Option<Job>,
    /// Note in the log that this epoch begins at its end.
    pub start_epoch: Option<LeaderEpoch>,
    /// To the controller.
    pub isr: Option<IsrRequest>,
    /// The high watermark has moved: acks=all and fetches that wait may be answered.
    pub high_watermark_moved: bool,
    /// A replica's log start may have moved: DeleteRecords that wait may be answered.
    pub low_watermark_moved: bool,
    /// The own durable end has moved: acks=1 may be answered.
    pub durable_moved: bool,
    /// Who waits must look again: another role or epoch, or the directory is gone.
    pub role_changed: bool,
    /// An invariant is broken: the process must stop.
    pub fatal: Option<String>,
}

impl Effects {
    /// Whether anything is to be done at all.
    pub fn is_empty(&self) -> bool {
        self.push.is_empty()
            && self.advance.is_empty()
            && self.truncate.is_none()
            && self.refuse.is_none()
            && self.cannot_follow.is_none()
            && self.join.is_none()
            && self.ack.is_none()
            && !self.retry_join
            && self.job.is_none()
            && self.start_epoch.is_none()
            && self.isr.is_none()
            && !self.high_watermark_moved
            && !self.low_watermark_moved
            && !self.durable_moved
            && !self.role_changed
            && self.fatal.is_none()
    }
}
