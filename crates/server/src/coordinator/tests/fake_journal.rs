//! A log in memory, committed at once or when a test says so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use millrace_model::{ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::batch::{
    BatchBuilder, BatchHeader, BatchOptions, ControlType, Refusal, stamp,
};
use millrace_replication::AppendFailure;
use millrace_storage::AppendError;
use tokio::sync::Notify;

use crate::coordinator::{Journal, Lost, ReadFault, Standing};

#[derive(Clone, Copy, PartialEq)]
enum Role {
    NotYet,
    Leading,
    Lost,
}

struct State {
    batches: Vec<Bytes>,
    log_end: Offset,
    high_watermark: Offset,
    holds: bool,
    cut_off: bool,
    role: Role,
    failure: Option<AppendFailure>,
    limit: usize,
}

pub struct FakeJournal {
    state: Mutex<State>,
    changed: Notify,
    reads: AtomicUsize,
}

impl FakeJournal {
    pub fn leading() -> Arc<FakeJournal> {
        Arc::new(FakeJournal {
            state: Mutex::new(State {
                batches: Vec::new(),
                log_end: Offset(0),
                high_watermark: Offset(0),
                holds: false,
                cut_off: false,
                role: Role::Leading,
                failure: None,
                limit: 1_000_000,
            }),
            changed: Notify::new(),
            reads: AtomicUsize::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_one();
    }

    /// From now on nothing is committed by itself.
    pub fn hold_commits(&self) {
        self.change(|state| state.holds = true);
    }

    pub fn commit(&self, to: i64) {
        self.change(|state| state.high_watermark = Offset(to));
    }

    /// Whether nobody is heard; tells nobody of it, as nothing does.
    pub fn cut_off(&self, cut_off: bool) {
        self.state().cut_off = cut_off;
    }

    pub fn lose(&self) {
        self.change(|state| state.role = Role::Lost);
    }

    pub fn stand_back(&self) {
        self.change(|state| state.role = Role::NotYet);
    }

    pub fn lead(&self) {
        self.change(|state| state.role = Role::Leading);
    }

    pub fn fail_next(&self, failure: AppendFailure) {
        self.state().failure = Some(failure);
    }

    pub fn limit_batches(&self, bytes: usize) {
        self.state().limit = bytes;
    }

    fn headers(&self) -> Vec<BatchHeader> {
        let state = self.state();
        let headers = state.batches.iter();
        headers.map(|b| BatchHeader::parse(b).unwrap()).collect()
    }

    /// The number of records of each batch.
    pub fn batches(&self) -> Vec<usize> {
        let headers = self.headers().into_iter();
        headers
            .map(|h| usize::try_from(h.record_count).unwrap())
            .collect()
    }

    /// The producer of each batch, -1 outside of transactions.
    pub fn producers(&self) -> Vec<i64> {
        let producer = |header: BatchHeader| {
            assert_eq!(header.is_transactional(), header.producer_id.get() >= 0);
            header.producer_id.get()
        };
        self.headers().into_iter().map(producer).collect()
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    pub fn append_marker(self: &Arc<Self>, producer: i64, committed: bool) {
        let mut batch = BatchBuilder::new(BatchOptions {
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            transactional: true,
            control: true,
            ..BatchOptions::default()
        });
        let kind = match committed {
            true => ControlType::Commit,
            false => ControlType::Abort,
        };
        batch.push(Timestamp(0), Some(&kind.key()), Some(&[0; 6]), &[]);
        self.append(batch.build().unwrap()).unwrap();
    }
}

impl Journal for Arc<FakeJournal> {
    async fn leading(&self) -> Result<Standing, Lost> {
        while self.state().role == Role::NotYet {
            self.changed.notified().await;
        }
        self.standing()
    }

    fn standing(&self) -> Result<Standing, Lost> {
        let state = self.state();
        match state.role {
            Role::Leading => Ok(Standing {
                log_start: Offset(0),
                log_end: state.log_end,
                high_watermark: state.high_watermark,
                is_cut_off: state.cut_off,
            }),
            _ => Err(Lost),
        }
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn room(&self) {}

    fn has_room(&self) -> bool {
        true
    }

    fn append(&self, mut batch: BytesMut) -> Result<Offset, AppendFailure> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        if batch.len() > state.limit {
            let refusal = Refusal {
                code: ErrorCode::MessageTooLarge,
                message: format!("{} bytes are too many", batch.len()),
                records: Vec::new(),
            };
            return Err(AppendError::Refused(refusal).into());
        }
        stamp(&mut batch, state.log_end, LeaderEpoch(0));
        state.log_end = BatchHeader::parse(&batch).unwrap().next_offset();
        state.batches.push(batch.freeze());
        if !state.holds {
            state.high_watermark = state.log_end;
            drop(state);
            self.changed.notify_one();
            return Ok(self.state().log_end);
        }
        Ok(state.log_end)
    }

    fn max_batch_bytes(&self) -> usize {
        self.state().limit
    }

    async fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Bytes>, ReadFault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let state = self.state();
        let mut left = max_bytes;
        let mut parts = Vec::new();
        for batch in &state.batches {
            let header = BatchHeader::parse(batch).unwrap();
            if header.next_offset() <= from {
                continue;
            }
            if batch.len() > left && !parts.is_empty() {
                break;
            }
            left = left.saturating_sub(batch.len());
            parts.push(batch.clone());
        }
        Ok(parts)
    }
}
