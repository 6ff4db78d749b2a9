//! Writes records: gathered into batches, several on their way at once, sent again until they are
//! acknowledged or their time runs out, and in order all the while.
//!
//! [`Producer::send`] puts a record into its partition's open batch; a task sends batches that are
//! full or have lingered, those of all partitions of a leader in one request (`sender`). What waits
//! while requests are under way grows into larger batches, so load needs no timer. `lane` holds the
//! rules of sequences, order and retries.

mod accumulator;
mod identity;
mod lane;
mod plan;
mod request;
mod sender;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{Offset, Timestamp};
use millrace_protocol::compression::Compression;
use millrace_protocol::hash::partition_for_key;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::{ClientError, Cluster, TopicView};
use accumulator::{Accumulator, Target, record_bytes};
use sender::Sender;

/// Memory a record takes while it waits, beside its bytes: whom to tell, and its place in a batch.
const RECORD_COST: usize = 64;
/// Largest record that is taken at all; a batch's size is a 32-bit number.
const MAX_RECORD_BYTES: usize = 1 << 30;

/// Who must have a record before it counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody says.
    None,
    /// The leader.
    Leader,
    /// Every in-sync replica.
    All,
}

/// How a producer writes.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// Who must have it.
    pub acks: Acks,
    /// Whether retries are recognised by the broker, so that none is written twice; needs
    /// [`Acks::All`].
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// A batch is closed at this many bytes, before compression.
    pub batch_bytes: usize,
    /// A batch waits this long for more records.
    pub linger: Duration,
    /// Requests that may be on the way to one broker at once. Above one, a retry keeps the order
    /// only of an idempotent producer, which has five at most of one partition.
    pub max_in_flight: usize,
    /// Bytes that records not acknowledged yet may take; beyond it [`Producer::send`] waits.
    pub memory_bytes: usize,
    /// A record not acknowledged by then has failed; whether it was written is unknown.
    pub delivery_limit: Duration,
    /// A broker waits this long for the in-sync replicas.
    pub request_limit: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            batch_bytes: 16 * 1024,
            linger: Duration::ZERO,
            max_in_flight: 5,
            memory_bytes: 32 << 20,
            delivery_limit: Duration::from_secs(120),
            request_limit: Duration::from_secs(30),
        }
    }
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToSend {
    /// The partition; by the key's hash, or in turn, where none is given.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// When it was made; now where none is given.
    pub timestamp: Option<Timestamp>,
}

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The partition.
    pub partition: i32,
    /// Its offset; -1 with [`Acks::None`].
    pub offset: Offset,
}

/// What became of a record.
pub type Outcome = Result<Produced, Arc<ClientError>>;

/// Whom to tell what became of a record.
type Done = Box<dyn FnOnce(Outcome) + Send>;

/// Writes to any topic; clones share everything. When the last is dropped, what was sent is still
/// written as far as the cluster allows.
#[derive(Clone)]
pub struct Producer(Arc<Handle>);

/// What every clone holds, so that the sender ends with the last of them.
struct Handle(Arc<Shared>);

struct Shared {
    cluster: Cluster,
    options: ProducerOptions,
    accumulator: Mutex<Accumulator>,
    /// A permit for each byte that may still be taken.
    memory: Semaphore,
    /// How many wait for memory: then no batch lingers.
    wanting_memory: AtomicUsize,
    closed: AtomicBool,
    wake: Notify,
}

