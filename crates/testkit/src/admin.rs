//! Questions and orders to a cluster, asked of whichever broker answers.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request as reassign;
use kafka_protocol::messages::alter_replica_log_dirs_request as alter_dirs;
use kafka_protocol::messages::create_topics_request as create;
use kafka_protocol::messages::describe_configs_request as describe;
use kafka_protocol::messages::describe_log_dirs_response as directories;
use kafka_protocol::messages::describe_quorum_request as quorum;
use kafka_protocol::messages::elect_leaders_request as elect;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::list_offsets_request as offsets;
use kafka_protocol::messages::metadata_request as metadata;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId, CreateTopicsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeLogDirsRequest, DescribeQuorumRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, MetadataResponse, TopicName,
    delete_topics_request,
};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::Wire;

/// The number of a broker.
pub type NodeId = i32;

/// How long one question to one broker may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// One partition as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its number.
    pub index: i32,
    /// Its leader, if it has one.
    pub leader: Option<NodeId>,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Where it lies, preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Which replicas are in sync.
    pub isr: BTreeSet<NodeId>,
}

/// A voter or an observer of the metadata quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumMember {
    /// Which node.
    pub node: NodeId,
    /// How far its copy of the metadata log goes.
    pub log_end: i64,
}

/// The metadata quorum as its leader describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The active controller.
    pub leader: NodeId,
    /// Its epoch.
    pub epoch: i32,
    /// Who votes.
    pub voters: Vec<QuorumMember>,
    /// Who only listens.
    pub observers: Vec<QuorumMember>,
}

/// A partition that is being moved, as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// Its number.
    pub index: i32,
    /// Where it lies, what will leave included.
    pub replicas: Vec<NodeId>,
    /// What was added.
    pub adding: Vec<NodeId>,
    /// What will leave.
    pub removing: Vec<NodeId>,
}

/// What a broker answers to ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// Zero, or what went wrong.
    pub error: i16,
    /// The offset, -1 when there is none.
    pub offset: i64,
    /// The epoch of the leader that says so.
    pub leader_epoch: i32,
}

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// The replicas of each partition, preferred leader first; when empty, `partitions` of them
    /// are placed by the cluster.
    pub assignment: Vec<Vec<NodeId>>,
    /// How many partitions, without an assignment.
    pub partitions: i32,
    /// How many replicas each, without an assignment.
    pub replication: i16,
    /// Its own settings.
    pub configs: Vec<(&'a str, &'a str)>,
}

/// A log directory as its broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryState {
    /// Where it is.
    pub path: String,
    /// Zero, or what is wrong with it.
    pub error: i16,
    /// The partitions in it, as `topic-0`.
    pub partitions: BTreeSet<String>,
    /// Those that are on their way there.
    pub futures: BTreeSet<String>,
}

/// Asks the brokers at these ports of 127.0.0.1, one after the other, until one answers.
#[derive(Clone, Debug)]
pub struct Admin {
    ports: Vec<u16>,
}

impl Admin {
    /// Over the brokers at these ports.
    pub fn new(ports: Vec<u16>) -> Admin {
        Admin { ports }
    }

