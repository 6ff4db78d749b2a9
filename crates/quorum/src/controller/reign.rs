//! One term as the active controller.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millrace_metadata::{Batch, Decision, Image, Sessions, decide};
use millrace_model::{BrokerEpoch, BrokerId};
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::{Instant, Interval, interval_at};

use super::{Controller, Event, Pending, decision};
use crate::Raft;
use crate::error::DecideError;
use crate::hello::{self, Probe};
use crate::options::Bootstrap;
use crate::types::{Applied, Proposal, TypeConfig};

/// Sessions are looked at when one may end, when heartbeats come, and this often at least: time in
/// which the controller does not run does not count against them, so it must be seen to run.
const SWEEP: Duration = Duration::from_millis(125);

/// They are looked at no more often than this.
const LEAST_SWEEP: Duration = Duration::from_millis(10);

/// Records of one batch; what is beyond goes into the next.
const MAX_RECORDS: usize = 20_000;

/// How often brokers that have room again are looked at: they may not be in sync yet.
const BRING_BACK: Duration = Duration::from_secs(1);

/// How long the controller that fell silent before this one is given to answer.
const PREDECESSOR_LIMIT: Duration = Duration::from_millis(200);

/// A broker that has not come to a new controller by then is probed once more: it may have died
/// between the first probe and its session.
const NEWCOMER_GRACE: Duration = Duration::from_millis(250);

/// How long a broker whose stream ended is probed.
const PROBE_LIMIT: Duration = Duration::from_millis(250);

/// Longest wait of a decision of the controller's own.
const OWN_DEADLINE: Duration = Duration::from_secs(60);

enum Proposed {
    Applied(Applied),
    /// Certainly not done, and not this node's to do.
    NotLeader,
    /// Perhaps done.
    Unknown,
}

struct InFlight {
    outcome: BoxFuture<'static, Proposed>,
    decisions: Vec<Box<dyn Pending>>,
}

pub(super) struct Reign<'a> {
    controller: &'a mut Controller,
    term: u64,
    sessions: Sessions,
    queue: VecDeque<Box<dyn Pending>>,
    in_flight: Option<InFlight>,
    /// A decision to fence is queued or in flight.
    fencing: Option<tokio::sync::oneshot::Receiver<()>>,
    swept: Instant,
    balance: Option<Interval>,
    /// When leaderships were last brought back to brokers with room again.
    brought_back: Instant,
}

