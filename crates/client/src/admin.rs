//! What an operator asks of a cluster: topics, configurations, quorum, versions.

use std::collections::BTreeMap;

use millrace_model::{BrokerId, ErrorCode, LeaderEpoch, TopicId};
use millrace_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use millrace_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use millrace_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use millrace_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use millrace_protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use millrace_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition;

use crate::{ClientError, Cluster};

/// `ConfigResource.Type.TOPIC`.
const TOPIC_RESOURCE: i8 = 2;
/// `DescribeConfigsResponse.ConfigSource.DEFAULT_CONFIG`.
const DEFAULT_SOURCE: i8 = 5;
/// Partitions in one answer to DescribeTopicPartitions, Kafka's own default.
const PARTITIONS_AN_ANSWER: i32 = 2000;

/// A topic to be created; what is not given, the cluster's defaults decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: Option<i32>,
    /// How many replicas of each.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, in place of the two numbers.
    pub assignment: Vec<Vec<BrokerId>>,
    /// Configuration that differs from the cluster's.
    pub configs: BTreeMap<String, String>,
}

/// One partition in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub index: i32,
    /// Who leads, if anybody does.
    pub leader: Option<BrokerId>,
    /// Under which epoch.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
    /// Those that may lead though they are not in sync (KIP-966); `None` where the broker does not say.
    pub eligible: Option<Vec<BrokerId>>,
    /// The last of them that were known.
    pub last_known_eligible: Option<Vec<BrokerId>>,
}

/// One topic in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: TopicId,
    /// Whether the brokers keep it for themselves.
    pub is_internal: bool,
    /// Its partitions by number.
    pub partitions: Vec<PartitionDescription>,
}

impl Cluster {
    fn limit_ms(&self) -> i32 {
        i32::try_from(self.limit().as_millis()).unwrap_or(i32::MAX)
    }

