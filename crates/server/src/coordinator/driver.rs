//! One partition's driver: a task that owns the shard.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_coordinator::{Input, Now, Origin, ReplyTo, Shard};
use millrace_host::Clock;
use millrace_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::compression::Compression;
use millrace_replication::AppendFailure;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::Pending;
use super::family::{Encoded, Family};
use super::journal::{Journal, Lost};
use crate::api::errors::code_of_append;

/// Decisions taken before what they remember is appended, at most.
const MAX_DECISIONS_IN_BATCH: usize = 512;

/// The longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How soon a driver that is cut off looks again whether it is heard.
const CUT_OFF_PAUSE: Duration = Duration::from_millis(50);

/// How a driver works.
#[derive(Clone, Copy, Debug)]
pub struct DriverOptions {
    /// How long an answer waits for the high watermark (`offsets.commit.timeout.ms`).
    pub commit_timeout: Duration,
    /// How batches are packed (`offsets.topic.compression.codec`).
    pub compression: Compression,
    /// Bytes read at once when loading (`offsets.load.buffer.size`).
    pub load_bytes: usize,
}

/// What a caller is told: errors are those of the log, and NOT_COORDINATOR.
pub(super) type Answer<F> = Result<<F as Family>::Response, ErrorCode>;

/// A request on its way to the driver.
pub(super) struct Call<F: Family> {
    pub(super) request: F::Request,
    pub(super) reply: oneshot::Sender<Answer<F>>,
}

/// What comes to a driver from within the broker.
pub(super) enum Order<F: Family> {
    /// The cluster has changed.
    Notice(F::Notice),
    /// An operator wants to know.
    Measure(oneshot::Sender<F::Measures>),
}

/// What a driver listens to.
pub(super) struct Inlets<F: Family> {
    pub(super) calls: mpsc::Receiver<Call<F>>,
    /// Not bounded, since they come no faster than images are applied and metrics are scraped.
    pub(super) orders: mpsc::UnboundedReceiver<Order<F>>,
}

/// What a driver is made with.
pub(super) struct DriverParts<F: Family, J> {
    pub(super) family: Arc<F>,
    pub(super) partition: i32,
    pub(super) journal: J,
    pub(super) clock: Clock,
    pub(super) options: DriverOptions,
    pub(super) inlets: Inlets<F>,
    /// Set once calls are served.
    pub(super) loaded: Arc<AtomicBool>,
    pub(super) stopping: CancellationToken,
}

/// Drives the shard of one partition for one leadership. When it is dropped, so are all callers
/// that wait: they are told NOT_COORDINATOR.
pub(super) struct Driver<F: Family, J> {
    pub(super) family: Arc<F>,
    pub(super) partition: i32,
    pub(super) journal: J,
    pub(super) clock: Clock,
    /// Where the shard's steady clock began.
    began: Instant,
    pub(super) options: DriverOptions,
    pub(super) shard: F::Shard,
    /// Where the log ends, as far as the shard has applied it.
    pub(super) log_end: Offset,
    inlets: Inlets<F>,
    inbox: Vec<Call<F>>,
    loaded: Arc<AtomicBool>,
    stopping: CancellationToken,
    callers: BTreeMap<ReplyTo, oneshot::Sender<Answer<F>>>,
    last_caller: u64,
    pending: Pending<F::Record, F::Response>,
    unanswered: VecDeque<Unanswered<F::Response>>,
    /// What is committed for sure; nothing while this broker is cut off.
    high_watermark: Option<Offset>,
}

/// Answers that wait for the high watermark.
struct Unanswered<Response> {
    /// What it must reach.
    end: Offset,
    deadline: Instant,
    replies: Vec<(ReplyTo, Response)>,
}

enum Event<F: Family> {
    Called,
    Ordered(Order<F>),
    LogChanged,
    Due,
    Stopped,
}

impl<F: Family, J: Journal> Driver<F, J> {
    pub(super) fn new(parts: DriverParts<F, J>) -> Driver<F, J> {
        Driver {
            shard: parts.family.shard(parts.partition),
            family: parts.family,
            began: parts.clock.now(),
            partition: parts.partition,
            journal: parts.journal,
            clock: parts.clock,
            options: parts.options,
            log_end: Offset::ZERO,
            inlets: parts.inlets,
            inbox: Vec::new(),
            loaded: parts.loaded,
            stopping: parts.stopping,
            callers: BTreeMap::new(),
            last_caller: 0,
            pending: Pending::default(),
            unanswered: VecDeque::new(),
            high_watermark: None,
        }
    }

