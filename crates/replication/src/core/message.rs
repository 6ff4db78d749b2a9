//! What replicas of one partition say to each other.

use millrace_model::{BrokerEpoch, LeaderEpoch, Offset};

/// Names one stream of a follower's process; a later one has a larger number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// What every message from leader to follower is checked by (rules 6 and 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The follower's stream it was written for.
    pub stream: StreamId,
    /// The follower's incarnation it was written for.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it was written in.
    pub epoch: LeaderEpoch,
    /// The join it answers, or follows.
    pub round: u32,
}

/// Follower: "I follow you at this epoch; my log ends there."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// The follower's stream.
    pub stream: StreamId,
    /// The follower's incarnation.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub epoch: LeaderEpoch,
    /// Counts the joins of this replica; answers carry it back.
    pub round: u32,
    /// Where its log begins.
    pub log_start: Offset,
    /// Where its log ends.
    pub log_end: Offset,
    /// Epoch of its last record; `LeaderEpoch::NONE` where there is none.
    pub last_epoch: LeaderEpoch,
}

/// Follower: "below this offset my log holds yours, and keeps it."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The follower's incarnation.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub epoch: LeaderEpoch,
    /// What survives whatever its durability promises to survive.
    pub durable_end: Offset,
    /// Whether that means synced to the disk.
    pub synced: bool,
    /// Where its log begins, and still does after a power cut.
    pub log_start: Offset,
}

/// Leader: the head of `Append`, and all of `Advance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progressed {
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// Where the leader's log begins.
    pub log_start: Offset,
}

/// Leader: "our logs part here; cut yours, make that durable, join again."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// The largest epoch of the leader's log not beyond the one the follower ends with;
    /// `LeaderEpoch::NONE`: none, begin anew at `log_start`.
    pub epoch: LeaderEpoch,
    /// Where that epoch ends in the leader's log.
    pub end: Offset,
    /// Where the leader's log begins.
    pub log_start: Offset,
}

/// Why a message was not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not, or not yet, the leader of that epoch.
    WrongEpoch,
    /// No such partition here, or not yet.
    UnknownPartition,
    /// The broker epoch is not the one of the image.
    WrongIncarnation,
    /// The log cannot be read or written.
    Storage,
}

/// Either: "I do not obey this."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// The reason.
    pub why: Why,
    /// The epoch that whoever refuses knows.
    pub epoch: LeaderEpoch,
}
