//! Reads assigned partitions in order, one request at a time to each leader; no leader waits for
//! another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use millrace_model::limits::MAX_DECOMPRESSED_BATCH_BYTES;
use millrace_model::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicId};
use millrace_protocol::batch::{self, BatchHeader, Record, TimestampType};
use millrace_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use millrace_protocol::messages::fetch_response::{FetchResponse, PartitionData};

use crate::cluster::not_in_metadata;
use crate::offsets::{EARLIEST, LATEST, offset_at};
use crate::{ClientError, Cluster, Connection};

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

/// Batches as a broker sent them.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// What was asked for: records before this offset are in the first batch by chance.
    pub from: Offset,
    /// Batches one after the other; the last may be cut off.
    pub batches: Bytes,
}

impl FetchedBatches {
    /// Checks every batch against its checksum, and counts the records that were asked for.
    ///
    /// # Errors
    /// If a batch is broken.
    pub fn count(&self) -> Result<u64, ClientError> {
        let broken = |error: &dyn std::fmt::Display| unreadable(&self.topic, self.partition, error);
        let mut records = 0;
        for batch in batch::batches(&self.batches).map_while(Result::ok) {
            batch.check().map_err(|e| broken(&e))?;
            let header = batch.header().map_err(|e| broken(&e))?;
            let skipped = (self.from.get() - header.base_offset.get()).max(0);
            let wanted = i64::from(header.record_count) - skipped;
            records += u64::try_from(wanted).unwrap_or(0);
        }
        Ok(records)
    }
}

/// Reads the partitions it was given, each in order.
pub struct Consumer {
    cluster: Cluster,
    options: ConsumerOptions,
    positions: BTreeMap<Arc<str>, BTreeMap<i32, Position>>,
    connections: BTreeMap<BrokerId, Connection>,
    /// Fetches that wait for their answers, one for each leader.
    underway: FuturesUnordered<BoxFuture<'static, Fetched>>,
    asked: BTreeSet<BrokerId>,
    arrived: VecDeque<FetchedBatches>,
    ready: VecDeque<Consumed>,
}

struct Position {
    next: Offset,
    high_watermark: Offset,
    /// Leaders of earlier epochs may lack what was read already.
    since: LeaderEpoch,
}

/// What one leader is asked for: topics, and of each the partitions with offset and leader epoch.
#[derive(Default)]
struct Wanted(BTreeMap<Arc<str>, (TopicId, Vec<Place>)>);

/// A partition, the next offset, and under whom.
type Place = (i32, Offset, LeaderEpoch);

/// A leader's answer; the connection comes back to be used again.
struct Fetched {
    leader: BrokerId,
    wanted: Wanted,
    answer: Result<(FetchResponse, Connection), ClientError>,
}

impl Consumer {
    /// A consumer of nothing yet.
    pub fn new(cluster: &Cluster, options: ConsumerOptions) -> Consumer {
        Consumer {
            cluster: cluster.clone(),
            options,
            positions: BTreeMap::new(),
            connections: BTreeMap::new(),
            underway: FuturesUnordered::new(),
            asked: BTreeSet::new(),
            arrived: VecDeque::new(),
            ready: VecDeque::new(),
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
            since: LeaderEpoch::NONE,
        };
        let partitions = self.positions.entry(topic.into()).or_default();
        partitions.insert(partition, position);
        Ok(next)
    }

    /// Reads this partition from leaders of this epoch or later ones only. A broker that is cut off
    /// still names an older one, which may lack what others have read, and would say that the offset
    /// is out of its range (KIP-320).
    pub fn only_since(&mut self, topic: &str, partition: i32, epoch: LeaderEpoch) {
        let positions = self.positions.get_mut(topic);
        if let Some(position) = positions.and_then(|positions| positions.get_mut(&partition)) {
            position.since = position.since.max(epoch);
        }
    }

    /// The next offset it will read of a partition, and the high watermark it last saw.
    pub fn position(&self, topic: &str, partition: i32) -> Option<(Offset, Offset)> {
        let position = self.positions.get(topic)?.get(&partition)?;
        Some((position.next, position.high_watermark))
    }

