//! One partition's batches that were sent and are not settled: their sequences, their order, and
//! what an answer changes.
//!
//! Several batches may be on their way at once. The broker takes an idempotent producer's batches
//! only in the order of their sequences, so when one fails those behind it fail too, and are sent
//! again after it. Rules that keep the order, and nothing written twice:
//!
//! - after a failure nothing is sent until every answer is in; then one batch at a time, the oldest
//!   first, until all that failed are settled;
//! - the first batch under an epoch goes alone: a broker that knows nothing of a producer takes any
//!   sequence, so a second batch could be written before the first;
//! - when a batch is given up for good, the sequence after it may never come. The partition goes on
//!   under the next producer epoch, from sequence 0 (KIP-360); what of the given-up batch may still
//!   be under way is fenced by that;
//! - but only batches that were certainly not written get new numbers. One behind a given-up batch
//!   that may have been written itself goes again under its old ones, until a broker says: taken, and
//!   then so was the batch before it, and the epoch goes on; or out of order, and then it is given
//!   up, since an earlier sending of it may still be under way.
//!
//! What is certain: a broker that refuses a batch before it looks at its leadership's end has not
//! written it (`is_certain_refusal`); and where one batch was certainly not written and never will be
//! under its epoch, nothing behind it was, for the broker takes sequences in order only.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::limits::REMEMBERED_BATCHES;
use millrace_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence};
use tokio::time::Instant;

use crate::ClientError;

/// Who wrote a batch and where in the order it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) base: Sequence,
}

/// Which sending of which batch an answer belongs to.
pub(super) type Ticket = u64;

/// What may be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A batch that was never sent.
    New,
    /// The oldest batch once more.
    Again,
    /// Nothing until an answer comes.
    Wait,
}

/// A batch whose fate is known.
#[derive(Debug)]
pub(super) struct Settled<B> {
    pub(super) batch: B,
    /// Its first offset; -1 where the broker does not tell.
    pub(super) outcome: Result<Offset, Arc<ClientError>>,
}

/// The unsettled batches of one partition.
#[derive(Debug)]
pub(super) struct Lane<B> {
    numbering: Option<Numbering>,
    unsettled: VecDeque<Entry<B>>,
    most_in_flight: usize,
    /// What is missing right before the next new batch.
    gap: Gap,
    last_ticket: Ticket,
}

#[derive(Debug)]
struct Numbering {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
    /// Whether a batch was acknowledged under this epoch.
    proven: bool,
}

/// What is known of a batch that was given up, for the one right behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    /// None was given up there.
    None,
    /// It may have been written.
    Possible,
    /// It never will be, so the broker takes nothing more of this epoch.
    Certain,
}

#[derive(Debug)]
struct Entry<B> {
    batch: B,
    count: i32,
    deadline: Instant,
    numbers: Option<Numbers>,
    state: State,
    /// Why nobody knows whether some attempt has written it.
    doubt: Option<Arc<ClientError>>,
    /// What is missing right before it.
    gap: Gap,
    /// It has already got new numbers because the broker missed those before it, though none is
    /// missing.
    renumbered: bool,
}

#[derive(Debug)]
enum State {
    InFlight(Ticket),
    Failed(Arc<ClientError>),
}

impl<B> Lane<B> {
    /// A lane of which so many batches may be in flight; idempotent where there is an identity.
    pub(super) fn new(
        identity: Option<(ProducerId, ProducerEpoch)>,
        most_in_flight: usize,
    ) -> Lane<B> {
        let most = match identity {
            Some(_) => most_in_flight.min(REMEMBERED_BATCHES),
            None => most_in_flight,
        };
        let numbering = identity.map(|(id, epoch)| Numbering {
            id,
            epoch,
            next: Sequence(0),
            proven: false,
        });
        Lane {
            numbering,
            unsettled: VecDeque::new(),
            most_in_flight: most.max(1),
            gap: Gap::None,
            last_ticket: 0,
        }
    }

    /// Whether every batch that was sent is settled.
    pub(super) fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Whether a batch must be sent again.
    pub(super) fn has_failed(&self) -> bool {
        let failed = |entry: &Entry<B>| matches!(entry.state, State::Failed(_));
        self.unsettled.iter().any(failed)
    }