    /// Creates a topic; returns once the cluster says that it exists.
    pub async fn create_topic(&self, new: &NewTopic) -> Result<(), ClientError> {
        let assignments = new.assignment.iter().enumerate().map(|(index, replicas)| {
            let partition_index = i32::try_from(index).unwrap_or(i32::MAX);
            let broker_ids = numbers(replicas);
            CreatableReplicaAssignment {
                partition_index,
                broker_ids,
                ..Default::default()
            }
        });
        let configs = new
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: name.clone(),
                value: Some(value.clone()),
                ..Default::default()
            });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: new.name.clone(),
                num_partitions: new.partitions.unwrap_or(-1),
                replication_factor: new.replication_factor.unwrap_or(-1),
                assignments: assignments.collect(),
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: self.limit_ms(),
            ..Default::default()
        };
        let answer = self.ask(&request).await?;
        let topic = answer.topics.into_iter().next().ok_or_else(no_topic)?;
        ClientError::check(topic.error_code, topic.error_message)
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let newest = self.version_of::<DeleteTopicsRequest>().await?;
        let mut request = DeleteTopicsRequest {
            timeout_ms: self.limit_ms(),
            ..Default::default()
        };
        if newest >= 6 {
            let name = Some(name.to_owned());
            request.topics.push(DeleteTopicState {
                name,
                ..Default::default()
            });
        } else {
            request.topic_names.push(name.to_owned());
        }
        let answer = self.ask(&request).await?;
        let topic = answer.responses.into_iter().next().ok_or_else(no_topic)?;
        ClientError::check(topic.error_code, topic.error_message)
    }

    /// Raises the number of a topic's partitions to `count`; `added` names the replicas of the new
    /// ones, or leaves them to the cluster when it is empty.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        added: &[Vec<BrokerId>],
    ) -> Result<(), ClientError> {
        let assignments = (!added.is_empty()).then(|| {
            let assignment = |replicas: &Vec<BrokerId>| CreatePartitionsAssignment {
                broker_ids: numbers(replicas),
                ..Default::default()
            };
            added.iter().map(assignment).collect()
        });
        let name = topic.to_owned();
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name,
                count,
                assignments,
                ..Default::default()
            }],
            timeout_ms: self.limit_ms(),
            ..Default::default()
        };
        let answer = self.ask(&request).await?;
        let topic = answer.results.into_iter().next().ok_or_else(no_topic)?;
        ClientError::check(topic.error_code, topic.error_message)
    }

    /// The names of all topics in order; those the brokers keep for themselves are marked.
    pub async fn list_topics(&self) -> Result<Vec<(String, bool)>, ClientError> {
        let answer = self.refresh(None, false).await?;
        let names = answer
            .topics
            .into_iter()
            .filter_map(|t| Some((t.name?, t.is_internal)));
        let mut names: Vec<_> = names.collect();
        names.sort();
        Ok(names)
    }

    /// Topics in full, in the order of their names; all with an empty list.
    pub async fn describe_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<TopicDescription>, ClientError> {
        let topic = |name: &String| TopicRequest {
            name: name.clone(),
            ..Default::default()
        };
        let topics: Vec<TopicRequest> = names.iter().map(topic).collect();
        let mut described: BTreeMap<String, TopicDescription> = BTreeMap::new();
        let mut cursor = None;
        loop {
            let request = DescribeTopicPartitionsRequest {
                topics: topics.clone(),
                response_partition_limit: PARTITIONS_AN_ANSWER,
                cursor: cursor.take(),
                ..Default::default()
            };
            let answer = self.ask(&request).await?;
            for topic in answer.topics {
                let name = topic.name.unwrap_or_default();
                let message = Some(format!("Topic '{name}'"));
                ClientError::check(topic.error_code, message)?;
                let entry = described
                    .entry(name.clone())
                    .or_insert_with(|| TopicDescription {
                        name,
                        id: TopicId(topic.topic_id),
                        is_internal: topic.is_internal,
                        partitions: Vec::new(),
                    });
                entry
                    .partitions
                    .extend(topic.partitions.iter().map(partition));
            }
            let Some(next) = answer.next_cursor else {
                break;
            };
            cursor = Some(Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
                ..Default::default()
            });
        }
        Ok(described.into_values().collect())
    }

    /// The settings of topics that differ from Kafka's defaults, by topic.
    pub async fn topic_configs(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClientError> {
        let settings = self.all_topic_configs(names).await?;
        let kept = settings.into_iter().map(|(topic, entries)| {
            let differing = entries
                .into_iter()
                .filter(|(_, (_, source))| *source != DEFAULT_SOURCE);
            (
                topic,
                differing.map(|(name, (value, _))| (name, value)).collect(),
            )
        });
        Ok(kept.collect())
    }

    /// Every setting of topics with its value.
    pub async fn effective_topic_configs(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClientError> {
        let settings = self.all_topic_configs(names).await?;
        let values = settings.into_iter().map(|(topic, entries)| {
            (
                topic,
                entries
                    .into_iter()
                    .map(|(name, (value, _))| (name, value))
                    .collect(),
            )
        });
        Ok(values.collect())
    }

    async fn all_topic_configs(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, BTreeMap<String, (String, i8)>>, ClientError> {
        let resource = |name: &String| DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.clone(),
            configuration_keys: None,
            ..Default::default()
        };
        let resources = names.iter().map(resource).collect();
        let answer = self
            .ask(&DescribeConfigsRequest {
                resources,
                ..Default::default()
            })
            .await?;
        let mut settings = BTreeMap::new();
        for result in answer.results {
            ClientError::check(result.error_code, result.error_message)?;
            let entries = result.configs.into_iter();
            let entries = entries.map(|c| (c.name, (c.value.unwrap_or_default(), c.config_source)));
            settings.insert(result.resource_name, entries.collect());
        }
        Ok(settings)
    }
}

fn partition(answer: &DescribeTopicPartitionsResponsePartition) -> PartitionDescription {
    PartitionDescription {
        index: answer.partition_index,
        leader: Some(BrokerId(answer.leader_id)).filter(|id| *id != BrokerId::NONE),
        leader_epoch: LeaderEpoch(answer.leader_epoch),
        replicas: brokers(&answer.replica_nodes),
        isr: brokers(&answer.isr_nodes),
        eligible: answer.eligible_leader_replicas.as_deref().map(brokers),
        last_known_eligible: answer.last_known_elr.as_deref().map(brokers),
    }
}

fn brokers(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.get()).collect()
}

fn no_topic() -> ClientError {
    let message = Some("the answer names no topic".to_owned());
    ClientError::Broker {
        code: ErrorCode::UnknownTopicOrPartition,
        message,
    }
}
