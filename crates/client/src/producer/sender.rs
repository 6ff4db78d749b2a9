//! The task that sends what has gathered: one connection to each leader, a few requests in flight
//! on each, and in each request a batch of every partition that has one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use millrace_model::{BrokerId, Offset, ProducerEpoch, ProducerId};
use millrace_protocol::batch::renumber;
use millrace_protocol::messages::produce_response::ProduceResponse;
use tokio::time::Instant;

use super::accumulator::{Built, Slot};
use super::identity::identify;
use super::lane::{Lane, Settled};
use super::plan::{Offer, Pick, Plan, Planner, choose};
use super::request::{Sent, outcome_of, request};
use super::{Acks, Produced, Shared};
use crate::cluster::not_in_metadata;
use crate::{ClientError, Connection};

/// Before asking again for what was refused or not found.
pub(super) const RETRY_BACKOFF: Duration = Duration::from_millis(20);

/// Sends a producer's batches until every handle to it is gone and all is settled.
pub(super) struct Sender {
    shared: Arc<Shared>,
    lanes: BTreeMap<Slot, Lane<Built>>,
    /// Lanes in which a batch must be sent again.
    failed: BTreeSet<Slot>,
    brokers: BTreeMap<BrokerId, Broker>,
    identity: Identity,
    /// Topics whose metadata are being looked up.
    refreshing: BTreeSet<Arc<str>>,
    /// Topics whose metadata were ever looked up: a further look waits a moment.
    looked_up: BTreeSet<Arc<str>>,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    last_connection: u64,
}

enum Identity {
    NotNeeded,
    Unknown,
    Asked,
    Known(ProducerId, ProducerEpoch),
}

enum Broker {
    Connecting,
    Open(Link),
    /// Not to be tried before then.
    Down(Instant),
}

struct Link {
    connection: Connection,
    number: u64,
    in_flight: usize,
    /// The slot after the last that was sent, so that no partition is always first.
    next_slot: Slot,
}

enum Event {
    Woken,
    TimeUp,
    Connected(BrokerId, Result<Connection, ClientError>),
    /// The answer to a request on the connection of this number.
    Answered {
        broker: BrokerId,
        connection: u64,
        sent: Vec<Sent>,
        answer: Result<Option<ProduceResponse>, ClientError>,
    },
    Refreshed(Arc<str>, Result<(), ClientError>),
    Identified(Result<(ProducerId, ProducerEpoch), ClientError>),
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Sender {
        let identity = match shared.options.idempotent {
            true => Identity::Unknown,
            false => Identity::NotNeeded,
        };
        Sender {
            shared,
            lanes: BTreeMap::new(),
            failed: BTreeSet::new(),
            brokers: BTreeMap::new(),
            identity,
            refreshing: BTreeSet::new(),
            looked_up: BTreeSet::new(),
            work: FuturesUnordered::new(),
            last_connection: 0,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let now = self.now();
            self.expire(now);
            let wake_at = self.send_all(now);
            if self.is_done() {
                return;
            }
            let event = self.next(wake_at).await;
            self.handle(event);
            // What else came meanwhile costs no further look at all partitions.
            while let Some(Some(event)) = self.work.next().now_or_never() {
                self.handle(event);
            }
        }
    }

    fn now(&self) -> Instant {
        self.shared.cluster.machine().clock.now()
    }

    fn is_done(&self) -> bool {
        self.shared.is_closed()
            && self.shared.accumulator().waiting().is_empty()
            && self.lanes.values().all(Lane::is_empty)
    }

