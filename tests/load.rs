//! Load from stock librdkafka producers, paced, with every answer written down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use millrace_testkit::history::{Mark, Placed};
use millrace_testkit::wait;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::gap::AckTimes;

/// How long a stock client may take to stop when it is asked to.
pub const STOPPING: Duration = Duration::from_secs(120);

/// How long the last records may take to have their answers.
const FLUSHING: Duration = Duration::from_secs(90);

/// What the producers do.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How many producers.
    pub producers: u32,
    /// Records a second of all of them together.
    pub per_second: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Settings over those of the harness.
    pub settings: BTreeMap<String, String>,
    /// The number of the first producer; a second load on a topic begins beyond the first one's.
    pub first_producer: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            producers: 2,
            per_second: 1_000,
            value_bytes: 200,
            settings: BTreeMap::new(),
            first_producer: 1,
        }
    }
}

impl Pace {
    /// The same with one setting of librdkafka more.
    pub fn with(mut self, key: &str, value: &str) -> Pace {
        self.settings.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// What became of the records.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Acknowledged.
    pub acked: Vec<Placed>,
    /// When.
    pub times: AckTimes,
    /// Handed to the client and not acknowledged, so far or at all.
    pub open: BTreeSet<(i32, Mark)>,
    /// Final errors of records, by name.
    pub errors: BTreeMap<String, usize>,
}

type Shared = Arc<Mutex<Answers>>;

/// Producers at work.
pub struct Load {
    answers: Shared,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts producing to all partitions of a topic.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32, pace: &Pace) -> Load {
        let answers = Shared::default();
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..pace.producers).map(|number| {
            let task = Task {
                producer: producer(bootstrap, pace, answers.clone()),
                number: pace.first_producer + number,
                topic: topic.to_owned(),
                partitions,
                pace: pace.clone(),
                stop: stop.clone(),
                answers: answers.clone(),
            };
            thread::spawn(move || task.run())
        });
        Load {
            threads: threads.collect(),
            answers,
            stop,
        }
    }

    /// What is known so far.
    pub fn answers(&self) -> MutexGuard<'_, Answers> {
        lock(&self.answers)
    }

    /// Stops sending, waits until every record has its answer, and gives the answers.
    pub fn finish(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            wait::joined("a producer", FLUSHING + STOPPING, thread);
        }
        lock(&self.answers).clone()
    }
}

/// The settings of a client that retries quickly; a producer of the history's kind.
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("socket.timeout.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "1000")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "20")
        .set("topic.metadata.refresh.fast.interval.ms", "20")
        .set("topic.metadata.refresh.interval.ms", "2000")
        .set("broker.address.family", "v4")
        .set("log_level", "2");
    config
}

/// Sends one record that is not retried; the offset it got, or the error that the client names.
pub fn send_one(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    value: &[u8],
    acks: &str,
) -> Result<i64, String> {
    let answers = Shared::default();
    let mut config = client(bootstrap);
    config
        .set("acks", acks)
        .set("message.send.max.retries", "0")
        .set("request.timeout.ms", "3000")
        .set("socket.timeout.ms", "5000")
        .set("message.timeout.ms", "10000");
    let listener = Listener {
        answers: answers.clone(),
    };
    let producer: ThreadedProducer<Listener> = config
        .create_with_context(listener)
        .expect("the settings of the producer are right");
    let nobody = Mark {
        producer: 0,
        sequence: 0,
    };
    let record = BaseRecord::with_opaque_to(topic, Box::new((partition, nobody)))
        .payload(value)
        .key("")
        .partition(partition);
    producer
        .send(record)
        .map_err(|(error, _)| error.to_string())?;
    producer
        .flush(Duration::from_secs(20))
        .map_err(|error| error.to_string())?;
    let answers = lock(&answers);
    match answers.acked.first() {
        Some(acked) => Ok(acked.offset),
        None => Err(answers
            .errors
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")),
    }
}

fn producer(bootstrap: &str, pace: &Pace, answers: Shared) -> ThreadedProducer<Listener> {
    let mut config = client(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("retry.backoff.max.ms", "100")
        .set("message.timeout.ms", "120000")
        .set("queue.buffering.max.messages", "200000");
    for (key, value) in &pace.settings {
        config.set(key, value);
    }
    config
        .create_with_context(Listener { answers })
        .expect("the settings of the producer are right")
}

/// Writes down each delivery report.
struct Listener {
    answers: Shared,
}

impl ClientContext for Listener {}

impl ProducerContext for Listener {
    type DeliveryOpaque = Box<(i32, Mark)>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Self::DeliveryOpaque) {
        let now = Instant::now();
        let (partition, mark) = *sent;
        let mut answers = lock(&self.answers);
        match result {
            Ok(message) => {
                answers.open.remove(&(partition, mark));
                answers.times.note(partition, now);
                answers.acked.push(Placed {
                    partition,
                    offset: message.offset(),
                    mark,
                });
            }
            Err((error, _)) => {
                let name = match error {
                    KafkaError::MessageProduction(code) => format!("{code:?}"),
                    other => other.to_string(),
                };
                *answers.errors.entry(name).or_default() += 1;
            }
        }
    }
}

/// One producer's thread.
struct Task {
    producer: ThreadedProducer<Listener>,
    number: u32,
    topic: String,
    partitions: i32,
    pace: Pace,
    stop: Arc<AtomicBool>,
    answers: Shared,
}

impl Task {
    fn run(self) {
        let began = Instant::now();
        let per_second = f64::from(self.pace.per_second) / f64::from(self.pace.producers);
        let mut sent: u64 = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let due = (began.elapsed().as_secs_f64() * per_second) as u64;
            while sent < due && !self.stop.load(Ordering::Relaxed) {
                let partitions = self.partitions as u64;
                self.send((sent % partitions) as i32, sent / partitions);
                sent += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Whatever is unanswered after this stays among the open ones.
        let _ = self.producer.flush(FLUSHING);
    }

    fn send(&self, partition: i32, sequence: u64) {
        let mark = Mark {
            producer: self.number,
            sequence,
        };
        let value = mark.value(self.pace.value_bytes);
        lock(&self.answers).open.insert((partition, mark));
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new((partition, mark)))
            .payload(&value)
            .key("")
            .partition(partition);
        while let Err((error, back)) = self.producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            if error != full || self.stop.load(Ordering::Relaxed) {
                // What ended the producer says more than that it has ended.
                let ended = self.producer.client().fatal_error();
                let why = ended.map_or_else(|| error.to_string(), |(_, why)| why);
                let mut answers = lock(&self.answers);
                answers.open.remove(&(partition, mark));
                let refused = format!("refused by the client: {why}");
                *answers.errors.entry(refused).or_default() += 1;
                return;
            }
            record = back;
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lock(answers: &Shared) -> MutexGuard<'_, Answers> {
    answers.lock().expect("nothing panics under this lock")
}