    /// What may be sent now.
    pub(super) fn turn(&self) -> Turn {
        let in_flight = self.in_flight();
        if self.has_failed() {
            return if in_flight == 0 {
                Turn::Again
            } else {
                Turn::Wait
            };
        }
        let unproven = self.numbering.as_ref().is_some_and(|n| !n.proven);
        let most = if unproven { 1 } else { self.most_in_flight };
        if in_flight < most && !self.has_gap() {
            Turn::New
        } else {
            Turn::Wait
        }
    }

    fn has_gap(&self) -> bool {
        self.gap != Gap::None || self.unsettled.iter().any(|entry| entry.gap != Gap::None)
    }

    fn in_flight(&self) -> usize {
        let in_flight = |entry: &&Entry<B>| matches!(entry.state, State::InFlight(_));
        self.unsettled.iter().filter(in_flight).count()
    }

    /// The numbers of the next new batch.
    pub(super) fn next_numbers(&self) -> Option<Numbers> {
        self.numbering.as_ref().map(|numbering| Numbers {
            id: numbering.id,
            epoch: numbering.epoch,
            base: numbering.next,
        })
    }

    /// Takes a new batch of so many records that is about to be sent under the next numbers.
    pub(super) fn begin(&mut self, batch: B, count: i32, deadline: Instant) -> Ticket {
        debug_assert_eq!(self.turn(), Turn::New);
        let numbers = self.next_numbers();
        if let Some(numbering) = &mut self.numbering {
            numbering.next = numbering.next.plus(count);
        }
        let ticket = self.ticket();
        self.unsettled.push_back(Entry {
            batch,
            count,
            deadline,
            numbers,
            state: State::InFlight(ticket),
            doubt: None,
            gap: Gap::None,
            renumbered: false,
        });
        ticket
    }

    /// The oldest batch, which is about to be sent again under these numbers.
    pub(super) fn begin_again(&mut self) -> (Ticket, &mut B, Option<Numbers>) {
        debug_assert_eq!(self.turn(), Turn::Again);
        let ticket = self.ticket();
        let head = self.unsettled.front_mut().expect("a batch has failed");
        head.state = State::InFlight(ticket);
        (ticket, &mut head.batch, head.numbers)
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Takes an answer in; returns what is settled by it.
    pub(super) fn answered(
        &mut self,
        ticket: Ticket,
        answer: Result<Offset, Arc<ClientError>>,
        now: Instant,
    ) -> Option<Settled<B>> {
        let sent = |entry: &Entry<B>| matches!(entry.state, State::InFlight(t) if t == ticket);
        let place = self.unsettled.iter().position(sent)?;
        let settled = match answer {
            Ok(offset) => Some(self.settle(place, Ok(offset))),
            Err(error) => self.failed(place, error, now),
        };
        self.resolve();
        settled
    }

    fn failed(
        &mut self,
        place: usize,
        error: Arc<ClientError>,
        now: Instant,
    ) -> Option<Settled<B>> {
        let entry = &mut self.unsettled[place];
        let idempotent = entry.numbers.is_some();
        if !is_certain_refusal(&error) {
            entry.doubt = Some(Arc::clone(&error));
        }
        let out_of_order = idempotent && is_out_of_order(&error);
        if error.code() == Some(ErrorCode::DuplicateSequenceNumber) && idempotent {
            // The broker has the batch already and no longer knows at which offset.
            return Some(self.settle(place, Ok(Offset(-1))));
        }
        let again = if out_of_order && place == 0 {
            entry.may_be_renumbered()
        } else {
            out_of_order || error.is_retriable() || matches!(*error, ClientError::Timeout { .. })
        };
        // What is out of order for a batch before it has no fault of its own; it is given up when it
        // is the oldest and its time is over.
        if again && (now < entry.deadline || out_of_order) {
            entry.state = State::Failed(error);
            return None;
        }
        let error = match &self.unsettled[place].doubt {
            // Batches before it are missing, or it is there already and the broker remembers only
            // later ones: what became of it is as open as before.
            Some(doubt) if out_of_order => Arc::clone(doubt),
            _ => error,
        };
        Some(self.give_up(place, error))
    }

    /// Whoever waits for it is told that it failed; what is behind it has a gap before it.
    fn give_up(&mut self, place: usize, error: Arc<ClientError>) -> Settled<B> {
        let entry = &self.unsettled[place];
        let own = match entry.doubt {
            Some(_) => Gap::Possible,
            None => Gap::Certain,
        };
        let gap = match entry.numbers {
            Some(_) => own.max(entry.gap),
            None => Gap::None,
        };
        let settled = self.settle(place, Err(error));
        let behind = match self.unsettled.get_mut(place) {
            Some(next) => &mut next.gap,
            None => &mut self.gap,
        };
        *behind = gap.max(*behind);
        settled
    }

    fn settle(&mut self, place: usize, outcome: Result<Offset, Arc<ClientError>>) -> Settled<B> {
        let entry = self
            .unsettled
            .remove(place)
            .expect("the place was found among them");
        if let (Ok(_), Some(numbering)) = (&outcome, &mut self.numbering) {
            numbering.proven = true;
        }
        Settled {
            batch: entry.batch,
            outcome,
        }
    }

    /// Gives up what could not be written in time, which was `limit`. Only failed batches are looked
    /// at: one in flight has an end of its own.
    pub(super) fn expire(&mut self, now: Instant, limit: Duration) -> Vec<Settled<B>> {
        let mut settled = Vec::new();
        if self.in_flight() > 0 {
            return settled;
        }
        while let Some(head) = self.unsettled.front()
            && head.deadline <= now
            && let State::Failed(error) = &head.state
        {
            let error = match &head.doubt {
                _ if !is_out_of_order(error) => Arc::clone(error),
                Some(doubt) => Arc::clone(doubt),
                None => Arc::new(ClientError::Timeout {
                    limit_ms: limit.as_millis(),
                    doing: "waiting for the batches before it".to_owned(),
                }),
            };
            settled.push(self.give_up(0, error));
        }
        self.resolve();
        settled
    }

    /// When the oldest failed batch is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unsettled.front().map(|head| head.deadline)
    }