    /// Loads the shard and serves it until the leadership is over.
    pub(super) async fn run(mut self) {
        let stopping = self.stopping.clone();
        if stopping.run_until_cancelled(self.load()).await != Some(Ok(())) {
            return;
        }
        self.decide_alone(Input::Loaded);
        self.loaded.store(true, Ordering::Release);
        while self.settle().is_ok() {
            let event = self.next().await;
            // It may have waited for long.
            if self.settle().is_err() {
                break;
            }
            match event {
                Event::Called => {
                    self.journal.room().await;
                    self.take_calls();
                }
                Event::Ordered(Order::Notice(notice)) => self.decide_alone(Input::Notice(notice)),
                Event::Ordered(Order::Measure(reply)) => {
                    // Who asked may have given up.
                    let _ = reply.send(self.family.measure(&self.shard));
                }
                Event::LogChanged => {}
                Event::Due => self.tick(),
                Event::Stopped => return,
            }
        }
        tracing::debug!(
            topic = self.family.topic(),
            partition = self.partition,
            "a coordinator's partition is not led here any more"
        );
    }

    async fn next(&mut self) -> Event<F> {
        let due = self.due();
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Event::Stopped,
            () = self.journal.changed() => Event::LogChanged,
            Some(order) = self.inlets.orders.recv() => Event::Ordered(order),
            calls = self.inlets.calls.recv_many(&mut self.inbox, MAX_DECISIONS_IN_BATCH) => match calls {
                0 => Event::Stopped,
                _ => Event::Called,
            },
            () = tokio::time::sleep_until(due) => Event::Due,
        }
    }

    /// When there is something to do though nobody calls.
    fn due(&self) -> Instant {
        let now = self.clock.now();
        let longest = now + LONGEST_SLEEP;
        let shard = self.shard.next_deadline().map_or(longest, |deadline| {
            let wait = deadline.get().saturating_sub(self.clocks().steady.get());
            now + Duration::from_millis(u64::try_from(wait).unwrap_or(0))
        });
        let answers = match (self.unanswered.front(), self.high_watermark) {
            (Some(_), None) => now + CUT_OFF_PAUSE,
            (Some(first), Some(_)) => first.deadline,
            (None, _) => longest,
        };
        shard.min(longest).min(answers)
    }

    fn take_calls(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for call in inbox.drain(..) {
            self.take(call);
        }
        self.inbox = inbox;
        self.flush();
    }

    fn take(&mut self, Call { request, reply }: Call<F>) {
        let subject = self.family.subject(&request);
        if self.pending.concerns(subject) {
            self.flush();
        }
        self.last_caller += 1;
        let from = ReplyTo(self.last_caller);
        self.callers.insert(from, reply);
        self.decide(subject, Input::Request { from, request });
    }

    /// The time, as shards go by it.
    fn clocks(&self) -> Now {
        let steady = self.clock.now().saturating_duration_since(self.began);
        Now {
            steady: Timestamp(i64::try_from(steady.as_millis()).unwrap_or(i64::MAX)),
            wall: self.clock.wall(),
        }
    }

    fn tick(&mut self) {
        let now = self.clocks().steady;
        if self.shard.next_deadline().is_some_and(|due| due <= now) {
            self.decide_alone(Input::Tick);
        }
    }

    /// Takes a decision that may be about anything.
    fn decide_alone(&mut self, input: Input<F::Request, F::Notice>) {
        self.flush();
        self.decide(None, input);
        self.flush();
    }

    fn decide(&mut self, subject: Option<i32>, input: Input<F::Request, F::Notice>) {
        let world = self.family.world();
        let view = self.family.view(&world);
        let effects = self.shard.handle(input, self.clocks(), view);
        if effects.records.is_empty() {
            return self.answer_at(self.log_end, effects.replies);
        }
        if effects.producer.is_some() || !effects.atomic {
            self.flush();
        }
        let encoded = effects.records.iter().map(|r| self.family.encode(r));
        let encoded: Vec<Encoded> = match encoded.collect() {
            Ok(encoded) => encoded,
            Err(why) => {
                tracing::error!(
                    topic = self.family.topic(),
                    why,
                    "a record cannot be written"
                );
                return self.refuse(effects.replies, ErrorCode::UnknownServerError);
            }
        };
        let producer = effects.producer;
        let records = effects.records.into_iter().zip(encoded);
        if effects.atomic {
            self.add_whole(subject, producer, records.collect(), effects.replies);
        } else {
            self.add_in_pieces(subject, records, effects.replies);
        }
        if producer.is_some() {
            self.flush();
        }
    }

    fn add_whole(
        &mut self,
        subject: Option<i32>,
        producer: Option<(ProducerId, ProducerEpoch)>,
        records: Vec<(F::Record, Encoded)>,
        replies: Vec<(ReplyTo, F::Response)>,
    ) {
        let bytes = records.iter().map(|(_, encoded)| encoded.size()).sum();
        if !self.pending.has_room(bytes, self.journal.max_batch_bytes()) {
            self.flush();
        }
        self.pending.producer = producer;
        self.pending.add(subject, records, replies);
    }

    /// Adds records that need not share a batch; the answers come with the last of them.
    fn add_in_pieces(
        &mut self,
        subject: Option<i32>,
        records: impl Iterator<Item = (F::Record, Encoded)>,
        replies: Vec<(ReplyTo, F::Response)>,
    ) {
        let limit = self.journal.max_batch_bytes();
        for (record, encoded) in records {
            if !self.pending.has_room(encoded.size(), limit)
                && let Err(code) = self.append_pending()
            {
                return self.refuse(replies, code);
            }
            self.pending.add(subject, [(record, encoded)], Vec::new());
        }
        self.pending.replies.extend(replies);
    }

    /// Appends what was decided; who waits for it learns what came of it.
    fn flush(&mut self) {
        let _ = self.append_pending();
    }

    /// Appends what was decided, and applies it; else refuses who waits for it.
    fn append_pending(&mut self) -> Result<(), ErrorCode> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let batch = pending.batch(self.options.compression, self.clock.wall());
        let appended = match batch {
            Ok(batch) => self.journal.append(batch),
            Err(error) => {
                tracing::error!(%error, "cannot pack a coordinator's records");
                Err(AppendFailure::Offline)
            }
        };
        match appended {
            Ok(end) => {
                let count = i64::try_from(pending.records.len()).unwrap_or(i64::MAX);
                let producer = pending.producer.map(|(id, _)| id);
                for (offset, record) in (end.get() - count..).map(Offset).zip(pending.records) {
                    self.shard.replay(record, Origin { offset, producer });
                }
                self.log_end = end;
                self.answer_at(end, pending.replies);
                Ok(())
            }
            Err(failure) => {
                let topic = self.family.topic();
                tracing::info!(topic, partition = self.partition, %failure, "a decision failed");
                let code = code_of_append(&failure);
                self.refuse(pending.replies, code);
                Err(code)
            }
        }
    }

    fn refuse(&mut self, replies: Vec<(ReplyTo, F::Response)>, error: ErrorCode) {
        for (to, _) in replies {
            self.answer(to, Err(error));
        }
    }

    /// Answers once the high watermark has reached `end`.
    fn answer_at(&mut self, end: Offset, replies: Vec<(ReplyTo, F::Response)>) {
        if replies.is_empty() {
            return;
        }
        if self.high_watermark >= Some(end) {
            for (to, response) in replies {
                self.answer(to, Ok(response));
            }
            return;
        }
        let deadline = self.clock.now() + self.options.commit_timeout;
        self.unanswered.push_back(Unanswered {
            end,
            deadline,
            replies,
        });
    }

    /// Answers what is committed by now, and what waited too long.
    fn settle(&mut self) -> Result<(), Lost> {
        let standing = self.journal.standing()?;
        self.high_watermark = (!standing.is_cut_off).then_some(standing.high_watermark);
        let now = self.clock.now();
        while let Some(first) = self.unanswered.front() {
            let committed = Some(first.end) <= self.high_watermark;
            if !committed && first.deadline > now {
                break;
            }
            let Some(first) = self.unanswered.pop_front() else {
                break;
            };
            for (to, response) in first.replies {
                let late = Err(ErrorCode::RequestTimedOut);
                self.answer(to, if committed { Ok(response) } else { late });
            }
        }
        Ok(())
    }

    fn answer(&mut self, to: ReplyTo, answer: Answer<F>) {
        if let Some(caller) = self.callers.remove(&to) {
            // Who has gone meanwhile asks again, or not.
            let _ = caller.send(answer);
        }
    }
}