    /// Makes a topic.
    pub fn create_topic(&self, topic: &NewTopic<'_>) -> Result<(), String> {
        let assignments = topic.assignment.iter().enumerate().map(|(index, nodes)| {
            create::CreatableReplicaAssignment::default()
                .with_partition_index(index as i32)
                .with_broker_ids(nodes.iter().map(|node| BrokerId(*node)).collect())
        });
        let configs = topic.configs.iter().map(|(key, value)| {
            create::CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let placed = !topic.assignment.is_empty();
        let creatable = create::CreatableTopic::default()
            .with_name(TopicName(text(topic.name)))
            .with_num_partitions(if placed { -1 } else { topic.partitions })
            .with_replication_factor(if placed { -1 } else { topic.replication })
            .with_assignments(assignments.collect())
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_timeout_ms(10_000);
        let answer = self.ask(&request, 7)?;
        let result = answer.topics.first().ok_or("no result for the topic")?;
        match result.error_code {
            0 => Ok(()),
            code => Err(format!(
                "creating {}: error {code} {:?}",
                topic.name, result.error_message
            )),
        }
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<(), String> {
        let state = delete_topics_request::DeleteTopicState::default()
            .with_name(Some(TopicName(text(name))));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![state])
            .with_timeout_ms(10_000);
        let answer = self.ask(&request, 6)?;
        match answer.responses.first().map(|topic| topic.error_code) {
            Some(0) => Ok(()),
            code => Err(format!("deleting {name}: {code:?}")),
        }
    }

    /// Sets one setting of a topic.
    pub fn set_topic_config(&self, topic: &str, key: &str, value: &str) -> Result<(), String> {
        self.set_config((2, topic), key, Some(value))
    }

    /// Sets one setting of all brokers, or takes it back.
    pub fn set_brokers_config(&self, key: &str, value: Option<&str>) -> Result<(), String> {
        self.set_config((4, ""), key, value)
    }

    fn set_config(&self, of: (i8, &str), key: &str, value: Option<&str>) -> Result<(), String> {
        let config = incremental::AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(i8::from(value.is_none()))
            .with_value(value.map(text));
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(of.0)
            .with_resource_name(text(of.1))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.ask(&request, 1)?;
        let result = answer.responses.first().ok_or("no result")?;
        match result.error_code {
            0 => Ok(()),
            code => Err(format!(
                "setting {key}: error {code} {:?}",
                result.error_message
            )),
        }
    }

    /// The value of one setting of a topic.
    pub fn topic_config(&self, topic: &str, key: &str) -> Result<String, String> {
        let resource = describe::DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configuration_keys(Some(vec![text(key)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.ask(&request, 4)?;
        let result = answer.results.first().ok_or("no result for the topic")?;
        let config = result.configs.first();
        let config =
            config.ok_or_else(|| format!("no such setting: error {}", result.error_code))?;
        let value = config.value.as_ref().map(|value| value.to_string());
        Ok(value.unwrap_or_default())
    }

    /// Moves the leadership of these partitions to their preferred leaders.
    pub fn elect_preferred(&self, topic: &str, partitions: &[i32]) -> Result<(), String> {
        self.elect(topic, partitions, 0)
    }

    /// Gives these partitions a leader that may lack committed records.
    pub fn elect_unclean(&self, topic: &str, partitions: &[i32]) -> Result<(), String> {
        self.elect(topic, partitions, 1)
    }

    fn elect(&self, topic: &str, partitions: &[i32], kind: i8) -> Result<(), String> {
        let named = elect::TopicPartitions::default()
            .with_topic(TopicName(text(topic)))
            .with_partitions(partitions.to_vec());
        let request = ElectLeadersRequest::default()
            .with_election_type(kind)
            .with_topic_partitions(Some(vec![named]))
            .with_timeout_ms(10_000);
        let answer = self.ask(&request, 2)?;
        let results = answer.replica_election_results.iter();
        let failed = results
            .flat_map(|topic| &topic.partition_result)
            // 84: it leads already.
            .find(|result| result.error_code != 0 && result.error_code != 84);
        match failed {
            None if answer.error_code == 0 => Ok(()),
            other => Err(format!("electing: error {} {other:?}", answer.error_code)),
        }
    }

    /// Begins to move partitions of a topic to other brokers, or where none are named, cancels
    /// that. What was begun already is asked for again without harm; what is not moving cannot be
    /// cancelled, which is no error here.
    pub fn reassign(
        &self,
        topic: &str,
        moves: &[(i32, Option<Vec<NodeId>>)],
    ) -> Result<(), String> {
        let partitions = moves.iter().map(|(index, replicas)| {
            let replicas = replicas.as_ref();
            let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
            reassign::ReassignablePartition::default()
                .with_partition_index(*index)
                .with_replicas(replicas)
        });
        let named = reassign::ReassignableTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions.collect());
        let request = AlterPartitionReassignmentsRequest::default()
            .with_topics(vec![named])
            .with_timeout_ms(10_000);
        let answer = self.ask(&request, 0)?;
        let results = answer.responses.iter();
        let failed = results
            .flat_map(|topic| &topic.partitions)
            // 85: nothing to cancel.
            .find(|result| result.error_code != 0 && result.error_code != 85);
        match failed {
            None if answer.error_code == 0 => Ok(()),
            other => Err(format!("moving: error {} {other:?}", answer.error_code)),
        }
    }

    /// What is being moved, of all topics, by the first broker that answers.
    pub fn moving(&self) -> Result<Vec<Moving>, String> {
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        let answer = self.ask(&request, 0)?;
        let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let moving = partitions.map(|partition| Moving {
            index: partition.partition_index,
            replicas: numbers(&partition.replicas),
            adding: numbers(&partition.adding_replicas),
            removing: numbers(&partition.removing_replicas),
        });
        match answer.error_code {
            0 => Ok(moving.collect()),
            code => Err(format!("asking what moves: error {code}")),
        }
    }

    /// The partitions of a topic by the first broker that answers.
    pub fn partitions(&self, topic: &str) -> Result<Vec<PartitionState>, String> {
        partitions_of(&self.metadata(topic)?)
    }

    /// The partitions of a topic by each broker that answers, with its port.
    pub fn partitions_by_broker(
        &self,
        topic: &str,
    ) -> Vec<(u16, Result<Vec<PartitionState>, String>)> {
        let ask = |port: &u16| {
            let answer = Admin::new(vec![*port]).metadata(topic);
            (*port, answer.and_then(|answer| partitions_of(&answer)))
        };
        self.ports.iter().map(ask).collect()
    }

    /// The ids of the brokers that clients are told of.
    pub fn brokers(&self) -> Result<BTreeSet<NodeId>, String> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let answer = self.ask(&request, 12)?;
        Ok(answer
            .brokers
            .iter()
            .map(|broker| broker.node_id.0)
            .collect())
    }

    /// The metadata quorum.
    pub fn quorum(&self) -> Result<QuorumState, String> {
        let topic = quorum::TopicData::default()
            .with_topic_name(TopicName(text("__cluster_metadata")))
            .with_partitions(vec![quorum::PartitionData::default()]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let answer = self.ask(&request, 2)?;
        let partition = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first())
            .ok_or_else(|| format!("error {} describing the quorum", answer.error_code))?;
        if partition.error_code != 0 || partition.leader_id.0 < 0 {
            return Err(format!(
                "error {} describing the quorum",
                partition.error_code
            ));
        }
        let member =
            |of: &kafka_protocol::messages::describe_quorum_response::ReplicaState| QuorumMember {
                node: of.replica_id.0,
                log_end: of.log_end_offset,
            };
        Ok(QuorumState {
            leader: partition.leader_id.0,
            epoch: partition.leader_epoch,
            voters: partition.current_voters.iter().map(member).collect(),
            observers: partition.observers.iter().map(member).collect(),
        })
    }

    /// What ListOffsets answers at the broker behind `port` for this timestamp (-1 latest, -2
    /// earliest).
    pub fn list_offset(
        port: u16,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> io::Result<ListedOffset> {
        let asked = offsets::ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = offsets::ListOffsetsTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let answer = Wire::connect(port, PATIENCE)?.call(&request, 7)?;
        let found = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let found = found.ok_or_else(|| io::Error::other("no partition in the answer"))?;
        Ok(ListedOffset {
            error: found.error_code,
            offset: found.offset,
            leader_epoch: found.leader_epoch,
        })
    }

    /// Asks the broker behind `port` to move partitions to this log directory; an error for each.
    pub fn move_replicas(
        port: u16,
        path: &Path,
        topic: &str,
        partitions: &[i32],
    ) -> io::Result<Vec<i16>> {
        let topic = alter_dirs::AlterReplicaLogDirTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(partitions.to_vec());
        let directory = alter_dirs::AlterReplicaLogDir::default()
            .with_path(text(&path.display().to_string()))
            .with_topics(vec![topic]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![directory]);
        let answer = Wire::connect(port, PATIENCE)?.call(&request, 2)?;
        let results = answer.results.iter().flat_map(|topic| &topic.partitions);
        Ok(results.map(|result| result.error_code).collect())
    }

    /// The log directories of the broker behind `port`.
    pub fn directories(port: u16) -> io::Result<Vec<DirectoryState>> {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let answer = Wire::connect(port, PATIENCE)?.call(&request, 4)?;
        let states = answer.results.iter().map(|result| DirectoryState {
            path: result.log_dir.to_string(),
            error: result.error_code,
            partitions: result
                .topics
                .iter()
                .flat_map(|of| names_of(of, false))
                .collect(),
            futures: result
                .topics
                .iter()
                .flat_map(|of| names_of(of, true))
                .collect(),
        });
        Ok(states.collect())
    }

    fn metadata(&self, topic: &str) -> Result<MetadataResponse, String> {
        let named =
            metadata::MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![named]))
            .with_allow_auto_topic_creation(false);
        self.ask(&request, 12)
    }

    /// Sends a request to the first broker that answers at all.
    pub fn ask<R: Request>(&self, request: &R, version: i16) -> Result<R::Response, String> {
        let mut why = "no broker to ask".to_owned();
        for port in &self.ports {
            let answer =
                Wire::connect(*port, PATIENCE).and_then(|mut wire| wire.call(request, version));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => why = format!("the broker at port {port}: {error}"),
            }
        }
        Err(why)
    }
}

fn names_of(topic: &directories::DescribeLogDirsTopic, future: bool) -> Vec<String> {
    let partitions = topic.partitions.iter();
    let partitions = partitions.filter(|of| of.is_future_key == future);
    let names = partitions.map(|of| format!("{}-{}", topic.name.as_str(), of.partition_index));
    names.collect()
}

fn partitions_of(answer: &MetadataResponse) -> Result<Vec<PartitionState>, String> {
    let topic = answer.topics.first().ok_or("no topic in the answer")?;
    if topic.error_code != 0 {
        return Err(format!("error {} for the topic", topic.error_code));
    }
    let mut partitions: Vec<PartitionState> = topic
        .partitions
        .iter()
        .map(|partition| PartitionState {
            index: partition.partition_index,
            leader: Some(partition.leader_id.0).filter(|leader| *leader >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
            isr: partition.isr_nodes.iter().map(|node| node.0).collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    Ok(partitions)
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}
