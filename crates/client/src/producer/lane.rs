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
//! - when a batch is given up for good, the sequence after it can never come. The partition goes on
//!   under the next producer epoch, from sequence 0 (KIP-360); what of the given-up batch may still
//!   be under way is fenced by that. Batches behind it whose own fate is unknown are given up too.

use std::collections::VecDeque;
use std::sync::Arc;

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
    /// Sequences must begin anew once every answer is in.
    renumber: bool,
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

#[derive(Debug)]
struct Entry<B> {
    batch: B,
    count: i32,
    deadline: Instant,
    numbers: Option<Numbers>,
    state: State,
    /// Some attempt may have written it.
    maybe_written: bool,
    /// It has already got new numbers because the broker missed those before it.
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
            renumber: false,
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
        if in_flight < most && !self.renumber {
            Turn::New
        } else {
            Turn::Wait
        }
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
            maybe_written: false,
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
    ) -> Vec<Settled<B>> {
        let sent = |entry: &Entry<B>| matches!(entry.state, State::InFlight(t) if t == ticket);
        let Some(place) = self.unsettled.iter().position(sent) else {
            return Vec::new();
        };
        let mut settled = match answer {
            Ok(offset) => vec![self.settle(place, Ok(offset))],
            Err(error) => self.failed(place, error, now),
        };
        if self.in_flight() == 0 && self.renumber {
            settled.extend(self.begin_epoch());
        }
        settled
    }

    fn failed(&mut self, place: usize, error: Arc<ClientError>, now: Instant) -> Vec<Settled<B>> {
        let entry = &mut self.unsettled[place];
        let idempotent = entry.numbers.is_some();
        entry.maybe_written |= !is_certain_refusal(&error);
        let out_of_order = idempotent
            && matches!(
                error.code(),
                Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId)
            );
        if error.code() == Some(ErrorCode::DuplicateSequenceNumber) && idempotent {
            // The broker has the batch already and no longer knows at which offset.
            return vec![self.settle(place, Ok(Offset(-1)))];
        }
        let again = if out_of_order && place == 0 {
            // Nothing of ours is missing before it, so the broker has lost what it knew.
            let first_time = !std::mem::replace(&mut entry.renumbered, true);
            self.renumber |= first_time && !entry.maybe_written;
            first_time && !entry.maybe_written
        } else {
            out_of_order || error.is_retriable() || matches!(*error, ClientError::Timeout { .. })
        };
        if again && now < entry.deadline {
            entry.state = State::Failed(error);
            return Vec::new();
        }
        self.renumber |= idempotent;
        vec![self.settle(place, Err(error))]
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

    /// Gives up what could not be written in time. Only failed batches are looked at: one in flight
    /// has an end of its own.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Settled<B>> {
        let mut settled = Vec::new();
        if self.in_flight() > 0 {
            return settled;
        }
        while let Some(head) = self.unsettled.front()
            && head.deadline <= now
            && let State::Failed(error) = &head.state
        {
            let error = Arc::clone(error);
            self.renumber |= head.numbers.is_some();
            settled.push(self.settle(0, Err(error)));
        }
        if self.renumber {
            settled.extend(self.begin_epoch());
        }
        settled
    }

    /// When the oldest failed batch is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unsettled.front().map(|head| head.deadline)
    }

    /// Numbers what is left from 0 under the next epoch; gives up what may have been written under
    /// the old one.
    fn begin_epoch(&mut self) -> Vec<Settled<B>> {
        self.renumber = false;
        let Some(numbering) = &mut self.numbering else {
            return Vec::new();
        };
        // Wraps after 32,768 batches given up in one partition, which is no worse than an end.
        numbering.epoch = ProducerEpoch(numbering.epoch.get().wrapping_add(1) & i16::MAX);
        numbering.next = Sequence(0);
        numbering.proven = false;
        let mut settled = Vec::new();
        for mut entry in std::mem::take(&mut self.unsettled) {
            match entry.state {
                State::Failed(error) if entry.maybe_written => settled.push(Settled {
                    batch: entry.batch,
                    outcome: Err(error),
                }),
                _ => {
                    entry.numbers = Some(Numbers {
                        id: numbering.id,
                        epoch: numbering.epoch,
                        base: numbering.next,
                    });
                    numbering.next = numbering.next.plus(entry.count);
                    self.unsettled.push_back(entry);
                }
            }
        }
        settled
    }
}

/// Whether the broker said that it did not write the batch, in that attempt.
fn is_certain_refusal(error: &ClientError) -> bool {
    match error.code() {
        Some(code) => !matches!(
            code,
            ErrorCode::RequestTimedOut
                | ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::NetworkException
                | ErrorCode::KafkaStorageError
                | ErrorCode::UnknownServerError
        ),
        None => matches!(error, ClientError::NoCommonVersion { .. }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestLane = Lane<&'static str>;

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
        Instant::now() + std::time::Duration::from_secs(60)
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
        assert_eq!(settled, [("a", false), ("b", false)]);
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
        let much_later = later() + std::time::Duration::from_secs(60);
        assert!(lane.expire(much_later).is_empty(), "b is in flight");
        answer(
            &mut lane,
            tickets[1],
            error(ErrorCode::OutOfOrderSequenceNumber),
        );
        assert!(lane.expire(Instant::now()).is_empty());
        let settled = lane.expire(much_later);
        assert_eq!(settled.len(), 2);
        assert!(lane.is_empty());
    }
}
