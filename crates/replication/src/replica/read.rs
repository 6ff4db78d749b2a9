//! The one read that all readers go through.

use millrace_model::{LeaderEpoch, Offset, Planted};
use millrace_storage::{ReadError, ReadPlan};

use super::{Inner, LogRef, Replica};
use crate::core::{LogView, Role};
use crate::failure::ReadFailure;

/// How far a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// Consumers that read uncommitted.
    HighWatermark,
    /// Consumers that read committed.
    LastStable,
    /// Everything that is there; for replicas and for debugging.
    LogEnd,
}

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// The first offset wanted.
    pub from: Offset,
    /// Bytes of batches at most.
    pub max_bytes: usize,
    /// Whether the first batch is given even if it is larger.
    pub at_least_one: bool,
    /// How far the reader sees.
    pub upper: Upper,
    /// The leadership the reader knows.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Epoch of the record before `from`, in the reader's eyes (KIP-320).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Whether a follower may answer (KIP-392).
    pub allow_follower: bool,
}

/// What was found.
pub struct ReadResult {
    /// The batches, or how to load them.
    pub plan: ReadPlan,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// The first offset of the log.
    pub log_start: Offset,
    /// The reader's log parts from this one: its last epoch, or the largest before it, ends here.
    /// No batches are given then.
    pub diverging: Option<(LeaderEpoch, Offset)>,
}

/// Where a log stands, for ListOffsets and OffsetForLeaderEpoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetsView {
    /// The first offset of the log.
    pub log_start: Offset,
    /// The epoch of the first record; the leader's own if the log is empty.
    pub log_start_epoch: LeaderEpoch,
    /// The offset the next record gets.
    pub log_end: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable: Offset,
    /// The leadership.
    pub leader_epoch: LeaderEpoch,
    settled: bool,
}

impl OffsetsView {
    /// Whether the high watermark has reached what an earlier leader may have shown; until then the
    /// latest offset is OFFSET_NOT_AVAILABLE.
    pub fn is_settled(&self) -> bool {
        self.settled
    }
}

impl Replica {
    /// Reads batches, up to where the reader may see. A reader beyond that gets nothing, which is
    /// no error. A follower does not judge offsets beyond its own log: the leader may have exposed
    /// them (KIP-392).
    ///
    /// # Errors
    /// See [`ReadFailure`].
    pub fn read(&self, request: &ReadRequest) -> Result<ReadResult, ReadFailure> {
        let (mut result, follows) = {
            let inner = self.lock();
            inner.check_reader(request.current_leader_epoch, request.allow_follower)?;
            let follows = matches!(inner.core.role(), Role::Follower(_));
            let result = ReadResult {
                plan: ReadPlan::empty(),
                high_watermark: inner.core.high_watermark(),
                last_stable: inner.core.last_stable(),
                log_start: inner.core.bounds().log_start,
                diverging: None,
            };
            (result, follows)
        };
        let log = self.log();
        if let Some(epoch) = request.last_fetched_epoch {
            let (known, end) = log.end_offset_for(epoch);
            if known < epoch || end < request.from {
                result.diverging = Some((known, end));
                return Ok(result);
            }
        }
        let upper = match request.upper {
            _ if Planted::ReadsUncommitted.is_here() => Offset(i64::MAX),
            Upper::HighWatermark => result.high_watermark,
            Upper::LastStable => result.last_stable,
            Upper::LogEnd => Offset(i64::MAX),
        };
        let ReadRequest {
            from,
            max_bytes,
            at_least_one,
            ..
        } = *request;
        result.plan = log
            .read(from, max_bytes, upper, at_least_one)
            .map_err(|error| failure(&error, follows))?;
        Ok(result)
    }

    /// Where the log stands, if this broker may tell a client that knows the leadership of
    /// `current_leader_epoch`.
    ///
    /// # Errors
    /// See [`ReadFailure`].
    pub fn offsets(
        &self,
        current_leader_epoch: Option<LeaderEpoch>,
        allow_follower: bool,
    ) -> Result<OffsetsView, ReadFailure> {
        let inner = self.lock();
        inner.check_reader(current_leader_epoch, allow_follower)?;
        let log = LogRef {
            log: self.log.get(),
            synced: inner.synced,
        };
        let bounds = log.bounds();
        let leader_epoch = inner.core.epoch();
        let log_start_epoch = match log.log {
            Some(log) if bounds.log_start < bounds.log_end => log.epoch_at(bounds.log_start),
            _ => leader_epoch,
        };
        Ok(OffsetsView {
            log_start: bounds.log_start,
            log_start_epoch,
            log_end: bounds.log_end,
            high_watermark: inner.core.high_watermark(),
            last_stable: inner.core.last_stable(),
            leader_epoch,
            settled: inner.core.is_settled(),
        })
    }
}

impl Inner {
    fn check_reader(
        &self,
        known: Option<LeaderEpoch>,
        allow_follower: bool,
    ) -> Result<(), ReadFailure> {
        let serves = match self.core.role() {
            Role::Leader { serving } => serving,
            Role::Follower(_) => allow_follower,
            Role::Offline => {
                let why = "the log directory has failed".to_owned();
                return Err(ReadFailure::Storage(why));
            }
            Role::Idle => false,
        };
        let current = self.core.epoch();
        match known {
            Some(known) if known < current => Err(ReadFailure::FencedEpoch { current }),
            Some(known) if known > current && current != LeaderEpoch::NONE => {
                Err(ReadFailure::UnknownEpoch { current })
            }
            _ if serves => Ok(()),
            _ => Err(ReadFailure::NotLeader),
        }
    }
}

fn failure(error: &ReadError, follows: bool) -> ReadFailure {
    match *error {
        ReadError::OutOfRange { from, log_end, .. } if follows && from > log_end => {
            ReadFailure::NotYet { from, log_end }
        }
        ReadError::OutOfRange {
            from,
            log_start,
            log_end,
        } => ReadFailure::OutOfRange {
            from,
            log_start,
            log_end,
        },
        ReadError::Damaged { from, to } => ReadFailure::Damaged { from, to },
        ReadError::Changed | ReadError::Deleted => ReadFailure::NotLeader,
        ReadError::Offline | ReadError::Storage(_) => ReadFailure::Storage(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R16: what a leader has exposed is not out of range for a reader of a follower that lags.
    #[test]
    fn only_a_leader_calls_an_offset_beyond_its_log_out_of_range() {
        let error = |from| ReadError::OutOfRange {
            from: Offset(from),
            log_start: Offset(10),
            log_end: Offset(20),
        };
        let beyond = |follows| failure(&error(21), follows);
        assert!(matches!(beyond(true), ReadFailure::NotYet { .. }));
        assert!(matches!(beyond(false), ReadFailure::OutOfRange { .. }));
        let before = failure(&error(9), true);
        assert!(matches!(before, ReadFailure::OutOfRange { .. }));
    }
}