    /// Begins the next epoch once no batch is left that may have been written under this one.
    fn resolve(&mut self) {
        if self.in_flight() > 0 {
            return;
        }
        let is_certain = match self.unsettled.front() {
            Some(head) => match head.gap {
                Gap::None => false,
                Gap::Possible => head.doubt.is_none(),
                Gap::Certain => true,
            },
            None => self.gap != Gap::None,
        };
        if is_certain {
            self.begin_epoch();
        }
    }

    /// Numbers what is left from 0 under the next epoch; none of it was written.
    fn begin_epoch(&mut self) {
        self.gap = Gap::None;
        let Some(numbering) = &mut self.numbering else {
            return;
        };
        // Wraps after 32,768 batches given up in one partition, which is no worse than an end.
        numbering.epoch = ProducerEpoch(numbering.epoch.get().wrapping_add(1) & i16::MAX);
        numbering.next = Sequence(0);
        numbering.proven = false;
        for entry in &mut self.unsettled {
            entry.gap = Gap::None;
            entry.doubt = None;
            entry.numbers = Some(Numbers {
                id: numbering.id,
                epoch: numbering.epoch,
                base: numbering.next,
            });
            numbering.next = numbering.next.plus(entry.count);
        }
    }
}

impl<B> Entry<B> {
    /// Whether the oldest batch, which the broker calls out of order, may get new numbers: not if a
    /// sending of it may have been written or still be under way. Where nothing before it was given
    /// up the broker has lost what it knew, which is worth one more try.
    fn may_be_renumbered(&mut self) -> bool {
        if self.doubt.is_some() {
            return false;
        }
        if self.gap != Gap::None {
            return true;
        }
        self.gap = Gap::Certain;
        !std::mem::replace(&mut self.renumbered, true)
    }
}

/// Whether the broker misses batches before it.
fn is_out_of_order(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId)
    )
}

