//! Idempotent producers that pipeline as librdkafka does: the next batch goes out before the first
//! one is answered, five at most of one partition, and what is refused goes again in its order.
//!
//! Our own client sends the first batch of a partition alone and stops behind a failure until all
//! answers are in, so it never asks a broker to tell a batch from the one that should come before
//! it. librdkafka does, and takes an acknowledgement for all batches before that one too: a broker
//! that takes the second batch after it has refused the first has lost the first. Where a broker
//! knows nothing of a producer nothing but its memory of what it refused keeps it from that
//! (`server/api/produce/refused`); so these begin anew all the time, with another partition or as
//! another producer, and some of them just vanish with all that they have under way.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use millrace_client::{ClientError, Cluster, Connection};
use millrace_model::{ErrorCode, ProducerEpoch, ProducerId, Sequence, TopicId};
use millrace_protocol::batch::{BatchBuilder, BatchOptions};
use millrace_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::messages::produce_response::ProduceResponse;
use millrace_testkit::history::{Mark, Placed};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::{Client, Stage, Topic, millis};

/// How many of them a machine runs at once.
const PIPELINES: u64 = 4;
/// Batches of one partition on their way at once (`max.in.flight.requests.per.connection`).
const IN_FLIGHT: usize = 5;
/// Records of one batch.
const BATCH: std::ops::Range<u64> = 1..4;
/// Between two batches of one producer, in milliseconds.
const PAUSE: std::ops::Range<u64> = 1..60;
/// How long one writes to a partition, in milliseconds.
const LIFE: std::ops::Range<u64> = 50..1500;
/// How long it waits for acknowledgements after that, before it gives up.
const PATIENCE: Duration = Duration::from_secs(8);
/// Before a batch is sent again (`retry.backoff.ms`, 100 by default), in milliseconds.
const BACKOFF: std::ops::Range<u64> = 8..80;
/// Between two requests, so that a broker may think otherwise about the second than about the first.
const PACE: Duration = Duration::from_millis(2);
/// Batches that may wait for their turn; a producer with more makes none.
const MOST_WAITING: usize = 30;

/// Starts those of one machine.
pub fn spawn(client: &Client, topic: &Topic, part: u64) {
    for number in 0..PIPELINES {
        let keeping = keep_pipelining(client.clone(), topic.clone(), part + 4_000 + number);
        client.host.tasks.spawn(keeping);
    }
}

async fn keep_pipelining(client: Client, topic: Topic, part: u64) {
    let mut rng = client.rng(part);
    let mut producer: Option<Identity> = None;
    while client.stage() == Stage::Load {
        let known = producer.take().filter(|it| !it.unused.is_empty());
        let identity = match known {
            Some(identity) if rng.random_bool(0.7) => identity,
            _ => match Identity::ask(&client, &topic).await {
                Ok(identity) => identity,
                Err(error) => {
                    client.book.met("beginning to pipeline", &error);
                    tokio::time::sleep(millis(&mut rng, BACKOFF)).await;
                    continue;
                }
            },
        };
        client.book.open().under_way += 1;
        producer = Pipeline::new(&client, &topic, identity, &mut rng)
            .run(&mut rng)
            .await;
        client.book.open().under_way -= 1;
    }
}

/// Who a producer is for the brokers, and for the book.
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    number: u32,
    /// Partitions that it never wrote to.
    unused: Vec<i32>,
}

impl Identity {
    async fn ask(client: &Client, topic: &Topic) -> Result<Identity, ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let answer = client.cluster("identity").ask(&request).await?;
        ClientError::check(answer.error_code, None)?;
        let mut book = client.book.open();
        book.producers += 1;
        Ok(Identity {
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(answer.producer_epoch),
            number: book.producers,
            unused: (0..topic.partitions).collect(),
        })
    }
}

/// A batch that is not acknowledged.
struct Batch {
    first: i32,
    marks: Vec<Mark>,
    bytes: Bytes,
    is_under_way: bool,
    not_before: Instant,
}

/// The first sequence of a batch, and what became of it.
type Answer = (i32, Result<i64, ClientError>);

