//! Appending: checks, offsets, a place in a segment, the tail, and a word to the writer.

use std::fmt;

use bytes::Bytes;
use millrace_model::{LeaderEpoch, Offset, Planted, Timestamp};
use millrace_protocol::batch::{Rules, SoleBatch, ValidBatch};

use super::convert;
use super::{Appended, Bounds, Chunk, Log, Mode, State};
use crate::batch;
use crate::error::AppendError;
use crate::producers::Verdict;
use crate::settings::TimestampType;

impl Log {
    /// Checks a batch by the settings of the topic, and packs it as they ask, before it is appended
    /// as leader. `now` is the wall clock. Done without a lock: a checksum takes long, and packing
    /// much longer.
    ///
    /// # Errors
    /// With [`AppendError::Refused`].
    pub fn validate(&self, batch: SoleBatch, now: Timestamp) -> Result<ValidBatch, AppendError> {
        let settings = self.settings();
        let rules = Rules {
            partition: &Partition(self),
            max_message_bytes: settings.max_message_bytes,
            compacted: settings.compact,
            timestamp_type: settings.timestamp_type,
            timestamp_before_max_ms: settings.timestamp_before_max_ms,
            timestamp_after_max_ms: settings.timestamp_after_max_ms,
            now,
        };
        Ok(convert::packed(batch.validate(&rules)?, &settings)?)
    }

    /// Appends a checked batch as the leader of `epoch`: gives it offsets and the epoch in place,
    /// and queues it to be written. `now` is the wall clock. A batch of an idempotent producer that
    /// the log holds already is not appended again but answered with its offsets.
    pub fn append_as_leader(
        &self,
        batch: ValidBatch,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let header = *batch.header();
        let limit = self.settings().segment_bytes;
        if header.size as u64 > limit {
            let size = header.size;
            return Err(AppendError::LargerThanSegment { size, limit });
        }
        let append_time = |time| match header.timestamp_type() {
            TimestampType::CreateTime => Timestamp::NONE,
            TimestampType::LogAppendTime => time,
        };
        let mut state = self.state();
        self.check_appendable(&state)?;
        let newest = state.epochs.last();
        if epoch < newest {
            return Err(AppendError::FencedEpoch { epoch, newest });
        }
        if header.has_producer_id()
            && !Planted::NoSequenceCheck.is_here()
            && let Verdict::Duplicate(known) = state.producers.check(&header, self.id())?
        {
            return Ok(Appended {
                first: known.first_offset(),
                last: known.last_offset,
                append_time: append_time(known.timestamp),
                log_start: state.log_start,
                duplicate: true,
            });
        }
        let first = state.log_end;
        state.epochs.assign(epoch, first);
        let bytes = batch.stamped(first, epoch).freeze();
        self.take_in(&mut state, bytes, now, false);
        Ok(Appended {
            first,
            last: state.log_end.plus(-1),
            append_time: append_time(header.max_timestamp),
            log_start: state.log_start,
            duplicate: false,
        })
    }

    /// Appends batches of the leader as they are; `base` must be the log end, and no batch may
    /// begin before it (gaps are fine: compaction leaves them). Producers and epochs are noted, not
    /// checked.
    pub fn append_as_follower(&self, base: Offset, batches: Bytes) -> Result<Bounds, AppendError> {
        check_chain(base, &batches)?;
        let now = self.shared.host.clock.wall();
        let mut state = self.state();
        self.check_appendable(&state)?;
        if base != state.log_end {
            let log_end = state.log_end;
            return Err(AppendError::NotContiguous { base, log_end });
        }
        if batches.is_empty() {
            return Ok(state.bounds());
        }
        self.take_in(&mut state, batches, now, true);
        Ok(state.bounds())
    }

    fn check_appendable(&self, state: &State) -> Result<(), AppendError> {
        if self.directory().is_offline() {
            return Err(AppendError::Offline);
        }
        if self.directory().is_full() {
            return Err(AppendError::NoSpace);
        }
        match state.mode {
            Mode::Open => Ok(()),
            Mode::Changing => Err(AppendError::Busy),
            Mode::Closed => Err(AppendError::Offline),
            Mode::Deleted => Err(AppendError::Deleted),
        }
    }

    /// Takes checked batches with final offsets in: segment, tail, producers, epochs, writer.
    fn take_in(&self, state: &mut State, batches: Bytes, now: Timestamp, followed: bool) {
        let base = state.log_end;
        let (mut start, mut run): (usize, Option<(Offset, u64)>) = (0, None);
        for (at, header) in batch::whole_batches(&batches) {
            let (segment, position) = state.place(&header, now);
            if let Some((open, open_position)) = run
                && open != segment
            {
                let (end, bytes) = (state.log_end, batches.slice(start..at));
                state.pending.chunks.push(Chunk {
                    segment: open,
                    position: open_position,
                    end,
                    bytes,
                    followed,
                });
                run = None;
            }
            if run.is_none() {
                (start, run) = (at, Some((segment, position)));
            }
            let marker = header
                .is_control()
                .then(|| batch::control_marker(&batches[at..at + header.size]))
                .flatten();
            state.producers.note(&header, marker);
            state.epochs.assign(header.leader_epoch, header.base_offset);
            state.log_end = header.next_offset();
        }
        let Some((segment, position)) = run else {
            return;
        };
        let (end, bytes) = (state.log_end, batches.slice(start..));
        state.pending.chunks.push(Chunk {
            segment,
            position,
            end,
            bytes,
            followed,
        });
        self.account_for(&batches);
        state.tail.push(base, end, batches);
        state.validate();
        self.queue(state);
    }
}

/// A log's name, for messages.
struct Partition<'a>(&'a Log);

impl fmt::Display for Partition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.topic(), self.0.id().index)
    }
}

/// Whether `bytes` are whole batches with rising offsets from `base` on and right checksums.
fn check_chain(base: Offset, bytes: &[u8]) -> Result<(), AppendError> {
    let (mut position, mut next) = (0, base);
    while position < bytes.len() {
        let rest = &bytes[position..];
        let header = batch::parse(rest).map_err(AppendError::Corrupt)?;
        if header.size > rest.len() {
            let why = format!("a batch of {} bytes has only {}", header.size, rest.len());
            return Err(AppendError::Corrupt(why));
        }
        if header.base_offset < next {
            let why = format!("a batch at {} where {next} comes next", header.base_offset);
            return Err(AppendError::Corrupt(why));
        }
        if !batch::crc_matches(rest) {
            let why = format!(
                "the checksum of the batch at {} is wrong",
                header.base_offset
            );
            return Err(AppendError::Corrupt(why));
        }
        next = header.next_offset();
        position += header.size;
    }
    Ok(())
}
