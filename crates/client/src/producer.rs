//! Writes records: one batch in flight for each partition, retried until it is acknowledged or its
//! time runs out.
//!
//! Each partition has a task of its own. What waits while a batch is in flight becomes the next
//! batch, so batches grow under load without a timer, and order holds across retries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millrace_model::{ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use millrace_protocol::batch::{BatchBuilder, BatchOptions, RecordHeader};
use millrace_protocol::compression::Compression;
use millrace_protocol::hash::partition_for_key;
use millrace_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use tokio::sync::{mpsc, oneshot};

use crate::{ClientError, Cluster};

/// Records that may wait for one partition before `send` itself waits.
const QUEUED_RECORDS: usize = 10_000;

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
    /// A batch is closed at this many bytes of keys and values.
    pub batch_bytes: usize,
    /// A batch waits this long for more records.
    pub linger: Duration,
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

type Outcome = Result<Produced, Arc<ClientError>>;

struct Queued {
    record: ToSend,
    outcome: oneshot::Sender<Outcome>,
}

/// Writes to any topic; clones share everything.
#[derive(Clone)]
pub struct Producer(Arc<Shared>);

struct Shared {
    cluster: Cluster,
    options: ProducerOptions,
    identity: tokio::sync::OnceCell<(ProducerId, ProducerEpoch)>,
    partitions: Mutex<BTreeMap<(String, i32), mpsc::Sender<Queued>>>,
    turn: AtomicU64,
}

impl Producer {
    /// A producer; it asks for an identity with the first record.
    pub fn new(cluster: &Cluster, options: ProducerOptions) -> Producer {
        Producer(Arc::new(Shared {
            cluster: cluster.clone(),
            options,
            identity: tokio::sync::OnceCell::new(),
            partitions: Mutex::default(),
            turn: AtomicU64::new(0),
        }))
    }

    /// Queues a record; waits only while too many wait for its partition. The receiver tells what
    /// became of it.
    pub async fn send(
        &self,
        topic: &str,
        record: ToSend,
    ) -> Result<oneshot::Receiver<Outcome>, ClientError> {
        let partition = match record.partition {
            Some(partition) => partition,
            None => self.choose(topic, record.key.as_deref()).await?,
        };
        let (outcome, receiver) = oneshot::channel();
        let queue = self.queue(topic, partition);
        let queued = queue.send(Queued { record, outcome }).await;
        queued.map_err(|_| ClientError::Codec("the producer has ended".to_owned()))?;
        Ok(receiver)
    }

    /// Writes a record and waits for its acknowledgement.
    pub async fn produce(&self, topic: &str, record: ToSend) -> Outcome {
        let outcome = self.send(topic, record).await.map_err(Arc::new)?;
        let ended = || Arc::new(ClientError::Codec("the producer has ended".to_owned()));
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn choose(&self, topic: &str, key: Option<&[u8]>) -> Result<i32, ClientError> {
        let view = match self.0.cluster.topic(topic).await {
            Err(error) if error.is_retriable() => self.0.cluster.topic_ready(topic, true).await?,
            view => view?,
        };
        let count = i32::try_from(view.partitions.len()).unwrap_or(i32::MAX);
        Ok(match key {
            Some(key) => partition_for_key(key, count),
            None => {
                let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
                i32::try_from(turn % count.unsigned_abs().max(1) as u64).expect("an i32's rest")
            }
        })
    }

    fn queue(&self, topic: &str, partition: i32) -> mpsc::Sender<Queued> {
        let mut partitions = self
            .0
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (topic.to_owned(), partition);
        let start = || {
            let (sender, queue) = mpsc::channel(QUEUED_RECORDS);
            let writer = PartitionWriter {
                shared: self.0.clone(),
                topic: topic.to_owned(),
                partition,
                queue,
                sequence: Sequence(0),
            };
            self.0.cluster.machine().tasks.spawn(writer.run());
            sender
        };
        partitions.entry(key).or_insert_with(start).clone()
    }
}

/// Writes one partition's records, batch after batch.
struct PartitionWriter {
    shared: Arc<Shared>,
    topic: String,
    partition: i32,
    queue: mpsc::Receiver<Queued>,
    sequence: Sequence,
}

impl PartitionWriter {
    async fn run(mut self) {
        let mut broken: Option<Arc<ClientError>> = None;
        while let Some(first) = self.queue.recv().await {
            let batch = self.collect(first).await;
            let count = i32::try_from(batch.len()).expect("a batch is bounded by the queue");
            let outcome = match &broken {
                None => self.write(&batch).await.map_err(Arc::new),
                Some(error) => Err(Arc::clone(error)),
            };
            if self.shared.options.idempotent {
                // Whether the batch was written is unknown, so its sequences must not be used
                // again: this partition takes nothing more.
                broken = outcome.as_ref().err().cloned();
            }
            for (place, queued) in batch.into_iter().enumerate() {
                let outcome = outcome.clone().map(|first| Produced {
                    partition: self.partition,
                    offset: if first.get() < 0 {
                        first
                    } else {
                        first.plus(place as i64)
                    },
                });
                // A caller that went away need not be told.
                let _ = queued.outcome.send(outcome);
            }
            self.sequence = self.sequence.plus(count);
        }
    }