/// What one producer has to do with one partition, from its first batch on.
struct Pipeline {
    client: Client,
    cluster: Cluster,
    topic: Topic,
    partition: i32,
    identity: Identity,
    next: i32,
    /// In their order.
    batches: VecDeque<Batch>,
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Where the leader was when somebody looked last.
    leader: Option<(TopicId, Connection)>,
    /// That was wrong.
    misled: bool,
    /// How long a broker may take, as it is told.
    limit: Duration,
    backoff: Duration,
}

impl Pipeline {
    fn new(client: &Client, topic: &Topic, mut identity: Identity, rng: &mut StdRng) -> Pipeline {
        let place = rng.random_range(0..identity.unused.len());
        let name = format!("pipeline-{}", identity.number);
        Pipeline {
            client: client.clone(),
            cluster: client.cluster(&name),
            topic: topic.clone(),
            partition: identity.unused.swap_remove(place),
            identity,
            next: 0,
            batches: VecDeque::new(),
            under_way: FuturesUnordered::new(),
            leader: None,
            misled: false,
            // Short ones end while a broker is still taking up its leadership.
            limit: match rng.random_bool(0.5) {
                true => millis(rng, 3..30),
                false => millis(rng, 30..1500),
            },
            backoff: millis(rng, BACKOFF),
        }
    }

    /// Writes for a while, and waits until all of it is acknowledged; or vanishes. The identity
    /// comes back if it is as good as before.
    async fn run(mut self, rng: &mut StdRng) -> Option<Identity> {
        let now = Instant::now();
        let end = now + millis(rng, LIFE);
        let vanishes = rng.random_bool(0.3);
        let mut next_batch = now;
        loop {
            let now = Instant::now();
            let writes = now < end && self.client.stage() == Stage::Load;
            if !writes && (vanishes || self.batches.is_empty()) {
                return (!vanishes).then_some(self.identity);
            }
            if now >= end + PATIENCE {
                return None;
            }
            if writes && now >= next_batch {
                next_batch = now + millis(rng, PAUSE);
                if self.batches.len() < MOST_WAITING {
                    self.make_batch(rng);
                }
            }
            self.send_due().await;
            let mut wake = match writes {
                true => next_batch.min(end),
                false => end + PATIENCE,
            };
            if let Some(due) = self.due() {
                wake = wake.min(due.max(now + PACE));
            }
            let wake = pin!(tokio::time::sleep_until(wake));
            tokio::select! {
                biased;
                Some((first, outcome)) = self.under_way.next() => {
                    if !self.answered(first, outcome) {
                        return None;
                    }
                }
                () = wake => {}
            }
        }
    }

