//! What the metadata quorum and the brokers say of themselves.

use std::collections::BTreeMap;

use millrace_model::{BrokerId, Uuid};
use millrace_protocol::api::ApiKey;
use millrace_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use millrace_protocol::messages::describe_quorum_request::{
    DescribeQuorumRequest, PartitionData, TopicData,
};
use millrace_protocol::messages::describe_quorum_response::ReplicaState;

use crate::{ClientError, Cluster, Node};

/// The name of the metadata log in Kafka's protocol.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// One replica of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    /// Its node.
    pub id: BrokerId,
    /// Its directory.
    pub directory_id: Uuid,
    /// How far its log goes.
    pub log_end_offset: i64,
    /// When the leader last heard from it, in milliseconds since 1970; -1 where unknown.
    pub last_fetch_ms: i64,
    /// As of when it had everything, in milliseconds since 1970; -1 where unknown.
    pub last_caught_up_ms: i64,
}

/// The metadata quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumView {
    /// Names the cluster.
    pub cluster_id: String,
    /// The active controller.
    pub leader: BrokerId,
    /// Its term.
    pub leader_epoch: i32,
    /// How far the log is committed.
    pub high_watermark: i64,
    /// Those who vote.
    pub voters: Vec<QuorumReplica>,
    /// Those who only listen.
    pub observers: Vec<QuorumReplica>,
    /// Where voters listen: node to `NAME://host:port`.
    pub endpoints: BTreeMap<BrokerId, Vec<String>>,
}

/// What one broker speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerVersions {
    /// The broker.
    pub node: Node,
    /// API key to lowest and highest version there, or why it did not answer.
    pub versions: Result<BTreeMap<i16, (i16, i16)>, String>,
}

/// The name of an API and the versions this client knows of it.
pub fn known_apis() -> Vec<(i16, &'static str, i16, i16)> {
    let known = ApiKey::ALL.iter().filter_map(|api| {
        let (low, high) = api.announced_versions().filter(|_| api.on_broker())?;
        Some((api.code(), api.name(), low, high))
    });
    known.collect()
}

impl Cluster {
    /// Asks the metadata quorum about itself.
    pub async fn describe_quorum(&self) -> Result<QuorumView, ClientError> {
        let cluster = self.ask(&DescribeClusterRequest::default()).await?;
        let topics = vec![TopicData {
            topic_name: METADATA_TOPIC.to_owned(),
            partitions: vec![PartitionData {
                partition_index: 0,
                ..Default::default()
            }],
            ..Default::default()
        }];
        let answer = self
            .ask(&DescribeQuorumRequest {
                topics,
                ..Default::default()
            })
            .await?;
        ClientError::check(answer.error_code, answer.error_message)?;
        let partition = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let partition = partition.ok_or_else(|| {
            ClientError::Codec("an answer to DescribeQuorum without the metadata log".to_owned())
        })?;
        ClientError::check(partition.error_code, partition.error_message.clone())?;
        let endpoints = answer.nodes.iter().map(|node| {
            let listeners = node.listeners.iter();
            let listeners = listeners.map(|l| format!("{}://{}:{}", l.name, l.host, l.port));
            (BrokerId(node.node_id), listeners.collect())
        });
        Ok(QuorumView {
            cluster_id: cluster.cluster_id,
            leader: BrokerId(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: partition.current_voters.iter().map(replica).collect(),
            observers: partition.observers.iter().map(replica).collect(),
            endpoints: endpoints.collect(),
        })
    }

    /// Asks every broker which versions it speaks.
    pub async fn broker_versions(&self) -> Result<Vec<BrokerVersions>, ClientError> {
        self.refresh(Some(&[]), false).await?;
        let mut all = Vec::new();
        for node in self.nodes() {
            let connection = self.connect(&node).await;
            let versions = connection
                .map(|c| c.versions().clone())
                .map_err(|e| e.to_string());
            all.push(BrokerVersions { node, versions });
        }
        Ok(all)
    }
}

fn replica(state: &ReplicaState) -> QuorumReplica {
    QuorumReplica {
        id: BrokerId(state.replica_id),
        directory_id: state.replica_directory_id,
        log_end_offset: state.log_end_offset,
        last_fetch_ms: state.last_fetch_timestamp,
        last_caught_up_ms: state.last_caught_up_timestamp,
    }
}