/// Whether the broker said that it did not write the batch, in that attempt. What it also says when
/// it has appended and then lost its leadership or its disk is none of these.
fn is_certain_refusal(error: &ClientError) -> bool {
    match error.code() {
        Some(code) => matches!(
            code,
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::UnknownProducerId
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::CorruptMessage
                | ErrorCode::InvalidRecord
                | ErrorCode::InvalidTimestamp
                | ErrorCode::UnsupportedForMessageFormat
                | ErrorCode::UnsupportedCompressionType
                | ErrorCode::InvalidTopicException
                | ErrorCode::InvalidRequiredAcks
                | ErrorCode::InvalidTxnState
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::ClusterAuthorizationFailed
                | ErrorCode::TransactionalIdAuthorizationFailed
                | ErrorCode::PolicyViolation
        ),
        None => matches!(error, ClientError::NoCommonVersion { .. }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestLane = Lane<&'static str>;

    const LIMIT: Duration = Duration::from_secs(60);

    fn error(code: ErrorCode) -> Result<Offset, Arc<ClientError>> {
        let message = None;
        Err(Arc::new(ClientError::Broker { code, message }))
    }

    fn lost() -> Result<Offset, Arc<ClientError>> {
        Err(Arc::new(ClientError::Timeout {
            limit_ms: 1,
            doing: "testing".to_owned(),
        }))
    }

    fn later() -> Instant {
        Instant::now() + LIMIT
    }

    /// A lane whose first batch is acknowledged, with these in flight, of two records each.
    fn lane(batches: &[&'static str]) -> (TestLane, Vec<Ticket>) {
        let mut lane: TestLane = Lane::new(Some((ProducerId(1), ProducerEpoch(0))), 9);
        let first = lane.begin("first", 2, later());
        assert_eq!(lane.turn(), Turn::Wait, "the first goes alone");
        lane.answered(first, Ok(Offset(0)), Instant::now());
        let tickets = batches.iter().map(|name| lane.begin(name, 2, later()));
        let tickets = tickets.collect();
        (lane, tickets)
    }

    /// The same, of which the first has run out of time.
    fn lane_with_late(late: &'static str, batches: &[&'static str]) -> (TestLane, Vec<Ticket>) {
        let (mut lane, _) = lane(&[]);
        let mut tickets = vec![lane.begin(late, 2, Instant::now())];
        tickets.extend(batches.iter().map(|name| lane.begin(name, 2, later())));
        (lane, tickets)
    }

    fn answer(
        lane: &mut TestLane,
        ticket: Ticket,
        answer: Result<Offset, Arc<ClientError>>,
    ) -> Vec<(&'static str, bool)> {
        let settled = lane.answered(ticket, answer, Instant::now());
        let settled = settled.into_iter();
        settled.map(|s| (s.batch, s.outcome.is_ok())).collect()
    }

    /// What is sent next, with epoch and sequence.
    fn again(lane: &mut TestLane) -> (Ticket, &'static str, i16, i32) {
        assert_eq!(lane.turn(), Turn::Again);
        let (ticket, batch, numbers) = lane.begin_again();
        let numbers = numbers.unwrap();
        (ticket, *batch, numbers.epoch.get(), numbers.base.get())
    }

    #[test]
    fn no_more_are_in_flight_than_a_broker_remembers() {
        let (lane, _) = lane(&["a", "b", "c", "d", "e"]);
        assert_eq!(lane.turn(), Turn::Wait);
    }

    #[test]
    fn after_a_failure_the_oldest_goes_again_alone_once_all_have_answered() {
        let (mut lane, tickets) = lane(&["a", "b", "c"]);
        answer(&mut lane, tickets[0], error(ErrorCode::NotLeaderOrFollower));
        assert_eq!(lane.turn(), Turn::Wait);
        answer(
            &mut lane,
            tickets[1],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        answer(
            &mut lane,
            tickets[2],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        for (name, sequence) in [("a", 2), ("b", 4), ("c", 6)] {
            let (ticket, batch, epoch, base) = again(&mut lane);
            assert_eq!((batch, epoch, base), (name, 0, sequence));
            let next = if name == "c" { Turn::New } else { Turn::Wait };
            assert_eq!(lane.turn(), next, "one at a time while others have failed");
            assert_eq!(answer(&mut lane, ticket, Ok(Offset(9))), [(name, true)]);
        }
        assert_eq!(lane.turn(), Turn::New);
    }

    #[test]
    fn what_is_given_up_ends_the_epoch_and_the_rest_goes_on_from_zero() {
        let (mut lane, tickets) = lane(&["a", "b", "c"]);
        let refused = answer(&mut lane, tickets[0], error(ErrorCode::MessageTooLarge));
        assert_eq!(refused, [("a", false)]);
        assert_eq!(lane.turn(), Turn::Wait, "nothing new under the old epoch");
        answer(
            &mut lane,
            tickets[1],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        answer(
            &mut lane,
            tickets[2],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        let (ticket, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("b", 1, 0));
        answer(&mut lane, ticket, Ok(Offset(3)));
        let (ticket, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("c", 1, 2));
        answer(&mut lane, ticket, Ok(Offset(5)));
        assert_eq!(lane.next_numbers().unwrap().base, Sequence(4));
    }

    #[test]
    fn the_epoch_ends_also_where_nothing_is_left_to_send() {
        let (mut lane, tickets) = lane(&["a"]);
        answer(&mut lane, tickets[0], error(ErrorCode::InvalidRecord));
        let next = lane.next_numbers().unwrap();
        assert_eq!((next.epoch, next.base), (ProducerEpoch(1), Sequence(0)));
    }

    #[test]
    fn what_may_have_been_written_never_gets_new_numbers() {
        let (mut lane, tickets) = lane(&["a", "b", "c"]);
        answer(&mut lane, tickets[0], lost());
        answer(&mut lane, tickets[1], lost());
        answer(
            &mut lane,
            tickets[2],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        let (ticket, ..) = again(&mut lane);
        let settled = answer(&mut lane, ticket, error(ErrorCode::InvalidProducerEpoch));
        assert_eq!(settled, [("a", false)]);
        let (ticket, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("b", 0, 4), "under its old numbers");
        let settled = answer(
            &mut lane,
            ticket,
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        assert_eq!(settled, [("b", false)]);
        let (_, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("c", 1, 0));
    }

    /// A broker that loses its leadership says so also of what it has appended.
    #[test]
    fn a_leadership_that_ended_is_no_refusal() {
        let (mut lane, tickets) = lane_with_late("a", &["b"]);
        let no_leader = || error(ErrorCode::NotLeaderOrFollower);
        assert_eq!(answer(&mut lane, tickets[0], no_leader()), [("a", false)]);
        assert_eq!(answer(&mut lane, tickets[1], no_leader()), []);
        let (ticket, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("b", 0, 4));
        let settled = answer(&mut lane, ticket, error(ErrorCode::DuplicateSequenceNumber));
        assert_eq!(settled, [("b", true)]);
        let next = lane.next_numbers().unwrap();
        let goes_on = (next.epoch, next.base);
        assert_eq!(goes_on, (ProducerEpoch(0), Sequence(6)), "so a was there");
        assert_eq!(lane.turn(), Turn::New);
    }

    #[test]
    fn what_is_behind_a_batch_that_was_never_written_was_not_written() {
        let (mut lane, tickets) = lane(&["a", "b", "c"]);
        answer(&mut lane, tickets[1], lost());
        answer(&mut lane, tickets[2], lost());
        let refused = answer(&mut lane, tickets[0], error(ErrorCode::MessageTooLarge));
        assert_eq!(refused, [("a", false)]);
        let (ticket, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("b", 1, 0));
        answer(&mut lane, ticket, Ok(Offset(3)));
        let (_, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("c", 1, 2));
    }

    #[test]
    fn what_is_before_a_given_up_batch_keeps_its_numbers() {
        let (mut lane, tickets) = lane(&["a", "b", "c"]);
        answer(&mut lane, tickets[0], lost());
        let refused = answer(&mut lane, tickets[1], error(ErrorCode::MessageTooLarge));
        assert_eq!(refused, [("b", false)]);
        answer(&mut lane, tickets[2], lost());
        let (ticket, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("a", 0, 2));
        answer(&mut lane, ticket, Ok(Offset(3)));
        let (_, batch, epoch, base) = again(&mut lane);
        assert_eq!((batch, epoch, base), ("c", 1, 0));
    }

    #[test]
    fn a_broker_that_forgot_the_producer_gets_new_numbers_once() {
        let (mut lane, tickets) = lane(&["a"]);
        let out_of_order = || error(ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(answer(&mut lane, tickets[0], out_of_order()), []);
        let (ticket, _, epoch, base) = again(&mut lane);
        assert_eq!((epoch, base), (1, 0));
        assert_eq!(answer(&mut lane, ticket, out_of_order()), [("a", false)]);
    }

    #[test]
    fn what_failed_is_given_up_when_its_time_is_over() {
        let (mut lane, tickets) = lane(&["a", "b"]);
        answer(&mut lane, tickets[0], lost());
        let much_later = later() + LIMIT;
        assert!(lane.expire(much_later, LIMIT).is_empty(), "b is in flight");
        answer(
            &mut lane,
            tickets[1],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        assert!(lane.expire(Instant::now(), LIMIT).is_empty());
        let settled = lane.expire(much_later, LIMIT);
        assert_eq!(settled.len(), 2);
        let told = settled.iter().all(|batch| {
            let error = batch.outcome.as_ref().unwrap_err();
            matches!(**error, ClientError::Timeout { .. })
        });
        assert!(told, "b did nothing out of order: {settled:?}");
        assert!(lane.is_empty());
    }
}
