//! The cluster as a client sees it: its brokers, its topics, and who leads what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_host::Host;
use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, Offset, TopicId};
use millrace_protocol::Message;
use millrace_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millrace_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};

use crate::offsets::{delete_before, offset_at};
use crate::{ClientError, Connection, Exchange};

/// Between two looks for something that is not there yet.
const RETRY_BACKOFF: Duration = Duration::from_millis(20);

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its number; [`BrokerId::NONE`] for a bootstrap address.
    pub id: BrokerId,
    /// Where it says clients reach it.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// One partition, from Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub index: i32,
    /// Who leads, if anybody does.
    pub leader: Option<BrokerId>,
    /// Under which epoch; [`LeaderEpoch::NONE`] from old brokers.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
}

/// One topic, from Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its identity; zero from old brokers.
    pub id: TopicId,
    /// Whether the brokers keep it for themselves.
    pub is_internal: bool,
    /// Its partitions by number.
    pub partitions: Vec<PartitionView>,
}

impl TopicView {
    /// A broker that is cut off tells of leaders that were replaced long ago; what was seen of a
    /// later epoch stands (KIP-320).
    fn keep_newer(&mut self, before: &TopicView) {
        if self.id != before.id {
            return;
        }
        for partition in &mut self.partitions {
            let mut known = before.partitions.iter();
            let known = known.find(|known| known.index == partition.index);
            if let Some(known) = known.filter(|known| known.leader_epoch > partition.leader_epoch) {
                partition.clone_from(known);
            }
        }
    }
}

/// Connections to a cluster and what is known of it; clones share both.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    machine: Host,
    bootstrap: Vec<Node>,
    client_id: String,
    limit: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    nodes: BTreeMap<BrokerId, Node>,
    controller: Option<BrokerId>,
    topics: BTreeMap<String, Arc<TopicView>>,
    connections: BTreeMap<Node, Connection>,
    /// How often what a broker told led nowhere: another one is asked then.
    misled: usize,
}

impl Cluster {
    /// A cluster behind `bootstrap`, a list `host:port,host:port`; nothing is connected yet. A call
    /// to one broker may take `limit`.
    ///
    /// # Errors
    /// If an address is malformed.
    pub fn new(
        machine: &Host,
        bootstrap: &str,
        client_id: &str,
        limit: Duration,
    ) -> Result<Cluster, ClientError> {
        let bootstrap = bootstrap
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(bootstrap_node)
            .collect::<Result<Vec<_>, _>>()?;
        if bootstrap.is_empty() {
            return Err(ClientError::Codec(
                "no bootstrap server was given".to_owned(),
            ));
        }
        let client_id = client_id.to_owned();
        let machine = machine.clone();
        let known = Mutex::default();
        Ok(Cluster(Arc::new(Shared {
            machine,
            bootstrap,
            client_id,
            limit,
            known,
        })))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine this client runs on.
    pub fn machine(&self) -> &Host {
        &self.0.machine
    }

    /// How long one call to one broker may take.
    pub fn limit(&self) -> Duration {
        self.0.limit
    }

    /// The brokers, as the last metadata named them.
    pub fn nodes(&self) -> Vec<Node> {
        self.known().nodes.values().cloned().collect()
    }

    /// The broker that answers for the controller, as the last metadata named it.
    pub fn controller(&self) -> Option<BrokerId> {
        self.known().controller
    }

    /// A connection to this address, an existing one if it still lives.
    pub async fn connect(&self, node: &Node) -> Result<Connection, ClientError> {
        let existing = self.known().connections.get(node).cloned();
        if let Some(connection) = existing.filter(|connection| !connection.is_broken()) {
            return Ok(connection);
        }
        let connection = self.open(node).await?;
        self.known()
            .connections
            .insert(node.clone(), connection.clone());
        Ok(connection)
    }

    /// A connection that nobody else uses: answers come in the order of requests, so that whoever
    /// asks for what takes long would hold others up.
    pub(crate) async fn open(&self, node: &Node) -> Result<Connection, ClientError> {
        let shared = &self.0;
        let opening = Connection::open(
            &shared.machine,
            &node.host,
            node.port,
            &shared.client_id,
            shared.limit,
        );
        opening.await
    }

    /// A connection to this broker.
    pub async fn broker(&self, id: BrokerId) -> Result<Connection, ClientError> {
        let node = self.seen_node(id).ok_or_else(|| not_in_metadata(id))?;
        self.connect(&node).await
    }

    /// A connection to any broker that lives: those known first, then the bootstrap list.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let mut candidates = self.nodes();
        if !candidates.is_empty() {
            let first = self.known().misled % candidates.len();
            candidates.rotate_left(first);
        }
        candidates.extend(self.0.bootstrap.iter().cloned());
        let mut last = None;
        for node in candidates {
            match self.connect(&node).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("the bootstrap list is not empty"))
    }

    /// Asks any broker; tries another where the first does not answer.
    pub async fn ask<R: Exchange>(&self, request: &R) -> Result<R::Answer, ClientError> {
        let mut tries = self.nodes().len() + self.0.bootstrap.len();
        loop {
            let answer = match self.any().await {
                Ok(connection) => connection.ask(request, self.0.limit).await,
                Err(error) => Err(error),
            };
            tries -= 1;
            match answer {
                Err(ClientError::Network { .. }) if tries > 0 => {}
                answer => return answer,
            }
        }
    }

