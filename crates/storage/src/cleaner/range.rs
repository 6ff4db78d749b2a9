//! Which part of a log may be compacted, and how much it needs it (Kafka class
//! `LogCleanerManager`).

use std::sync::Arc;

use millrace_host::disk::OpenMode;
use millrace_model::{Offset, Timestamp};

use crate::error::{StorageError, While};
use crate::log::{Log, Mode, State};
use crate::names::{self, FileKind};
use crate::scan::{Scanner, Step};

/// What may be compacted of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// The first offset not compacted before.
    pub(crate) first_dirty: Offset,
    /// Where it ends: the beginning of a segment.
    pub(crate) upper: Offset,
    /// The share of what is dirty and may be compacted in all that may be.
    pub(crate) ratio: f64,
    /// Whether it must be, for `max.compaction.lag.ms`.
    pub(crate) overdue: bool,
}

impl Range {
    /// Whether there is enough to do.
    pub(crate) fn is_due(&self, min_cleanable_ppm: u32) -> bool {
        self.upper > self.first_dirty
            && (self.overdue || self.ratio * 1e6 > f64::from(min_cleanable_ppm))
    }
}

/// What may be compacted of a log whose checkpoint is `cleaned`; may wait for the disk. Nothing of
/// a log that cannot be worked on.
pub(crate) fn of(
    log: &Arc<Log>,
    cleaned: Option<Offset>,
    now: Timestamp,
) -> Result<Option<Range>, StorageError> {
    let (first_dirty, bound, settings, closed) = {
        let state = log.state();
        if state.mode != Mode::Open || log.is_offline() {
            return Ok(None);
        }
        let known = cleaned.filter(|at| (state.log_start..=state.log_end).contains(at));
        let first_dirty = known.unwrap_or(state.log_start);
        let bound = state.uncleanable_from();
        let closed: Vec<Offset> = state.segments.iter().map(|segment| segment.base).collect();
        (first_dirty, bound, state.settings.clone(), closed)
    };
    // Only closed segments that the dirty part reaches into.
    let from = closed.partition_point(|base| *base <= first_dirty).max(1) - 1;
    let dirty = &closed[from..closed.len() - 1];
    let mut upper = bound;
    if settings.min_compaction_lag_ms > 0 {
        let youngest = now.get().saturating_sub(settings.min_compaction_lag_ms);
        for base in dirty {
            if log.newest_time(*base)?.get() > youngest {
                upper = upper.min(*base);
                break;
            }
        }
    }
    let mut overdue = false;
    if settings.max_compaction_lag_ms < i64::MAX {
        let until = now.get().saturating_sub(settings.max_compaction_lag_ms);
        for base in dirty {
            let first = first_time(log, *base)?.get();
            overdue |= first > 0 && first < until;
        }
    }
    let state = log.state();
    let upper = state.segments[state.floor(upper)].base.max(first_dirty);
    Ok(Some(Range {
        first_dirty,
        upper,
        ratio: state.dirty_ratio(first_dirty, upper),
        overdue,
    }))
}

impl State {
    /// Nothing from here on may be compacted: what is not committed, transactions that are open,
    /// the active segment.
    fn uncleanable_from(&self) -> Offset {
        let open = self.producers.first_open_transaction();
        let active = self.active().base;
        let bound = self.high_watermark.min(active);
        open.map_or(bound, |open| bound.min(open))
    }

    #[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
    fn dirty_ratio(&self, first_dirty: Offset, upper: Offset) -> f64 {
        let (mut clean, mut dirty) = (0, 0);
        for (place, segment) in self.segments.iter().enumerate() {
            if segment.base >= upper {
                break;
            }
            let next = self.segments.get(place + 1);
            if next.is_some_and(|next| next.base <= first_dirty) {
                clean += segment.size;
            } else {
                dirty += segment.size;
            }
        }
        match clean + dirty {
            0 => 0.0,
            all => dirty as f64 / all as f64,
        }
    }
}

/// The largest timestamp of a segment's first batch.
fn first_time(log: &Log, base: Offset) -> Result<Timestamp, StorageError> {
    let known = log
        .state()
        .segment_mut(base)
        .and_then(|s| s.first_timestamp);
    if let Some(known) = known {
        return Ok(known);
    }
    let path = log.path().join(names::file(base, FileKind::Log));
    let disk = log.shared.host.disk.as_ref();
    let file = disk.open(&path, OpenMode::Read).doing("opening", &path)?;
    let end = file.len().doing("reading", &path)?;
    let step = Scanner::heads(file.as_ref(), 0, end).next_head();
    let first = match step.doing("reading", &path)? {
        Step::Batch(_, header) => header.max_timestamp,
        Step::End | Step::Torn(_) => Timestamp::NONE,
    };
    if let Some(segment) = log.state().segment_mut(base) {
        segment.first_timestamp = Some(first);
    }
    Ok(first)
}
