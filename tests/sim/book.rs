//! What the clients were told, for the checks that the chaos tests use too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_client::ClientError;
use millrace_model::ErrorCode;
use millrace_testkit::history::{History, Mark, Placed};

use crate::trace;

/// How a topic is written to, and so what is promised of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// acks=all with idempotence: nothing is lost, twice, or out of order.
    Exact,
    /// acks=all without: nothing is lost.
    Kept,
    /// acks=1 and acks=0: what is read stays.
    Hoped,
}

/// What clients saw of one topic.
#[derive(Default)]
pub struct TopicBook {
    /// Everything that was ever handed to a producer.
    pub sent: Vec<(i32, Mark)>,
    /// What a producer was told is written.
    pub acked: Vec<Placed>,
    /// What each reader saw, in its order.
    pub seen: Vec<Vec<Placed>>,
    /// The high watermarks each reader was told of, in its order.
    pub watermarks: Vec<Vec<(i32, i64)>>,
    /// The whole log in the end.
    pub log: BTreeMap<i32, Vec<(i64, Mark)>>,
}

/// What members of one group saw, and who looked on.
#[derive(Default)]
pub struct GroupBook {
    /// What was committed, each time somebody asked: partition, offset.
    pub committed: Vec<BTreeMap<i32, i64>>,
    /// Who took a partition for its own: epoch or generation, partition, names of members.
    pub owners: BTreeMap<(i32, i32), BTreeSet<String>>,
    /// The offsets that members have read, by partition.
    pub consumed: BTreeMap<i32, BTreeSet<i64>>,
}

/// Everything.
#[derive(Default)]
pub struct Book {
    /// By name.
    pub topics: BTreeMap<String, TopicBook>,
    /// Of each group, by name.
    pub groups: BTreeMap<String, GroupBook>,
    /// How often each error was met.
    pub errors: BTreeMap<String, u64>,
    /// What no client should ever see.
    pub findings: Vec<String>,
    /// Partitions that were read to their end: topic, partition.
    pub finished: BTreeSet<(String, i32)>,
    /// Producers so far; each gets a number.
    pub producers: u32,
    /// Members of groups so far; each gets a number.
    pub members: u32,
    /// Records that were acknowledged.
    pub acked: u64,
    /// Groups of records of which a producer does not know yet what became of them.
    pub under_way: usize,
    /// Whether disks are lost in this run.
    pub loses_disks: bool,
    /// Whether disks change what they hold: segments are closed soon then, since only closed ones
    /// are gone through all the time.
    pub bits_flip: bool,
    /// Whether some producers pipeline.
    pub pipelines: bool,
    /// What an administrator was granted.
    pub administered: u64,
}

/// The book of one run; clones are the same one.
#[derive(Clone, Default)]
pub struct SharedBook(Arc<Mutex<Book>>);

impl SharedBook {
    /// For a look or a line; never held across an await.
    pub fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client met this error while doing something.
    pub fn met(&self, doing: &str, error: &ClientError) {
        let word = match error {
            ClientError::Network { error, .. } => format!("{doing}: {}", error.kind()),
            ClientError::Timeout { .. } => format!("{doing}: no answer in time"),
            other => format!("{doing}: {other}"),
        };
        trace::record(format_args!("met {word}"));
        let mut book = self.open();
        if !is_to_be_expected(error) {
            book.findings.push(word.clone());
        }
        *book.errors.entry(word).or_default() += 1;
    }
}

/// Errors that faults explain. Others mean that a broker has lost its way.
fn is_to_be_expected(error: &ClientError) -> bool {
    match error {
        ClientError::Broker { code, .. } => {
            error.is_retriable()
                || matches!(
                    code,
                    ErrorCode::TopicAlreadyExists
                        | ErrorCode::InvalidReplicationFactor
                        | ErrorCode::ElectionNotNeeded
                        | ErrorCode::InvalidPartitions
                        | ErrorCode::EligibleLeadersNotAvailable
                        // A member that was silent for too long.
                        | ErrorCode::UnknownMemberId
                        | ErrorCode::FencedMemberEpoch
                        | ErrorCode::StaleMemberEpoch
                        | ErrorCode::IllegalGeneration
                        | ErrorCode::RebalanceInProgress
                )
        }
        ClientError::Network { .. } | ClientError::Timeout { .. } => true,
        _ => false,
    }
}

impl TopicBook {
    /// Its history, for the checks.
    pub fn history(&self, promise: Promise) -> History {
        let acked = match promise {
            Promise::Exact | Promise::Kept => self.acked.clone(),
            Promise::Hoped => Vec::new(),
        };
        History {
            acked,
            unknown: self.sent.clone(),
            seen: self.seen.clone(),
            watermarks: Vec::new(),
            leaders: Vec::new(),
            log: self.log.clone(),
            idempotent: promise == Promise::Exact,
        }
    }
}