    /// Looks afresh at these topics, or at all with `None`; they are created on the way only where
    /// the brokers do that and `create` is true.
    pub async fn refresh(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let topic = |name: &&str| MetadataRequestTopic {
            name: Some((*name).to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(topic).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let answer = self.ask(&request).await?;
        self.learn(&answer);
        Ok(answer)
    }

    fn learn(&self, answer: &MetadataResponse) {
        let mut known = self.known();
        known.nodes = answer
            .brokers
            .iter()
            .map(|broker| {
                let id = BrokerId(broker.node_id);
                let port = u16::try_from(broker.port).unwrap_or(0);
                (
                    id,
                    Node {
                        id,
                        host: broker.host.clone(),
                        port,
                        rack: broker.rack.clone(),
                    },
                )
            })
            .collect();
        known.controller = Some(BrokerId(answer.controller_id)).filter(|id| *id != BrokerId::NONE);
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            if ClientError::check(topic.error_code, None).is_ok() {
                let mut seen = view(name, topic);
                if let Some(before) = known.topics.get(name) {
                    seen.keep_newer(before);
                }
                known.topics.insert(name.clone(), Arc::new(seen));
            } else {
                known.topics.remove(name);
            }
        }
    }

    /// A topic, as the last metadata named it.
    pub(crate) fn seen_topic(&self, name: &str) -> Option<Arc<TopicView>> {
        self.known().topics.get(name).cloned()
    }

    /// A broker's address, as the last metadata named it.
    pub(crate) fn seen_node(&self, id: BrokerId) -> Option<Node> {
        self.known().nodes.get(&id).cloned()
    }

    /// A topic as last seen, or looked up now.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicView>, ClientError> {
        match self.seen_topic(name) {
            Some(topic) => Ok(topic),
            None => self.topic_afresh(name, false).await.map(Arc::new),
        }
    }

    /// A topic, looked up now.
    pub async fn topic_afresh(&self, name: &str, create: bool) -> Result<TopicView, ClientError> {
        let answer = self.refresh(Some(&[name]), create).await?;
        let topic = answer.topics.first().ok_or_else(|| {
            ClientError::Codec("an answer to Metadata without the topic asked for".to_owned())
        })?;
        ClientError::check(topic.error_code, None)?;
        Ok(view(name, topic))
    }

    /// Waits until a topic exists and every partition has a leader.
    pub async fn topic_ready(&self, name: &str, create: bool) -> Result<TopicView, ClientError> {
        let deadline = self.0.machine.clock.now() + self.0.limit;
        loop {
            let seen = self.topic_afresh(name, create).await;
            match seen {
                Ok(topic) if topic.partitions.iter().all(|p| p.leader.is_some()) => {
                    return Ok(topic);
                }
                Err(error) if !error.is_retriable() => return Err(error),
                seen if self.0.machine.clock.now() >= deadline => return seen,
                _ => tokio::time::sleep(RETRY_BACKOFF).await,
            }
        }
    }

    /// A partition, and a connection to its leader; [`ErrorCode::LeaderNotAvailable`] if nobody.
    pub async fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(PartitionView, Connection), ClientError> {
        let view = self.topic(topic).await?;
        let refuse = |code| ClientError::Broker {
            code,
            message: None,
        };
        let found = view
            .partitions
            .iter()
            .find(|p| p.index == partition)
            .cloned();
        let found = found.ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition))?;
        let leader = found
            .leader
            .ok_or_else(|| refuse(ErrorCode::LeaderNotAvailable))?;
        let connection = self.broker(leader).await?;
        Ok((found, connection))
    }

    /// The offset of a partition at this place.
    pub async fn offset(
        &self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<Offset, ClientError> {
        offset_at(self, topic, partition, timestamp).await
    }

    /// Deletes the records of a partition before `offset`, or all that are committed if that is -1;
    /// returns where the log begins then on every live replica.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
    ) -> Result<Offset, ClientError> {
        delete_before(self, topic, partition, offset).await
    }

    /// What a broker told led nowhere, as it does where that one is cut off from the others: asks
    /// another one next.
    pub(crate) fn was_misled(&self) {
        self.known().misled += 1;
    }

    /// Forgets a topic after a retriable error, waits a moment and looks again.
    pub async fn reconsider(&self, topic: &str) {
        self.was_misled();
        tokio::time::sleep(RETRY_BACKOFF).await;
        // Where nobody answers now, the caller's next try finds out.
        let _ = self.refresh(Some(&[topic]), false).await;
    }

    /// The newest version of a request that some broker and this client share.
    pub async fn version_of<R: Message>(&self) -> Result<i16, ClientError> {
        self.any().await?.version_of::<R>(i16::MAX)
    }
}

pub(crate) fn not_in_metadata(id: BrokerId) -> ClientError {
    let message = Some(format!("broker {id} is not in the metadata"));
    ClientError::Broker {
        code: ErrorCode::BrokerNotAvailable,
        message,
    }
}

fn view(name: &str, topic: &MetadataResponseTopic) -> TopicView {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let mut partitions: Vec<PartitionView> = topic
        .partitions
        .iter()
        .map(|partition| PartitionView {
            index: partition.partition_index,
            leader: Some(BrokerId(partition.leader_id)).filter(|id| *id != BrokerId::NONE),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            replicas: ids(&partition.replica_nodes),
            isr: ids(&partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let id = TopicId(topic.topic_id);
    TopicView {
        name: name.to_owned(),
        id,
        is_internal: topic.is_internal,
        partitions,
    }
}

fn bootstrap_node(address: &str) -> Result<Node, ClientError> {
    let refuse = || {
        ClientError::Codec(format!(
            "Invalid url in bootstrap.servers: {address} (host:port wanted)"
        ))
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(refuse)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = port.parse().map_err(|_| refuse())?;
    Ok(Node {
        id: BrokerId::NONE,
        host,
        port,
        rack: None,
    })
}