    async fn next(&mut self, wake_at: Option<Instant>) -> Event {
        let shared = self.shared.clone();
        let time_up = async {
            match wake_at {
                Some(then) => tokio::time::sleep_until(then).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(event) = self.work.next(), if !self.work.is_empty() => event,
            () = shared.wake.notified() => Event::Woken,
            () = time_up => Event::TimeUp,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Woken | Event::TimeUp => {}
            Event::Connected(broker, Ok(connection)) => {
                self.last_connection += 1;
                let link = Link {
                    connection,
                    number: self.last_connection,
                    in_flight: 0,
                    next_slot: 0,
                };
                self.brokers.insert(broker, Broker::Open(link));
            }
            Event::Connected(broker, Err(error)) => self.broker_failed(broker, &error),
            Event::Answered {
                broker,
                connection,
                sent,
                answer,
            } => self.answered(broker, connection, sent, answer),
            Event::Refreshed(topic, outcome) => {
                self.refreshing.remove(&topic);
                if let Err(error) = outcome
                    && !error.is_retriable()
                    && error.code().is_some()
                {
                    self.fail_waiting(Some(&topic), Arc::new(error));
                }
            }
            Event::Identified(Ok((id, epoch))) => self.identity = Identity::Known(id, epoch),
            Event::Identified(Err(error)) => {
                self.identity = Identity::Unknown;
                self.fail_waiting(None, Arc::new(error));
            }
        }
    }

    /// Sends until nothing more can go; when to look again.
    fn send_all(&mut self, now: Instant) -> Option<Instant> {
        if !self.has_identity() {
            return None;
        }
        loop {
            let mut plan = self.plan(now);
            let mut sent = false;
            for (broker, offer) in std::mem::take(&mut plan.offers) {
                if offer.is_due {
                    sent |= self.offer(broker, offer, now, &mut plan);
                }
            }
            if !sent {
                for topic in plan.leaderless {
                    self.refresh(topic);
                }
                return plan.wake_at;
            }
        }
    }

    /// Whether batches can be numbered; asks for an identity once there is a batch.
    fn has_identity(&mut self) -> bool {
        match self.identity {
            Identity::NotNeeded | Identity::Known(..) => true,
            Identity::Asked => false,
            Identity::Unknown => {
                if !self.shared.accumulator().waiting().is_empty() {
                    self.identity = Identity::Asked;
                    let cluster = self.shared.cluster.clone();
                    let limit = self.shared.options.delivery_limit;
                    let asking = identify(cluster, limit).map(Event::Identified);
                    self.work.push(asking.boxed());
                }
                false
            }
        }
    }

    fn plan(&self, now: Instant) -> Plan {
        let planner = Planner {
            accumulator: &self.shared.accumulator(),
            cluster: &self.shared.cluster,
            lanes: &self.lanes,
            failed: &self.failed,
            refreshing: &self.refreshing,
            hurry: self.shared.is_in_a_hurry(),
            now,
        };
        planner.plan()
    }

    /// Sends one request to a leader, if it can take one; whether that was so.
    fn offer(&mut self, broker: BrokerId, offer: Offer, now: Instant, plan: &mut Plan) -> bool {
        let most = self.shared.options.max_in_flight.max(1);
        let link = match self.brokers.get_mut(&broker) {
            Some(Broker::Open(link)) if !link.connection.is_broken() => link,
            Some(Broker::Connecting) => return false,
            Some(Broker::Down(until)) if *until > now => {
                plan.wake_at(*until);
                return false;
            }
            known => {
                // Where no answer is expected, this is how a broker tells that it leads no longer.
                if matches!(known, Some(Broker::Open(_))) {
                    self.refresh_all();
                }
                self.connect(broker);
                return false;
            }
        };
        if link.in_flight >= most {
            return false;
        }
        let (connection, number, first) = (link.connection.clone(), link.number, link.next_slot);
        let picks = choose(offer.picks, first, &self.shared.accumulator());
        let last = picks.last().map(|pick| pick.slot);
        let sent: Vec<Sent> = picks.into_iter().filter_map(|p| self.begin(p)).collect();
        if sent.is_empty() {
            return last.is_some();
        }
        let started = self.start(&connection, &sent);
        if let Some(Broker::Open(link)) = self.brokers.get_mut(&broker) {
            link.in_flight += 1;
            link.next_slot = last.map_or(0, |slot| slot + 1);
        }
        self.work.push(
            started
                .map(move |answer| Event::Answered {
                    broker,
                    connection: number,
                    sent,
                    answer,
                })
                .boxed(),
        );
        true
    }

    /// Takes a batch, new or not, to be sent; `None` where it could not be built.
    fn begin(&mut self, pick: Pick) -> Option<Sent> {
        let Pick {
            slot,
            again,
            topic,
            topic_id,
            partition,
        } = pick;
        let options = self.shared.options;
        let identity = match self.identity {
            Identity::Known(id, epoch) => Some((id, epoch)),
            _ => None,
        };
        let fresh = || Lane::new(identity, options.max_in_flight);
        let lane = self.lanes.entry(slot).or_insert_with(fresh);
        let (ticket, bytes) = if again {
            let (ticket, built, numbers) = lane.begin_again();
            if let Some(numbers) = numbers {
                let mut bytes = BytesMut::from(&built.bytes[..]);
                renumber(&mut bytes, numbers.id, numbers.epoch, numbers.base);
                built.bytes = bytes.freeze();
            }
            let bytes = built.bytes.clone();
            if !lane.has_failed() {
                self.failed.remove(&slot);
            }
            (ticket, bytes)
        } else {
            let gathered = self.shared.accumulator().take(slot)?;
            let (count, deadline) = (gathered.count(), gathered.deadline(options.delivery_limit));
            match gathered.build(lane.next_numbers()) {
                Ok(built) => {
                    let bytes = built.bytes.clone();
                    (lane.begin(built, count, deadline), bytes)
                }
                Err((error, unsent)) => {
                    let error = Arc::new(ClientError::Codec(error.to_string()));
                    self.settle(slot, unsent, Err(error));
                    return None;
                }
            }
        };
        Some(Sent {
            slot,
            ticket,
            topic,
            topic_id,
            partition,
            bytes,
        })
    }

    /// Hands a request to its connection now, in the order of the calls; the future is the answer.
    fn start(
        &self,
        connection: &Connection,
        sent: &[Sent],
    ) -> BoxFuture<'static, Result<Option<ProduceResponse>, ClientError>> {
        let options = self.shared.options;
        let request = request(sent, &options);
        if options.acks == Acks::None {
            return match connection.tell(&request) {
                Ok(written) => written.map(|written| written.map(|()| None)).boxed(),
                Err(error) => std::future::ready(Err(error)).boxed(),
            };
        }
        match connection.start(&request, i16::MAX) {
            Ok(underway) => {
                let answer = underway.answer(options.request_limit);
                answer.map(|answer| answer.map(Some)).boxed()
            }
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn connect(&mut self, broker: BrokerId) {
        self.brokers.insert(broker, Broker::Connecting);
        let cluster = self.shared.cluster.clone();
        let connecting = async move {
            let connected = match cluster.seen_node(broker) {
                Some(node) => cluster.open(&node).await,
                None => Err(not_in_metadata(broker)),
            };
            Event::Connected(broker, connected)
        };
        self.work.push(connecting.boxed());
    }

    /// Forgets a connection; the leader may be somewhere else by now.
    fn broker_failed(&mut self, broker: BrokerId, error: &ClientError) {
        tracing::debug!(%broker, %error, "a broker does not answer");
        let until = self.now() + RETRY_BACKOFF;
        self.brokers.insert(broker, Broker::Down(until));
        self.refresh_all();
    }

    /// Looks at every topic that was ever written to: without acknowledgements nothing is missed,
    /// so nothing need be waiting.
    fn refresh_all(&mut self) {
        let topics: BTreeSet<Arc<str>> = {
            let accumulator = self.shared.accumulator();
            let used = accumulator.waiting().iter().chain(self.lanes.keys());
            used.map(|slot| accumulator.place(*slot).0.clone())
                .collect()
        };
        for topic in topics {
            self.refresh(topic);
        }
    }

    /// Looks at a topic's metadata afresh; after a moment, unless it is the first look.
    fn refresh(&mut self, topic: Arc<str>) {
        if !self.refreshing.insert(topic.clone()) {
            return;
        }
        let pause = match self.looked_up.insert(topic.clone()) {
            true => Duration::ZERO,
            false => RETRY_BACKOFF,
        };
        let cluster = self.shared.cluster.clone();
        let looking = async move {
            tokio::time::sleep(pause).await;
            let seen = cluster.topic_afresh(&topic, false).await;
            Event::Refreshed(topic, seen.map(|_| ()))
        };
        self.work.push(looking.boxed());
    }

    fn answered(
        &mut self,
        broker: BrokerId,
        connection: u64,
        sent: Vec<Sent>,
        answer: Result<Option<ProduceResponse>, ClientError>,
    ) {
        let answer = answer.map_err(Arc::new);
        if let Some(Broker::Open(link)) = self.brokers.get_mut(&broker)
            && link.number == connection
        {
            link.in_flight -= 1;
            if let Err(error) = &answer {
                // Behind an answer that does not come, none of the later ones will.
                link.connection.close();
                self.broker_failed(broker, error);
            }
        }
        let now = self.now();
        for batch in sent {
            let outcome = match &answer {
                Ok(Some(answer)) => outcome_of(&batch, answer).map_err(Arc::new),
                Ok(None) => Ok(Offset(-1)),
                Err(error) => Err(Arc::clone(error)),
            };
            self.batch_answered(batch, outcome, now);
        }
    }

    fn batch_answered(
        &mut self,
        batch: Sent,
        outcome: Result<Offset, Arc<ClientError>>,
        now: Instant,
    ) {
        let Some(lane) = self.lanes.get_mut(&batch.slot) else {
            return;
        };
        let look = matches!(&outcome, Err(error) if needs_a_look(error));
        let settled = lane.answered(batch.ticket, outcome, now);
        if lane.has_failed() {
            self.failed.insert(batch.slot);
            if look {
                self.shared.cluster.was_misled();
                self.refresh(batch.topic);
            }
        }
        self.settle_all(batch.slot, settled);
    }

    /// Gives up what could not be written in its time.
    fn expire(&mut self, now: Instant) {
        let limit = self.shared.options.delivery_limit;
        let slots: Vec<Slot> = self.failed.iter().copied().collect();
        for slot in slots {
            let lane = self.lanes.get_mut(&slot).expect("it has failed batches");
            let settled = lane.expire(now, limit);
            if !lane.has_failed() {
                self.failed.remove(&slot);
            }
            self.settle_all(slot, settled);
        }
        let mut late = Vec::new();
        {
            let mut accumulator = self.shared.accumulator();
            let slots: Vec<Slot> = accumulator.waiting().iter().copied().collect();
            for slot in slots {
                while accumulator.deadline(slot).is_some_and(|then| then <= now) {
                    late.extend(accumulator.take(slot).map(|batch| (slot, batch)));
                }
            }
        }
        for (slot, batch) in late {
            let error = Arc::new(ClientError::Timeout {
                limit_ms: limit.as_millis(),
                doing: "waiting for a leader to send to".to_owned(),
            });
            self.settle(slot, batch.into_unsent(), Err(error));
        }
    }

    /// Gives up everything not sent yet, of one topic or of all.
    fn fail_waiting(&mut self, topic: Option<&Arc<str>>, error: Arc<ClientError>) {
        let mut failed = Vec::new();
        {
            let mut accumulator = self.shared.accumulator();
            let slots: Vec<Slot> = accumulator.waiting().iter().copied().collect();
            for slot in slots {
                if topic.is_none_or(|topic| accumulator.place(slot).0 == topic) {
                    while let Some(batch) = accumulator.take(slot) {
                        failed.push((slot, batch));
                    }
                }
            }
        }
        for (slot, batch) in failed {
            self.settle(slot, batch.into_unsent(), Err(error.clone()));
        }
    }

    fn settle_all(&self, slot: Slot, settled: impl IntoIterator<Item = Settled<Built>>) {
        for settled in settled {
            self.settle(slot, settled.batch, settled.outcome);
        }
    }

    /// Tells whoever waits for the records of a batch, and gives their memory back.
    fn settle(&self, slot: Slot, batch: Built, outcome: Result<Offset, Arc<ClientError>>) {
        let (_, partition) = self.shared.accumulator().place(slot);
        for (place, done) in batch.dones.into_iter().enumerate() {
            done(outcome.clone().map(|first| Produced {
                partition,
                offset: match first.get() {
                    ..0 => first,
                    _ => first.plus(place as i64),
                },
            }));
        }
        self.shared.memory.add_permits(batch.cost);
    }
}

/// Whether a failure is a reason to wait a moment and look at the metadata again. What is refused
/// because a batch before it failed is not.
fn needs_a_look(error: &ClientError) -> bool {
    error.is_retriable() || matches!(error, ClientError::Timeout { .. })
}