impl<'a> Reign<'a> {
    pub(super) fn new(controller: &'a mut Controller, term: u64) -> Reign<'a> {
        let swept = controller.host.clock.now();
        let balance = controller.settings.balance.map(|balance| {
            interval_at(
                controller.host.clock.now() + balance.interval,
                balance.interval,
            )
        });
        let sessions = Sessions::new(controller.settings.session_timeout);
        Reign {
            controller,
            term,
            sessions,
            queue: VecDeque::new(),
            in_flight: None,
            fencing: None,
            swept,
            balance,
            brought_back: swept,
        }
    }

    pub(super) async fn run(mut self) {
        self.begin();
        self.introduce();
        while self.controller.standing.borrow_and_update().leads() == Some(self.term) {
            if self.in_flight.is_none() {
                self.propose();
            }
            let next_sweep = self.next_sweep();
            tokio::select! {
                biased;
                changed = self.controller.standing.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                outcome = outcome_of(&mut self.in_flight) => self.settle(outcome),
                () = tokio::time::sleep_until(next_sweep) => self.sweep(),
                () = next_balance(&mut self.balance) => self.propose_balance(),
                event = self.controller.events.recv() => match event {
                    Some(event) => {
                        self.take(event);
                        if self.controller.host.clock.now() >= self.swept + LEAST_SWEEP {
                            self.sweep();
                        }
                    }
                    None => break,
                },
            }
        }
        self.end();
    }

    fn next_sweep(&self) -> Instant {
        let least = self.swept + SWEEP;
        let swept = self.swept.duration_since(self.controller.began);
        let ends = self.sessions.next_deadline(swept);
        let ends = ends.map_or(least, |ends| self.controller.began + ends);
        ends.min(least).max(self.swept + LEAST_SWEEP)
    }

    fn sweep(&mut self) {
        self.swept = self.controller.host.clock.now();
        if self.controller.is_cut_off() {
            self.controller.fall_silent();
        }
        self.look_at_sessions();
        if !self.controller.has_lease() {
            return;
        }
        if self.balance.is_some() && self.swept >= self.brought_back + BRING_BACK {
            self.brought_back = self.swept;
            let now = self.controller.now();
            if !self.sessions.with_room_again(now).is_empty() {
                self.decide_own(decide::bring_back);
            }
        }
    }

    fn begin(&mut self) {
        let image = self.controller.image();
        let now = self.controller.now();
        self.sessions.activate(&image, now);
        let predecessor = self.controller.members.predecessor().map(|id| id.node);
        let me = self.controller.members.channels.identity();
        let (me, incarnation) = (me.node, me.incarnation);
        for broker in image.brokers().filter(|broker| !broker.fenced) {
            if broker.id == me {
                // Left behind by the run of this process before this one.
                if broker.incarnation != incarnation {
                    self.sessions.gone(me);
                }
            } else if Some(broker.id) == predecessor {
                self.probe(
                    broker.id,
                    broker.epoch,
                    Duration::ZERO,
                    PREDECESSOR_LIMIT,
                    true,
                );
            } else {
                for after in [Duration::ZERO, NEWCOMER_GRACE] {
                    self.probe(broker.id, broker.epoch, after, PROBE_LIMIT, false);
                }
            }
        }
    }

    fn end(&mut self) {
        let leader = self
            .controller
            .standing
            .borrow()
            .leader
            .map(|leader| leader.node);
        let leader = leader.filter(|leader| *leader != self.controller.members.me.node);
        for decision in self.queue.drain(..) {
            decision.resolve(Err(DecideError::NotController { leader }));
        }
        for decision in self.in_flight.take().into_iter().flat_map(|f| f.decisions) {
            decision.resolve(Err(DecideError::Unconfirmed));
        }
    }

    fn take(&mut self, event: Event) {
        let now = self.controller.now();
        self.controller.count_streams(&event);
        match event {
            Event::Decide(_) | Event::Heartbeat(..) if self.controller.is_cut_off() => {
                self.controller.refuse(event);
            }
            Event::Decide(pending) => self.queue.push_back(pending),
            Event::Heartbeat(beat, pending) => {
                let image = self.controller.image();
                if image
                    .broker(beat.id)
                    .is_some_and(|broker| broker.epoch == beat.epoch)
                {
                    // Counts from its arrival, however long the decision takes.
                    self.sessions
                        .heard(beat.id, beat.epoch, beat.image_version, now);
                }
                self.queue.push_back(pending);
            }
            Event::StreamBegan(id, epoch) => self.sessions.stream_began(id, epoch, now),
            Event::StreamEnded(id, epoch) => {
                if !self.controller.has_stream(id, epoch) {
                    self.sessions.stream_ended(id, epoch, now);
                    self.probe(id, epoch, Duration::ZERO, PROBE_LIMIT, false);
                }
            }
            Event::Gone(id, epoch) => {
                let counts = self.sessions.get(id).is_some_and(|s| s.epoch == epoch);
                if counts && !self.controller.has_stream(id, epoch) {
                    tracing::info!(broker = %id, "a broker is gone");
                    self.sessions.gone(id);
                    self.look_at_sessions();
                }
            }
        }
    }

    /// Finds out, beside this task, whether a broker is there; silence counts where `strict`.
    fn probe(
        &self,
        id: BrokerId,
        epoch: BrokerEpoch,
        after: Duration,
        limit: Duration,
        strict: bool,
    ) {
        let Some(inbox) = self.controller.inbox.upgrade() else {
            return;
        };
        let image = self.controller.image();
        let registered = image.broker(id).filter(|broker| broker.epoch == epoch);
        let Some(incarnation) = registered.map(|broker| broker.incarnation) else {
            return;
        };
        let members = self.controller.members.clone();
        self.controller.host.control.spawn(async move {
            tokio::time::sleep(after).await;
            let gone = match hello::probe(&members, id, limit).await {
                // Another run of its process answers: the registered one has ended.
                Probe::Answered(hello) => hello.incarnation != incarnation,
                Probe::Refused => true,
                Probe::Silent => strict,
            };
            if gone {
                // If the task has ended there is nobody to tell.
                let _ = inbox.send(Event::Gone(id, epoch)).await;
            }
        });
    }

    /// Fences the brokers whose session is over. A controller that no majority answers fences
    /// nobody: it is the one that does not hear.
    fn look_at_sessions(&mut self) {
        let now = self.controller.now();
        self.sessions.step(now);
        let answered = now.saturating_sub(self.controller.unanswered());
        self.sessions.majority_answered(answered, now);
        if !self.controller.has_lease() {
            return;
        }
        if let Some(fencing) = &mut self.fencing {
            if fencing.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                return;
            }
            self.fencing = None;
        }
        if self
            .sessions
            .expired(&self.controller.image(), now)
            .is_empty()
        {
            return;
        }
        let (done, fencing) = tokio::sync::oneshot::channel::<()>();
        self.fencing = Some(fencing);
        self.decide_own(move |image, sessions, now| {
            let _until_resolved = &done;
            let decision = decide::fence(image, &sessions.expired(image, now));
            if !decision.reply.is_empty() {
                tracing::info!(brokers = ?decision.reply, "fencing brokers whose session is over");
            }
            decision.map(drop)
        });
    }