    fn make_batch(&mut self, rng: &mut StdRng) {
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id: self.identity.id,
            producer_epoch: self.identity.epoch,
            base_sequence: Sequence(self.next),
            ..BatchOptions::default()
        });
        let first = self.next;
        let mut marks = Vec::new();
        let wall = self.client.host.clock.wall();
        for _ in 0..rng.random_range(BATCH) {
            let mark = Mark {
                producer: self.identity.number,
                sequence: u64::from(self.next.unsigned_abs()),
            };
            self.next += 1;
            marks.push(mark);
            let value = mark.value(rng.random_range(20..250));
            builder.push(wall, None, Some(&value), &[]);
        }
        let mut book = self.client.book.open();
        let topic = book.topics.entry(self.topic.name.to_owned()).or_default();
        let sent = marks.iter().map(|mark| (self.partition, *mark));
        topic.sent.extend(sent);
        self.batches.push_back(Batch {
            first,
            marks,
            bytes: builder
                .build()
                .expect("nothing is compressed that could fail")
                .freeze(),
            is_under_way: false,
            not_before: Instant::now(),
        });
    }

    /// When the first batch that is not under way may go; none if it must wait for an answer.
    fn due(&self) -> Option<Instant> {
        // Batches that are under way to who led before must not be overtaken.
        let is_known = self.leader.is_some() || self.under_way.is_empty();
        if self.under_way.len() >= IN_FLIGHT || !is_known {
            return None;
        }
        let mut batches = self.batches.iter();
        let waiting = batches.find(|batch| !batch.is_under_way)?;
        Some(waiting.not_before)
    }

    /// Sends one batch if it is due.
    async fn send_due(&mut self) {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        if self.leader.is_some() || self.find_leader().await {
            self.send_next();
        }
    }

    /// Looks who leads; false if nobody is found at the moment.
    async fn find_leader(&mut self) -> bool {
        if std::mem::take(&mut self.misled) {
            self.cluster.reconsider(self.topic.name).await;
        }
        let found = self.cluster.leader(self.topic.name, self.partition).await;
        let topic = self.cluster.topic(self.topic.name).await;
        match (found, topic) {
            (Ok((_, connection)), Ok(topic)) => {
                self.leader = Some((topic.id, connection));
                true
            }
            (Err(error), _) | (_, Err(error)) => {
                self.client.book.met("pipelining", &error);
                self.misled = true;
                false
            }
        }
    }

    fn send_next(&mut self) {
        let (topic_id, connection) = self.leader.clone().expect("somebody was found to lead");
        let mut batches = self.batches.iter_mut();
        let batch = batches.find(|batch| !batch.is_under_way);
        let batch = batch.expect("it was seen just before");
        batch.is_under_way = true;
        let (first, bytes) = (batch.first, batch.bytes.clone());
        let (topic, partition, limit) = (self.topic.name, self.partition, self.limit);
        let mut sending = Box::pin(async move {
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: i32::try_from(limit.as_millis()).unwrap_or(i32::MAX),
                topic_data: vec![TopicProduceData {
                    name: topic,
                    topic_id: topic_id.0,
                    partition_data: vec![PartitionProduceData {
                        index: partition,
                        records: Some(&bytes),
                        ..PartitionProduceData::default()
                    }],
                    ..TopicProduceData::default()
                }],
                ..ProduceRequest::default()
            };
            let answer = connection.ask(&request, limit + super::ANSWER).await;
            (first, answer.and_then(|answer| outcome(&answer)))
        });
        // The first look puts the request behind those before it.
        match futures::FutureExt::now_or_never(&mut sending) {
            Some(answer) => self.under_way.push(Box::pin(async move { answer })),
            None => self.under_way.push(sending),
        }
    }

    /// Takes an answer in; false if this producer has come to its end.
    fn answered(&mut self, first: i32, outcome: Result<i64, ClientError>) -> bool {
        let place = self.batches.iter().position(|batch| batch.first == first);
        // It may count as written already, by the acknowledgement of one behind it.
        let Some(place) = place else { return true };
        let error = match outcome {
            Ok(offset) => {
                self.acknowledged(place, offset);
                return true;
            }
            Err(error) => error,
        };
        let batch = &mut self.batches[place];
        batch.is_under_way = false;
        batch.not_before = Instant::now() + self.backoff;
        match error.code() {
            Some(ErrorCode::DuplicateSequenceNumber) => {
                self.acknowledged(place, -1);
                return true;
            }
            // Those before it are missing, and go again too.
            Some(ErrorCode::OutOfOrderSequenceNumber) if place > 0 => return true,
            _ => {}
        }
        let is_about_connection = error.code().is_none();
        if is_about_connection || error.code() == Some(ErrorCode::NotLeaderOrFollower) {
            self.misled = true;
            let leader = self.leader.take().filter(|_| is_about_connection);
            if let Some((_, connection)) = leader {
                connection.close();
            }
        }
        // This is also told of the oldest batch that is out of order. It comes right behind what was
        // acknowledged, so either it is new, or it is among the last five that were written and a
        // broker recognizes it; librdkafka ends the producer for good.
        self.client.book.met("pipelining", &error);
        error.is_retriable() || matches!(error, ClientError::Timeout { .. })
    }

    /// A batch was written, and so was what comes before it.
    fn acknowledged(&mut self, place: usize, offset: i64) {
        let mut book = self.client.book.open();
        for (at, batch) in self.batches.drain(..=place).enumerate() {
            for (delta, mark) in (0..).zip(batch.marks) {
                book.acked += 1;
                let topic = book.topics.entry(self.topic.name.to_owned()).or_default();
                topic.acked.push(Placed {
                    partition: self.partition,
                    offset: match at == place && offset >= 0 {
                        true => offset + delta,
                        false => -1,
                    },
                    mark,
                });
            }
        }
    }
}

/// What the answer says of the only batch that was sent: its first offset.
fn outcome(answer: &ProduceResponse) -> Result<i64, ClientError> {
    let mut partitions = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    let partition = partitions.next().ok_or_else(|| {
        ClientError::Codec("an answer to Produce without the partition".to_owned())
    })?;
    ClientError::check(partition.error_code, partition.error_message.clone())?;
    Ok(partition.base_offset)
}