    /// What waits, up to a batch, after lingering for it.
    async fn collect(&mut self, first: Queued) -> Vec<Queued> {
        let options = self.shared.options;
        let mut bytes = size(&first.record);
        let mut batch = vec![first];
        let deadline = tokio::time::sleep(options.linger);
        tokio::pin!(deadline);
        while bytes < options.batch_bytes && batch.len() < QUEUED_RECORDS {
            let next = match self.queue.try_recv() {
                Ok(next) => Some(next),
                Err(_) if options.linger.is_zero() => None,
                Err(_) => tokio::select! {
                    biased;
                    next = self.queue.recv() => next,
                    () = &mut deadline => None,
                },
            };
            let Some(next) = next else { break };
            bytes += size(&next.record);
            batch.push(next);
        }
        batch
    }

    /// Writes a batch until it is acknowledged; the offset of its first record.
    async fn write(&self, batch: &[Queued]) -> Result<Offset, ClientError> {
        let clock = &self.shared.cluster.machine().clock;
        let deadline = clock.now() + self.shared.options.delivery_limit;
        let records = self.encode(batch).await?;
        loop {
            let error = match self.attempt(&records).await {
                // The broker has the batch already and no longer knows at which offset.
                Err(error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => {
                    return Ok(Offset(-1));
                }
                Err(error) => error,
                Ok(first) => return Ok(first),
            };
            let again = error.is_retriable() || matches!(error, ClientError::Timeout { .. });
            if !again || clock.now() >= deadline {
                return Err(error);
            }
            self.shared.cluster.reconsider(&self.topic).await;
        }
    }

    async fn encode(&self, batch: &[Queued]) -> Result<Bytes, ClientError> {
        let options = self.shared.options;
        let mut batch_options = BatchOptions {
            compression: options.compression,
            ..BatchOptions::default()
        };
        if options.idempotent {
            let (id, epoch) = *self
                .shared
                .identity
                .get_or_try_init(|| self.identify())
                .await?;
            batch_options.producer_id = id;
            batch_options.producer_epoch = epoch;
            batch_options.base_sequence = self.sequence;
        }
        let mut builder = BatchBuilder::new(batch_options);
        let now = self.shared.cluster.machine().clock.wall();
        for queued in batch {
            let record = &queued.record;
            let timestamp = record.timestamp.unwrap_or(now);
            let headers: Vec<RecordHeader<'_>> = record
                .headers
                .iter()
                .map(|(key, value)| RecordHeader {
                    key: key.as_bytes(),
                    value: value.as_deref(),
                })
                .collect();
            builder.push(
                timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            );
        }
        let built = builder
            .build()
            .map_err(|error| ClientError::Codec(error.to_string()))?;
        Ok(built.freeze())
    }

    async fn identify(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let cluster = &self.shared.cluster;
        let deadline = cluster.machine().clock.now() + self.shared.options.delivery_limit;
        loop {
            let answer = cluster.ask(&request).await;
            let checked = answer.and_then(|answer| {
                ClientError::check(answer.error_code, None)?;
                Ok((
                    ProducerId(answer.producer_id),
                    ProducerEpoch(answer.producer_epoch),
                ))
            });
            match checked {
                Err(error) if error.is_retriable() && cluster.machine().clock.now() < deadline => {
                    cluster.reconsider(&self.topic).await;
                }
                checked => return checked,
            }
        }
    }

    async fn attempt(&self, records: &Bytes) -> Result<Offset, ClientError> {
        let (topic, _, connection) = self
            .shared
            .cluster
            .leader(&self.topic, self.partition)
            .await?;
        let options = self.shared.options;
        let request = ProduceRequest {
            acks: match options.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: i32::try_from(options.request_limit.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: &self.topic,
                topic_id: topic.id.0,
                partition_data: vec![PartitionProduceData {
                    index: self.partition,
                    records: Some(records),
                    ..PartitionProduceData::default()
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        if options.acks == Acks::None {
            connection.tell(&request).await?;
            return Ok(Offset(-1));
        }
        let answer = connection.ask(&request, options.request_limit).await?;
        let partition = answer
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first());
        let partition = partition.ok_or_else(|| {
            ClientError::Codec("an answer to Produce without the partition".to_owned())
        })?;
        ClientError::check(partition.error_code, partition.error_message.clone())?;
        Ok(Offset(partition.base_offset))
    }
}

fn size(record: &ToSend) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    len(&record.key) + len(&record.value)
}
