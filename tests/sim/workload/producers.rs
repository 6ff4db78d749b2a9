//! Producers of every kind: all acknowledgement settings, with and without idempotence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace_client::{Acks, Compression, Producer, ProducerOptions, ToSend};
use millrace_testkit::history::{Mark, Placed};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Client, Stage, Topic, millis};
use crate::book::{Promise, SharedBook};

/// Records to one partition at once.
const GROUP: std::ops::Range<u64> = 1..25;
/// Between two groups of one producer, in milliseconds. Two client machines with three producers
/// each come to more than a thousand records a second.
const PAUSE: std::ops::Range<u64> = 20..110;

/// Writes to a topic until the load ends, with a new producer whenever one is broken.
pub async fn keep_producing(client: Client, topic: Topic, part: u64) {
    let mut rng = client.rng(part);
    while client.stage() == Stage::Load {
        produce(&client, &topic, &mut rng).await;
    }
}

struct One {
    number: u32,
    producer: Producer,
    topic: Topic,
    sequences: BTreeMap<i32, u64>,
    /// Whether one of its partitions takes no more.
    broken: Arc<AtomicBool>,
    counts: bool,
}

async fn produce(client: &Client, topic: &Topic, rng: &mut StdRng) {
    let number = {
        let mut book = client.book.open();
        book.producers += 1;
        book.producers
    };
    let options = options(topic.promise, rng);
    let mut one = One {
        number,
        producer: Producer::new(&client.cluster(&format!("producer-{number}")), options),
        topic: topic.clone(),
        sequences: BTreeMap::new(),
        broken: Arc::default(),
        counts: options.acks != Acks::None,
    };
    while client.stage() == Stage::Load && !one.broken.load(Ordering::Relaxed) {
        one.send_group(client, rng).await;
        tokio::time::sleep(millis(rng, PAUSE)).await;
        if !options.idempotent && rng.random_bool(0.002) {
            return;
        }
    }
}

fn options(promise: Promise, rng: &mut StdRng) -> ProducerOptions {
    let compressions = [Compression::None, Compression::Lz4, Compression::Snappy];
    let acks = match promise {
        Promise::Exact | Promise::Kept => Acks::All,
        Promise::Hoped if rng.random_bool(0.3) => Acks::None,
        Promise::Hoped => Acks::Leader,
    };
    ProducerOptions {
        acks,
        idempotent: promise == Promise::Exact,
        compression: compressions[rng.random_range(0..compressions.len())],
        linger: millis(rng, 0..10),
        delivery_limit: Duration::from_secs(rng.random_range(4..20)),
        request_limit: Duration::from_millis(rng.random_range(500..3000)),
        max_in_flight: rng.random_range(1..6),
        ..ProducerOptions::default()
    }
}

impl One {
    async fn send_group(&mut self, client: &Client, rng: &mut StdRng) {
        let partition = rng.random_range(0..self.topic.partitions);
        let sequence = self.sequences.entry(partition).or_default();
        let mut answers = Vec::new();
        for _ in 0..rng.random_range(GROUP) {
            let mark = Mark {
                producer: self.number,
                sequence: *sequence,
            };
            *sequence += 1;
            let value = mark.value(rng.random_range(20..250));
            {
                let mut book = client.book.open();
                let topic = book.topics.entry(self.topic.name.to_owned()).or_default();
                topic.sent.push((partition, mark));
            }
            let record = ToSend {
                partition: Some(partition),
                value: Some(Bytes::from(value)),
                ..ToSend::default()
            };
            match self.producer.send(self.topic.name, record).await {
                Ok(answer) => answers.push((mark, answer)),
                Err(error) => client.book.met("producing", &error),
            }
        }
        let (book, topic) = (client.book.clone(), self.topic.name);
        let (broken, counts) = (self.broken.clone(), self.counts);
        book.open().under_way += 1;
        client.host.tasks.spawn(async move {
            for (mark, answer) in answers {
                match answer.await {
                    Ok(Ok(at)) => acked(&book, topic, mark, at.partition, at.offset.get(), counts),
                    Ok(Err(error)) => {
                        book.met("producing", &error);
                        broken.store(true, Ordering::Relaxed);
                        break;
                    }
                    // The producer is gone.
                    Err(_) => break,
                }
            }
            book.open().under_way -= 1;
        });
    }
}

fn acked(book: &SharedBook, topic: &str, mark: Mark, partition: i32, offset: i64, counts: bool) {
    let mut book = book.open();
    book.acked += 1;
    if counts {
        let placed = Placed {
            partition,
            offset,
            mark,
        };
        book.topics
            .entry(topic.to_owned())
            .or_default()
            .acked
            .push(placed);
    }
}
