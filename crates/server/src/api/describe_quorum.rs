//! DescribeQuorum (key 55), versions 0 to 2 (KIP-595).
//!
//! - 1: when each replica last fetched and had caught up (KIP-836); 2: directory ids and where the
//!   voters listen (KIP-853).
//!
//! The answer is that of the quorum's leader, at whichever node it is asked for. The topic is
//! `__cluster_metadata`, its only partition 0.

use millrace_metadata::Image;
use millrace_model::{ErrorCode, Uuid};
use millrace_protocol::messages::describe_quorum_request::DescribeQuorumRequest;
use millrace_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use millrace_quorum::{QuorumDescription, ReplicaProgress};

use super::Context;
use super::internal::CLUSTER_METADATA;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

/// Describes the metadata quorum.
pub async fn handle(context: &Context, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    if !asks_for_metadata(&request) {
        return unknown(&request);
    }
    let partition = match context.node.quorum.describe().await {
        Ok(description) => {
            let listener = context.node.config().controller_listeners.first().cloned();
            let nodes = nodes(
                &description,
                &context.node.image(),
                &listener.unwrap_or_default(),
            );
            return at_version(context.api_version, respond(partition(&description), nodes));
        }
        Err(error) => {
            tracing::debug!(%error, "cannot describe the quorum");
            PartitionData {
                error_code: ErrorCode::NotLeaderOrFollower.code(),
                ..Default::default()
            }
        }
    };
    respond(partition, Vec::new())
}

fn asks_for_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = request.topics.as_slice() else {
        return false;
    };
    let [partition] = topic.partitions.as_slice() else {
        return false;
    };
    topic.topic_name == CLUSTER_METADATA && partition.partition_index == 0
}

fn unknown(request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| PartitionData {
            partition_index: partition.partition_index,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            ..Default::default()
        });
        TopicData {
            topic_name: topic.topic_name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn respond(partition: PartitionData, nodes: Vec<Node>) -> DescribeQuorumResponse {
    DescribeQuorumResponse {
        topics: vec![TopicData {
            topic_name: CLUSTER_METADATA.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }],
        nodes,
        ..Default::default()
    }
}

/// Before version 2 there is no place for where the voters listen and for their directories.
fn at_version(version: i16, mut response: DescribeQuorumResponse) -> DescribeQuorumResponse {
    if version < 2 {
        response.nodes.clear();
        let topics = response.topics.iter_mut();
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            let voters = partition.current_voters.iter_mut();
            for replica in voters.chain(&mut partition.observers) {
                replica.replica_directory_id = Uuid::ZERO;
            }
        }
    }
    response
}

fn partition(description: &QuorumDescription) -> PartitionData {
    let select = |voters: bool| {
        let replicas = description.replicas.iter();
        let selected = replicas.filter(|replica| replica.voter == voters);
        selected.map(state).collect()
    };
    PartitionData {
        leader_id: description.leader.get(),
        leader_epoch: description.epoch,
        high_watermark: description.high_watermark,
        current_voters: select(true),
        observers: select(false),
        ..Default::default()
    }
}

fn state(replica: &ReplicaProgress) -> ReplicaState {
    ReplicaState {
        replica_id: replica.id.get(),
        replica_directory_id: replica.directory.0,
        log_end_offset: replica.log_end,
        last_fetch_timestamp: replica.last_fetch.get(),
        last_caught_up_timestamp: replica.last_caught_up.get(),
        ..Default::default()
    }
}

/// Where the voters listen: as they registered, else as the quorum knows them.
fn nodes(description: &QuorumDescription, image: &Image, listener: &str) -> Vec<Node> {
    let voters = description.replicas.iter().filter(|replica| replica.voter);
    let nodes = voters.map(|voter| {
        let registered = image.controller(voter.id);
        let registered = registered.map(|controller| controller.listeners.as_slice());
        let mut listeners: Vec<Listener> = registered
            .unwrap_or_default()
            .iter()
            .map(|known| Listener {
                name: known.name.clone(),
                host: known.host.clone(),
                port: known.port,
                ..Default::default()
            })
            .collect();
        if listeners.is_empty() {
            listeners.push(Listener {
                name: listener.to_owned(),
                host: voter.place.host.clone(),
                port: voter.place.port,
                ..Default::default()
            });
        }
        Node {
            node_id: voter.id.get(),
            listeners,
            ..Default::default()
        }
    });
    nodes.collect()
}

#[cfg(test)]
mod tests {
    use millrace_protocol::messages::describe_quorum_request as request;

    use super::*;

    fn request(topics: &[(&str, &[i32])]) -> DescribeQuorumRequest {
        let topic = |(name, partitions): &(&str, &[i32])| request::TopicData {
            topic_name: (*name).to_owned(),
            partitions: partitions
                .iter()
                .map(|index| request::PartitionData {
                    partition_index: *index,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        DescribeQuorumRequest {
            topics: topics.iter().map(topic).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn only_the_one_partition_of_the_metadata_is_known() {
        assert!(asks_for_metadata(&request(&[("__cluster_metadata", &[0])])));
        for other in [
            request(&[]),
            request(&[("__cluster_metadata", &[1])]),
            request(&[("__cluster_metadata", &[0, 1])]),
            request(&[("t", &[0])]),
            request(&[("__cluster_metadata", &[0]), ("t", &[0])]),
        ] {
            assert!(!asks_for_metadata(&other), "{other:?}");
        }
        let answer = unknown(&request(&[("t", &[4])]));
        assert_eq!(answer.topics[0].partitions[0].partition_index, 4);
        assert_eq!(answer.topics[0].partitions[0].error_code, 3);
    }
}