impl Producer {
    /// A producer; it connects, and asks for an identity, with the first record.
    pub fn new(cluster: &Cluster, options: ProducerOptions) -> Producer {
        let machine = cluster.machine();
        let options = ProducerOptions {
            memory_bytes: options
                .memory_bytes
                .clamp(1, Semaphore::MAX_PERMITS.min(1 << 31)),
            ..options
        };
        let first_turn = machine.random.u64() as usize & 0xffff;
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            options,
            accumulator: Mutex::new(Accumulator::new(options, first_turn)),
            memory: Semaphore::new(options.memory_bytes),
            wanting_memory: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            wake: Notify::new(),
        });
        machine.tasks.spawn(Sender::new(shared.clone()).run());
        Producer(Arc::new(Handle(shared)))
    }

    /// Queues a record; waits only for memory, or for a topic that is not known yet. The receiver
    /// tells what became of it.
    ///
    /// # Errors
    /// If the topic is unknown or the record too large; the record is not written then.
    pub async fn send(
        &self,
        topic: &str,
        record: ToSend,
    ) -> Result<oneshot::Receiver<Outcome>, ClientError> {
        let (sender, receiver) = oneshot::channel();
        // A caller that went away need not be told.
        let tell = move |outcome| drop(sender.send(outcome));
        self.send_then(topic, record, tell).await?;
        Ok(receiver)
    }

    /// The same with `done` called when its fate is known. It runs in the task that sends, so it
    /// must be short and must not block.
    ///
    /// # Errors
    /// As [`Producer::send`]; `done` is not called then.
    pub async fn send_then(
        &self,
        topic: &str,
        record: ToSend,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), ClientError> {
        let shared = &self.0.0;
        let bytes = record_bytes(&record);
        if bytes > MAX_RECORD_BYTES || record.partition.is_some_and(|partition| partition < 0) {
            let what = format!("a record of {bytes} bytes for {:?}", record.partition);
            return Err(ClientError::Codec(format!("{what} cannot be written")));
        }
        let view = match record.partition {
            Some(_) => None,
            None => Some(self.view(topic).await?),
        };
        let target = match (record.partition, &record.key, &view) {
            (Some(partition), _, _) => Target::Partition(partition),
            (None, Some(key), Some(view)) => Target::Partition(partition_of(key, view)),
            (None, _, view) => Target::Any(view.as_deref().expect("it was just looked up")),
        };
        let cost = (bytes + RECORD_COST).min(shared.options.memory_bytes);
        shared.reserve(cost).await;
        let clock = &shared.cluster.machine().clock;
        let done = Box::new(done);
        let news = shared
            .accumulator()
            .append(topic, target, &record, cost, done, clock);
        if news {
            shared.wake.notify_one();
        }
        Ok(())
    }

    /// Writes a record and waits for its acknowledgement.
    pub async fn produce(&self, topic: &str, record: ToSend) -> Outcome {
        let outcome = self.send(topic, record).await.map_err(Arc::new)?;
        let ended = || Arc::new(ClientError::Codec("the producer has ended".to_owned()));
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn view(&self, topic: &str) -> Result<Arc<TopicView>, ClientError> {
        let cluster = &self.0.0.cluster;
        match cluster.topic(topic).await {
            Err(error) if error.is_retriable() => {
                cluster.topic_ready(topic, true).await.map(Arc::new)
            }
            view => view,
        }
    }
}

fn partition_of(key: &[u8], view: &TopicView) -> i32 {
    let count = i32::try_from(view.partitions.len()).unwrap_or(i32::MAX);
    partition_for_key(key, count.max(1))
}

impl Shared {
    fn accumulator(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many bytes of memory, waiting for them; batches are sent without lingering
    /// meanwhile.
    async fn reserve(&self, cost: usize) {
        let permits = u32::try_from(cost).expect("a record's size is bounded");
        if let Ok(permit) = self.memory.try_acquire_many(permits) {
            return permit.forget();
        }
        let _wanting = Wanting::more(self);
        self.wake.notify_one();
        let permit = self.memory.acquire_many(permits).await;
        permit.expect("it is never closed").forget();
    }

    fn is_in_a_hurry(&self) -> bool {
        self.wanting_memory.load(Ordering::Relaxed) > 0 || self.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Counts someone who waits for memory, also where the wait is given up.
struct Wanting<'a>(&'a AtomicUsize);

impl<'a> Wanting<'a> {
    fn more(shared: &'a Shared) -> Wanting<'a> {
        shared.wanting_memory.fetch_add(1, Ordering::Relaxed);
        Wanting(&shared.wanting_memory)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}
