//! Appending: checks, offsets, a place in a segment, the tail, and a word to the writer.

use bytes::{Bytes, BytesMut};
use millrace_model::{LeaderEpoch, Offset, Planted, Timestamp};

use super::convert;
use super::validate;
use super::{Appended, Bounds, Chunk, Log, Mode, State};
use crate::batch;
use crate::error::AppendError;
use crate::producers::{Producers, Remembered, Verdict};
use crate::settings::TimestampType;

impl Log {
    /// Appends batches of a client as the leader of `epoch`: checks them, gives them offsets and
    /// the epoch in place, and queues them to be written. `now` is the wall clock. A batch of an
    /// idempotent producer that the log holds already is not appended again but answered with its
    /// offsets.
    ///
    /// Batch heads and checksums are checked, records are not looked into.
    pub fn append_as_leader(
        &self,
        mut batches: BytesMut,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let settings = self.settings();
        let count = validate::batches(&mut batches, &settings, now)?;
        let mut batches = convert::batches(batches, &settings)?;
        let mut state = self.state();
        self.check_appendable(&state)?;
        let newest = state.epochs.last();
        if epoch < newest {
            return Err(AppendError::FencedEpoch { epoch, newest });
        }
        if let Some(known) = self.check_producers(&state, &batches, count)? {
            return Ok(Appended {
                first: known.first_offset(),
                last: known.last_offset,
                append_time: match settings.timestamp_type {
                    TimestampType::CreateTime => Timestamp::NONE,
                    TimestampType::LogAppendTime => known.timestamp,
                },
                log_start: state.log_start,
                duplicate: true,
            });
        }
        let first = state.log_end;
        stamp_all(&mut batches, first, epoch);
        state.epochs.assign(epoch, first);
        self.take_in(&mut state, batches.freeze(), now, false);
        let append_time = match settings.timestamp_type {
            TimestampType::CreateTime => Timestamp::NONE,
            TimestampType::LogAppendTime => now,
        };
        let (last, log_start) = (state.log_end.plus(-1), state.log_start);
        Ok(Appended {
            first,
            last,
            append_time,
            log_start,
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
        if self.directory.is_offline() {
            return Err(AppendError::Offline);
        }
        if self.directory.is_full() {
            return Err(AppendError::NoSpace);
        }
        match state.mode {
            Mode::Open => Ok(()),
            Mode::Changing => Err(AppendError::Busy),
            Mode::Closed => Err(AppendError::Offline),
            Mode::Deleted => Err(AppendError::Deleted),
        }
    }

    /// Checks the sequences of idempotent producers; gives the batch seen before if there is one.
    fn check_producers(
        &self,
        state: &State,
        batches: &[u8],
        count: usize,
    ) -> Result<Option<Remembered>, AppendError> {
        // Several batches at once follow each other, so each is checked after the ones before it.
        let mut scratch: Option<Producers> = None;
        for (_, header) in batch::whole_batches(batches) {
            if !header.has_producer_id() || Planted::NoSequenceCheck.is_here() {
                continue;
            }
            let producers = scratch.as_ref().unwrap_or(&state.producers);
            if let Verdict::Duplicate(known) = producers.check(&header, self.id())? {
                return Ok(Some(known));
            }
            if count > 1 {
                let producers = scratch.get_or_insert_with(|| state.producers.clone());
                producers.note(&header, None);
            }
        }
        Ok(None)
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

/// Gives batches that follow one another their offsets and the leader's epoch.
fn stamp_all(bytes: &mut [u8], first: Offset, epoch: LeaderEpoch) {
    let (mut position, mut next) = (0, first);
    while let Ok(header) = batch::parse(&bytes[position..]) {
        batch::stamp(&mut bytes[position..], next, epoch);
        position += header.size;
        next = next.plus(i64::from(header.last_offset_delta) + 1);
        if position >= bytes.len() {
            break;
        }
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
