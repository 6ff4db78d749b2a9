//! Reads assigned partitions in order, one request a round to each leader.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use millrace_model::limits::MAX_DECOMPRESSED_BATCH_BYTES;
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};
use millrace_protocol::batch::{self, BatchHeader, Record, TimestampType};
use millrace_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millrace_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use millrace_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

use crate::{ClientError, Cluster, TopicView};

/// ListOffsets' names for places that are no timestamps.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the log start offset.
    Earliest,
    /// At the high watermark.
    Latest,
    /// At this offset.
    At(Offset),
    /// At the first record as new as this.
    Since(Timestamp),
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions {
    /// A broker holds an empty answer back this long, waiting for records.
    pub max_wait: Duration,
    /// Bytes of one answer.
    pub max_bytes: i32,
    /// Bytes of one partition in an answer.
    pub max_partition_bytes: i32,
    /// Whether to read only what transactions have committed.
    pub read_committed: bool,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        ConsumerOptions {
            max_wait: Duration::from_millis(500),
            max_bytes: 50 << 20,
            max_partition_bytes: 1 << 20,
            read_committed: false,
        }
    }
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset.
    pub offset: Offset,
    /// When it was made, or appended.
    pub timestamp: Timestamp,
    /// Whether the timestamp is that of the append.
    pub is_append_time: bool,
    /// The leader epoch it was appended in.
    pub leader_epoch: LeaderEpoch,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Reads the partitions it was given, each in order.
pub struct Consumer {
    cluster: Cluster,
    options: ConsumerOptions,
    positions: BTreeMap<(String, i32), Position>,
    ready: VecDeque<Consumed>,
}

struct Position {
    next: Offset,
    high_watermark: Offset,
}

impl Consumer {
    /// A consumer of nothing yet.
    pub fn new(cluster: &Cluster, options: ConsumerOptions) -> Consumer {
        let (positions, ready) = (BTreeMap::new(), VecDeque::new());
        Consumer {
            cluster: cluster.clone(),
            options,
            positions,
            ready,
        }
    }

    /// Also reads this partition, from `start` on.
    pub async fn assign(
        &mut self,
        topic: &str,
        partition: i32,
        start: Start,
    ) -> Result<Offset, ClientError> {
        let next = match start {
            Start::At(offset) => offset,
            Start::Earliest => offset_at(&self.cluster, topic, partition, EARLIEST).await?,
            Start::Latest => offset_at(&self.cluster, topic, partition, LATEST).await?,
            Start::Since(time) => {
                let found = offset_at(&self.cluster, topic, partition, time.get()).await?;
                // Nothing that new: what comes next is.
                if found.get() >= 0 {
                    found
                } else {
                    offset_at(&self.cluster, topic, partition, LATEST).await?
                }
            }
        };
        let position = Position {
            next,
            high_watermark: Offset(-1),
        };
        self.positions
            .insert((topic.to_owned(), partition), position);
        Ok(next)
    }

    /// The next offset it will read of a partition, and the high watermark it last saw.
    pub fn position(&self, topic: &str, partition: i32) -> Option<(Offset, Offset)> {
        let position = self.positions.get(&(topic.to_owned(), partition))?;
        Some((position.next, position.high_watermark))
    }

