//! One partition's driver: it owns the shard, has it decide, appends and answers. Its task, and
//! callers that come themselves, meet at a [`super::desk::Desk`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millrace_coordinator::{Input, Now, Origin, ReplyTo, Shard};
use millrace_host::Clock;
use millrace_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Timestamp};
use millrace_protocol::compression::Compression;
use millrace_replication::AppendFailure;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::batch::Pending;
use super::family::{Encoded, Family};
use super::journal::{Journal, Lost};
use crate::api::errors::code_of_append;

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

/// What a driver is made with.
pub(super) struct DriverParts<F: Family, J> {
    pub(super) family: Arc<F>,
    pub(super) partition: i32,
    pub(super) journal: Arc<J>,
    pub(super) clock: Clock,
    pub(super) options: DriverOptions,
}

/// Drives the shard of one partition for one leadership.
pub(super) struct Driver<F: Family, J> {
    pub(super) family: Arc<F>,
    pub(super) partition: i32,
    pub(super) journal: Arc<J>,
    pub(super) clock: Clock,
    /// Where the shard's steady clock began.
    began: Instant,
    pub(super) options: DriverOptions,
    pub(super) shard: F::Shard,
    /// Where the log ends, as far as the shard has applied it.
    pub(super) log_end: Offset,
    callers: BTreeMap<ReplyTo, oneshot::Sender<Answer<F>>>,
    /// The caller that is here itself, and what it is answered.
    present: Option<(ReplyTo, Option<Answer<F>>)>,
    last_caller: u64,
    pending: Pending<F::Record, F::Response>,
    unanswered: VecDeque<Unanswered<F::Response>>,
    /// What is committed for sure; nothing while this broker is cut off.
    high_watermark: Option<Offset>,
    /// Until when its task sleeps if nothing happens.
    sleeps_until: Instant,
    /// The leadership is over.
    is_over: bool,
}

/// Answers that wait for the high watermark.
struct Unanswered<Response> {
    /// What it must reach.
    end: Offset,
    deadline: Instant,
    replies: Vec<(ReplyTo, Response)>,
}

impl<F: Family, J: Journal> Driver<F, J> {
    pub(super) fn new(parts: DriverParts<F, J>) -> Driver<F, J> {
        Driver {
            shard: parts.family.shard(parts.partition),
            family: parts.family,
            began: parts.clock.now(),
            sleeps_until: parts.clock.now(),
            partition: parts.partition,
            journal: parts.journal,
            clock: parts.clock,
            options: parts.options,
            log_end: Offset::ZERO,
            callers: BTreeMap::new(),
            present: None,
            last_caller: 0,
            pending: Pending::default(),
            unanswered: VecDeque::new(),
            high_watermark: None,
            is_over: false,
        }
    }

    /// Ends the leadership: whoever waits, and whoever comes, is told NOT_COORDINATOR.
    pub(super) fn close(&mut self) {
        self.is_over = true;
        self.callers.clear();
    }

    /// Notes that its task sleeps if nothing happens, and until when.
    pub(super) fn fall_asleep(&mut self) -> Instant {
        self.sleeps_until = self.due();
        self.sleeps_until
    }

    /// Whether its task sleeps too long.
    pub(super) fn is_due_earlier(&self) -> bool {
        self.due() < self.sleeps_until
    }

    /// Decides for a caller that is here itself: what it is answered, or how it will be.
    pub(super) fn decide_for(
        &mut self,
        request: F::Request,
    ) -> Result<Answer<F>, oneshot::Receiver<Answer<F>>> {
        if self.is_over || self.settle().is_err() {
            return Ok(Err(ErrorCode::NotCoordinator));
        }
        debug_assert!(self.pending.is_empty(), "what was decided is appended");
        let from = self.next_caller();
        self.present = Some((from, None));
        let subject = self.family.subject(&request);
        self.decide(subject, Input::Request { from, request });
        self.flush();
        match self.present.take() {
            Some((_, Some(answer))) => Ok(answer),
            _ => {
                let (reply, answer) = oneshot::channel();
                self.callers.insert(from, reply);
                Err(answer)
            }
        }
    }

    fn next_caller(&mut self) -> ReplyTo {
        self.last_caller += 1;
        ReplyTo(self.last_caller)
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

    /// Takes the calls that came by the queue.
    pub(super) fn take_calls(&mut self, calls: &mut Vec<Call<F>>) {
        for call in calls.drain(..) {
            self.take(call);
        }
        self.flush();
    }

    fn take(&mut self, Call { request, reply }: Call<F>) {
        let subject = self.family.subject(&request);
        if self.pending.concerns(subject) {
            self.flush();
        }
        let from = self.next_caller();
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

    /// A deadline may have come.
    pub(super) fn tick(&mut self) {
        let now = self.clocks().steady;
        if self.shard.next_deadline().is_some_and(|due| due <= now) {
            self.decide_alone(Input::Tick);
        }
    }

    /// Takes a decision that may be about anything.
    pub(super) fn decide_alone(&mut self, input: Input<F::Request, F::Notice>) {
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
    pub(super) fn settle(&mut self) -> Result<(), Lost> {
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
        if let Some((present, told)) = &mut self.present
            && *present == to
        {
            *told = Some(answer);
        } else if let Some(caller) = self.callers.remove(&to) {
            // Who has gone meanwhile asks again, or not.
            let _ = caller.send(answer);
        }
    }
}