    fn propose_balance(&mut self) {
        if let Some(balance) = self.controller.settings.balance {
            self.decide_own(move |image, _, _| {
                decide::balance(image, balance.percentage).map(drop)
            });
        }
    }

    /// The first decisions of a reign: the cluster exists, and this controller is known.
    fn introduce(&mut self) {
        let bootstrap = self.controller.settings.bootstrap.clone();
        let cluster_id = self
            .controller
            .members
            .channels
            .identity()
            .cluster_id
            .clone();
        self.decide_own(move |image, _, _| {
            let Bootstrap { features, settings } = &bootstrap;
            let decision = decide::bootstrap(image, &cluster_id, features, settings);
            if let Err(refusal) = &decision.reply {
                tracing::error!(%refusal, "the metadata is another cluster's");
            }
            decision.map(drop)
        });
        if let Some(registration) = self.controller.settings.registration.clone() {
            self.decide_own(move |image, _, _| decide::register_controller(image, &registration));
        }
    }

    fn decide_own(
        &mut self,
        decide: impl FnMut(&Image, &mut Sessions, Duration) -> Decision<()> + Send + 'static,
    ) {
        let deadline = self.controller.host.clock.now() + OWN_DEADLINE;
        self.queue.push_back(decision(deadline, decide).0);
    }

    /// Decides what has queued up and proposes it as one batch.
    fn propose(&mut self) {
        let base = self.controller.image();
        let mut image = Arc::clone(&base);
        let (mut records, mut decisions) = (Vec::new(), Vec::new());
        let (now, instant) = (self.controller.now(), self.controller.host.clock.now());
        while records.len() < MAX_RECORDS
            && let Some(mut pending) = self.queue.pop_front()
        {
            if pending.deadline() <= instant {
                pending.resolve(Err(DecideError::TimedOut));
                continue;
            }
            let made = pending.decide(&image, &mut self.sessions, now);
            if !made.is_empty() {
                match image.speculate(&made) {
                    Ok(next) => image = Arc::new(next),
                    Err(error) => {
                        tracing::error!(%error, "a decision does not fit the image it saw");
                        pending.resolve(Err(DecideError::Invalid(error.to_string())));
                        continue;
                    }
                }
                records.extend(made);
            }
            decisions.push(pending);
        }
        if records.is_empty() {
            for decision in decisions {
                decision.resolve(Ok(base.version()));
            }
            return;
        }
        let batch = Batch {
            based_on: base.version(),
            records,
        };
        let limit = self.controller.settings.timing.proposal;
        let outcome = write(
            self.controller.raft.clone(),
            Proposal(batch.encode()),
            limit,
        );
        self.in_flight = Some(InFlight {
            outcome: Box::pin(outcome),
            decisions,
        });
    }

    /// What became of the batch in flight.
    fn settle(&mut self, outcome: Proposed) {
        let Some(InFlight { decisions, .. }) = self.in_flight.take() else {
            return;
        };
        match outcome {
            Proposed::Applied(Applied {
                version,
                accepted: true,
            }) => {
                for decision in decisions {
                    decision.resolve(Ok(version));
                }
            }
            // It met another image: take the decisions again, before those that came later.
            Proposed::Applied(_) => {
                for decision in decisions.into_iter().rev() {
                    self.queue.push_front(decision);
                }
            }
            Proposed::NotLeader => {
                let leader = self
                    .controller
                    .standing
                    .borrow()
                    .leader
                    .map(|leader| leader.node);
                let leader = leader.filter(|leader| *leader != self.controller.members.me.node);
                for decision in decisions {
                    decision.resolve(Err(DecideError::NotController { leader }));
                }
            }
            Proposed::Unknown => {
                for decision in decisions {
                    decision.resolve(Err(DecideError::Unconfirmed));
                }
            }
        }
    }
}

async fn outcome_of(in_flight: &mut Option<InFlight>) -> Proposed {
    match in_flight {
        Some(in_flight) => (&mut in_flight.outcome).await,
        None => pending().await,
    }
}

async fn next_balance(balance: &mut Option<Interval>) {
    match balance {
        Some(balance) => {
            balance.tick().await;
        }
        None => pending().await,
    }
}

async fn write(raft: Raft, proposal: Proposal, limit: Duration) -> Proposed {
    let written = tokio::time::timeout(limit, raft.client_write(proposal)).await;
    match written {
        Ok(Ok(response)) => Proposed::Applied(response.data),
        Ok(Err(RaftError::APIError(error))) => refused(&error),
        Ok(Err(RaftError::Fatal(_))) | Err(_) => Proposed::Unknown,
    }
}

fn refused(error: &ClientWriteError<TypeConfig>) -> Proposed {
    match error {
        ClientWriteError::ForwardToLeader(_) => Proposed::NotLeader,
        _ => Proposed::Unknown,
    }
}