    /// The next record; `None` where a round of fetches brought none.
    pub async fn next(&mut self) -> Result<Option<Consumed>, ClientError> {
        if self.ready.is_empty() {
            self.fetch().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Everything one round of fetches brings.
    pub async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        if self.ready.is_empty() {
            self.fetch().await?;
        }
        Ok(self.ready.drain(..).collect())
    }

    /// Asks every leader once, side by side.
    async fn fetch(&mut self) -> Result<(), ClientError> {
        let (by_leader, mut reconsider) = self.by_leader().await?;
        let asks = by_leader
            .iter()
            .map(|(leader, wanted)| self.ask(*leader, wanted));
        let answers = join_all(asks).await;
        for (answer, wanted) in answers.into_iter().zip(by_leader.values()) {
            match answer {
                Ok(answer) => self.take(answer, &mut reconsider)?,
                Err(error)
                    if error.is_retriable() || matches!(error, ClientError::Timeout { .. }) =>
                {
                    reconsider.extend(wanted.iter().map(|wanted| wanted.topic.name.clone()));
                }
                Err(error) => return Err(error),
            }
        }
        reconsider.dedup();
        for topic in reconsider {
            self.cluster.reconsider(&topic).await;
        }
        Ok(())
    }

    async fn by_leader(
        &self,
    ) -> Result<(BTreeMap<BrokerId, Vec<Wanted>>, Vec<String>), ClientError> {
        let mut by_leader: BTreeMap<BrokerId, Vec<Wanted>> = BTreeMap::new();
        let mut leaderless = Vec::new();
        for ((name, index), position) in &self.positions {
            let topic = match self.cluster.topic(name).await {
                Ok(topic) => topic,
                Err(error) if error.is_retriable() => {
                    leaderless.push(name.clone());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let found = topic.partitions.iter().find(|p| p.index == *index);
            match found.and_then(|partition| Some((partition.leader?, partition.leader_epoch))) {
                Some((leader, leader_epoch)) => by_leader.entry(leader).or_default().push(Wanted {
                    topic: topic.clone(),
                    partition: *index,
                    from: position.next,
                    leader_epoch,
                }),
                None => leaderless.push(name.clone()),
            }
        }
        Ok((by_leader, leaderless))
    }

    async fn ask(&self, leader: BrokerId, wanted: &[Wanted]) -> Result<FetchResponse, ClientError> {
        let connection = self.cluster.broker(leader).await?;
        let topics = wanted.iter().map(|wanted| FetchTopic {
            topic: &wanted.topic.name,
            topic_id: wanted.topic.id.0,
            partitions: vec![FetchPartition {
                partition: wanted.partition,
                current_leader_epoch: wanted.leader_epoch.get(),
                fetch_offset: wanted.from.get(),
                partition_max_bytes: self.options.max_partition_bytes,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        });
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.options.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.options.max_bytes,
            isolation_level: i8::from(self.options.read_committed),
            topics: topics.collect(),
            ..FetchRequest::default()
        };
        connection
            .ask(&request, self.cluster.limit() + self.options.max_wait)
            .await
    }

    fn take(
        &mut self,
        answer: FetchResponse,
        reconsider: &mut Vec<String>,
    ) -> Result<(), ClientError> {
        ClientError::check(answer.error_code, None)?;
        for topic in answer.responses {
            for partition in topic.partitions {
                let key = self.positions.keys().find(|(name, index)| {
                    *index == partition.partition_index
                        && (*name == topic.topic || topic.topic.is_empty())
                        && (topic.topic_id.is_zero() || self.is_topic(name, topic.topic_id))
                });
                let Some(key) = key.cloned() else { continue };
                match ClientError::check(partition.error_code, None) {
                    Ok(()) => self.take_partition(key, &partition)?,
                    Err(error) if error.is_retriable() => reconsider.push(key.0),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn is_topic(&self, name: &str, id: millrace_model::Uuid) -> bool {
        self.cluster.seen_topic_id(name) == Some(millrace_model::TopicId(id))
    }

    fn take_partition(
        &mut self,
        key: (String, i32),
        partition: &PartitionData,
    ) -> Result<(), ClientError> {
        let position = self
            .positions
            .get_mut(&key)
            .expect("the key was found among them");
        position.high_watermark = Offset(partition.high_watermark);
        let Some(records) = partition.records.as_ref().and_then(|r| r.as_bytes()) else {
            return Ok(());
        };
        let unreadable = |error: &dyn std::fmt::Display| {
            ClientError::Codec(format!("{}-{}: {error}", key.0, key.1))
        };
        for read in batch::batches(records) {
            // The last batch may be cut off.
            let Ok(batch) = read else { break };
            let header = batch.header().map_err(|e| unreadable(&e))?;
            let set = batch
                .records(MAX_DECOMPRESSED_BATCH_BYTES)
                .map_err(|e| unreadable(&e))?;
            let records = set.iter().filter(|_| !header.is_control());
            for record in records {
                let record = record.map_err(|e| unreadable(&e))?;
                if record.offset >= position.next {
                    self.ready.push_back(consumed(&key, &header, &record));
                }
            }
            position.next = position.next.max(header.next_offset());
        }
        Ok(())
    }
}

fn consumed(key: &(String, i32), header: &BatchHeader, record: &Record<'_>) -> Consumed {
    let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = record.headers().map(|header| {
        (
            String::from_utf8_lossy(header.key).into_owned(),
            header.value.map(owned),
        )
    });
    Consumed {
        topic: key.0.clone(),
        partition: key.1,
        offset: record.offset,
        timestamp: record.timestamp,
        is_append_time: header.timestamp_type() == TimestampType::LogAppendTime,
        leader_epoch: header.leader_epoch,
        key: record.key.map(owned),
        value: record.value.map(owned),
        headers: headers.collect(),
    }
}

struct Wanted {
    topic: TopicView,
    partition: i32,
    from: Offset,
    leader_epoch: LeaderEpoch,
}

/// The offset of a partition at a timestamp, or at one of ListOffsets' negative names; -1 where no
/// record is that new.
/// Deletes the records of a partition before an offset; returns where the log begins then.
pub(crate) async fn delete_before(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> Result<Offset, ClientError> {
    let deadline = cluster.machine().clock.now() + cluster.limit();
    loop {
        match ask_to_delete(cluster, topic, partition, offset).await {
            Err(error) if error.is_retriable() && cluster.machine().clock.now() < deadline => {
                cluster.reconsider(topic).await;
            }
            done => return done,
        }
    }
}

async fn ask_to_delete(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offset: Offset,
) -> Result<Offset, ClientError> {
    let (_, _, connection) = cluster.leader(topic, partition).await?;
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: topic.to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset: offset.get(),
                ..DeleteRecordsPartition::default()
            }],
            ..DeleteRecordsTopic::default()
        }],
        timeout_ms: i32::try_from(cluster.limit().as_millis()).unwrap_or(i32::MAX),
        ..DeleteRecordsRequest::default()
    };
    let answer = connection.ask(&request, cluster.limit()).await?;
    let deleted = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let deleted = deleted.ok_or_else(|| ClientError::Codec("the answer is empty".to_owned()))?;
    ClientError::check(deleted.error_code, None)?;
    Ok(Offset(deleted.low_watermark))
}

pub(crate) async fn offset_at(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<Offset, ClientError> {
    let deadline = cluster.machine().clock.now() + cluster.limit();
    loop {
        match ask_offset(cluster, topic, partition, timestamp).await {
            Err(error) if error.is_retriable() && cluster.machine().clock.now() < deadline => {
                cluster.reconsider(topic).await;
            }
            done => return done,
        }
    }
}

async fn ask_offset(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<Offset, ClientError> {
    let (_, view, connection) = cluster.leader(topic, partition).await?;
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                current_leader_epoch: view.leader_epoch.get(),
                timestamp,
                ..ListOffsetsPartition::default()
            }],
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = connection.ask(&request, cluster.limit()).await?;
    let found = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let found = found.ok_or(ClientError::Broker {
        code: ErrorCode::UnknownTopicOrPartition,
        message: None,
    })?;
    ClientError::check(found.error_code, None)?;
    Ok(Offset(found.offset))
}