    /// The next record; `None` where the next answer brought none.
    pub async fn next(&mut self) -> Result<Option<Consumed>, ClientError> {
        if self.ready.is_empty() {
            self.read().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Everything the next answer brings, which may be nothing.
    pub async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        if self.ready.is_empty() {
            self.read().await?;
        }
        Ok(self.ready.drain(..).collect())
    }

    /// The same without a look at the records: for who counts rather than reads.
    pub async fn poll_batches(&mut self) -> Result<Vec<FetchedBatches>, ClientError> {
        if self.arrived.is_empty() {
            self.fetch().await?;
        }
        Ok(self.arrived.drain(..).collect())
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        for fetched in self.poll_batches().await? {
            take_records(&fetched, &mut self.ready)?;
        }
        Ok(())
    }

    /// Asks every leader that is not being asked, and takes what is answered first. Cancelling
    /// loses nothing.
    async fn fetch(&mut self) -> Result<(), ClientError> {
        let mut reconsider = BTreeSet::new();
        for (leader, wanted) in self.by_leader(&mut reconsider).await? {
            if self.asked.insert(leader) {
                let connection = self.connections.remove(&leader);
                let asking = ask(
                    self.cluster.clone(),
                    self.options,
                    leader,
                    connection,
                    wanted,
                );
                self.underway.push(asking.boxed());
            }
        }
        if self.underway.is_empty() && reconsider.is_empty() {
            // Nothing is assigned, or nothing of it is there: callers go round and round.
            tokio::time::sleep(self.options.max_wait).await;
        }
        let mut next = match reconsider.is_empty() {
            true => self.underway.next().await,
            false => self.underway.next().now_or_never().flatten(),
        };
        while let Some(fetched) = next {
            self.take(fetched, &mut reconsider)?;
            next = self.underway.next().now_or_never().flatten();
        }
        for topic in reconsider {
            self.cluster.reconsider(&topic).await;
        }
        Ok(())
    }

    /// What to ask whom; partitions of leaders that are being asked are left out, and topics with a
    /// partition that nobody leads are named.
    async fn by_leader(
        &mut self,
        leaderless: &mut BTreeSet<Arc<str>>,
    ) -> Result<BTreeMap<BrokerId, Wanted>, ClientError> {
        let mut by_leader: BTreeMap<BrokerId, Wanted> = BTreeMap::new();
        for (name, positions) in &self.positions {
            let topic = match self.cluster.topic(name).await {
                Ok(topic) => topic,
                Err(error) if error.is_retriable() => {
                    leaderless.insert(name.clone());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for partition in &topic.partitions {
                let Some(position) = positions.get(&partition.index) else {
                    continue;
                };
                match partition.leader {
                    None => drop(leaderless.insert(name.clone())),
                    Some(leader) if self.asked.contains(&leader) => {}
                    Some(_) if partition.leader_epoch < position.since => {
                        leaderless.insert(name.clone());
                    }
                    Some(leader) => {
                        let topics = &mut by_leader.entry(leader).or_default().0;
                        let fresh = || (topic.id, Vec::new());
                        let (_, partitions) = topics.entry(name.clone()).or_insert_with(fresh);
                        let place = (partition.index, position.next, partition.leader_epoch);
                        partitions.push(place);
                    }
                }
            }
        }
        Ok(by_leader)
    }

    fn take(
        &mut self,
        fetched: Fetched,
        reconsider: &mut BTreeSet<Arc<str>>,
    ) -> Result<(), ClientError> {
        let Fetched {
            leader,
            wanted,
            answer,
        } = fetched;
        self.asked.remove(&leader);
        let again = |error: &ClientError| {
            error.is_retriable() || matches!(error, ClientError::Timeout { .. })
        };
        let answer = match answer {
            Ok((answer, connection)) => {
                self.connections.insert(leader, connection);
                answer
            }
            Err(error) if again(&error) => {
                reconsider.extend(wanted.0.into_keys());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match ClientError::check(answer.error_code, None) {
            Err(error) if again(&error) => reconsider.extend(wanted.0.keys().cloned()),
            checked => checked?,
        }
        for topic in answer.responses {
            let named = |(name, (id, _)): &(&Arc<str>, &(TopicId, Vec<_>))| {
                ***name == *topic.topic || topic.topic.is_empty() && *id == TopicId(topic.topic_id)
            };
            let Some((name, (_, asked))) = wanted.0.iter().find(named) else {
                continue;
            };
            for partition in topic.partitions {
                let index = partition.partition_index;
                let Some((_, from, _)) = asked.iter().find(|(is, ..)| *is == index) else {
                    continue;
                };
                match ClientError::check(partition.error_code, None) {
                    Ok(()) => self.take_partition(name, *from, &partition)?,
                    Err(error) if error.is_retriable() => drop(reconsider.insert(name.clone())),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn take_partition(
        &mut self,
        topic: &Arc<str>,
        from: Offset,
        partition: &PartitionData,
    ) -> Result<(), ClientError> {
        let index = partition.partition_index;
        let positions = self.positions.get_mut(topic);
        let Some(position) = positions.and_then(|positions| positions.get_mut(&index)) else {
            return Ok(());
        };
        // It was assigned anew meanwhile.
        if position.next != from {
            return Ok(());
        }
        position.high_watermark = Offset(partition.high_watermark);
        let records = partition.records.as_ref().and_then(|r| r.as_bytes());
        let Some(batches) = records.filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        // The last batch may be cut off.
        for batch in batch::batches(batches).map_while(Result::ok) {
            let last = batch
                .last_offset()
                .map_err(|e| unreadable(topic, index, &e))?;
            position.next = position.next.max(last.plus(1));
        }
        self.arrived.push_back(FetchedBatches {
            topic: topic.clone(),
            partition: index,
            from,
            batches: batches.clone(),
        });
        Ok(())
    }
}

fn unreadable(topic: &str, partition: i32, error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Codec(format!("{topic}-{partition}: {error}"))
}

/// Asks one leader, on a connection of the consumer's own: an answer that waits for records would
/// hold up everything behind it.
async fn ask(
    cluster: Cluster,
    options: ConsumerOptions,
    leader: BrokerId,
    connection: Option<Connection>,
    wanted: Wanted,
) -> Fetched {
    let asking = async {
        let connection = match connection.filter(|connection| !connection.is_broken()) {
            Some(connection) => connection,
            None => {
                let node = cluster.seen_node(leader);
                let node = node.ok_or_else(|| not_in_metadata(leader))?;
                cluster.open(&node).await?
            }
        };
        let request = fetch_request(&options, &wanted);
        let limit = cluster.limit() + options.max_wait;
        let answer = connection.ask(&request, limit).await?;
        Ok((answer, connection))
    };
    let answer = asking.await;
    Fetched {
        leader,
        wanted,
        answer,
    }
}

fn fetch_request<'a>(options: &ConsumerOptions, wanted: &'a Wanted) -> FetchRequest<'a> {
    let topics = wanted.0.iter().map(|(name, (id, partitions))| FetchTopic {
        topic: name,
        topic_id: id.0,
        partitions: partitions
            .iter()
            .map(|(partition, from, leader_epoch)| FetchPartition {
                partition: *partition,
                current_leader_epoch: leader_epoch.get(),
                fetch_offset: from.get(),
                partition_max_bytes: options.max_partition_bytes,
                ..FetchPartition::default()
            })
            .collect(),
        ..FetchTopic::default()
    });
    FetchRequest {
        max_wait_ms: i32::try_from(options.max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: options.max_bytes,
        isolation_level: i8::from(options.read_committed),
        topics: topics.collect(),
        ..FetchRequest::default()
    }
}

/// The records of batches, from the offset on that was asked for.
fn take_records(
    fetched: &FetchedBatches,
    ready: &mut VecDeque<Consumed>,
) -> Result<(), ClientError> {
    let (topic, partition) = (&fetched.topic, fetched.partition);
    let broken = |error: &dyn std::fmt::Display| unreadable(topic, partition, error);
    for batch in batch::batches(&fetched.batches).map_while(Result::ok) {
        let header = batch.header().map_err(|e| broken(&e))?;
        let set = batch
            .records(MAX_DECOMPRESSED_BATCH_BYTES)
            .map_err(|e| broken(&e))?;
        for record in set.iter().filter(|_| !header.is_control()) {
            let record = record.map_err(|e| broken(&e))?;
            if record.offset >= fetched.from {
                ready.push_back(consumed(topic, partition, &header, &record));
            }
        }
    }
    Ok(())
}

fn consumed(topic: &str, partition: i32, header: &BatchHeader, record: &Record<'_>) -> Consumed {
    let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = record.headers().map(|header| {
        (
            String::from_utf8_lossy(header.key).into_owned(),
            header.value.map(owned),
        )
    });
    Consumed {
        topic: topic.to_owned(),
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        is_append_time: header.timestamp_type() == TimestampType::LogAppendTime,
        leader_epoch: header.leader_epoch,
        key: record.key.map(owned),
        value: record.value.map(owned),
        headers: headers.collect(),
    }
}
