//! Judges what clients saw: pure, from what was acknowledged, observed and read back.
//!
//! Every record carries a [`Mark`], so that it is known wherever it turns up. One history is about
//! one topic.

mod check;
mod mark;

use std::collections::BTreeMap;

pub use check::{Violation, check};
pub use mark::Mark;

/// A record at its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// In which partition.
    pub partition: i32,
    /// At which offset.
    pub offset: i64,
    /// Which record.
    pub mark: Mark,
}

/// What a broker said of a partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Which partition.
    pub partition: i32,
    /// In which epoch.
    pub epoch: i32,
    /// Who leads.
    pub leader: i32,
}

/// Everything that was seen during one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Records that a producer was told are committed.
    pub acked: Vec<Placed>,
    /// Records that a producer tried to send and got no answer or an error for; they may be there
    /// or not, once.
    pub unknown: Vec<(i32, Mark)>,
    /// What readers saw while the run went on, in the order in which each reader saw it.
    pub seen: Vec<Vec<Placed>>,
    /// High watermarks in the order in which one observer was told of them: partition, offset.
    pub watermarks: Vec<(i32, i64)>,
    /// Leaders that brokers named.
    pub leaders: Vec<Leadership>,
    /// The whole log in the end, in the order of the offsets of each partition.
    pub log: BTreeMap<i32, Vec<(i64, Mark)>>,
    /// Whether the producers were idempotent, so that nothing may be there twice.
    pub idempotent: bool,
}
