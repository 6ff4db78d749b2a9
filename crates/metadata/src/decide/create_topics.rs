//! Creation of topics (Kafka class `ReplicationControlManager`).

use std::collections::BTreeMap;

use millrace_model::{
    BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, TopicId, TopicName, Uuid,
};

use super::configs::ConfigRules;
use super::place::place;
use super::{Decision, Draft, Refusal};
use crate::config::Resource;
use crate::image::Image;
use crate::partition::{Partition, Recovery, UNASSIGNED_DIRECTORY};
use crate::record::{Record, UnknownFields};

/// How many partitions one request may create.
pub(super) const MAX_PARTITIONS_AT_ONCE: usize = 10_000;

/// A topic that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name, unchecked.
    pub name: String,
    /// How many partitions; -1 for the default, and with `assignments`.
    pub partitions: i32,
    /// How many replicas each; -1 for the default, and with `assignments`.
    pub replication_factor: i16,
    /// The replicas of each partition by its number, when they are to be just these.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// Its settings; a value of `None` is refused.
    pub configs: Vec<(String, Option<String>)>,
}

/// What -1 stands for: `num.partitions` and `default.replication.factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas each.
    pub replication_factor: i16,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each.
    pub replication_factor: i16,
}

/// Creates topics; each has its own answer, in order. With `validate_only` nothing is created.
///
/// Codes: INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_CONFIG, INVALID_REQUEST,
/// INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR, INVALID_PARTITIONS, and POLICY_VIOLATION
/// for all when the request wants too many partitions.
pub fn create_topics(
    image: &Image,
    rules: &dyn ConfigRules,
    topics: &[NewTopic],
    defaults: TopicDefaults,
    validate_only: bool,
    random: &mut dyn FnMut() -> u64,
) -> Decision<Vec<Result<CreatedTopic, Refusal>>> {
    if wanted(topics, defaults) > MAX_PARTITIONS_AT_ONCE {
        return Decision::unchanged(vec![Err(too_many_partitions()); topics.len()]);
    }
    let mut draft = Draft::of(image);
    let results = topics.iter().map(|topic| {
        let mut attempt = Draft::of(&draft.image);
        let created = attempt.create_topic(rules, topic, defaults, random)?;
        draft.image = attempt.image;
        draft.records.append(&mut attempt.records);
        Ok(created)
    });
    let results = results.collect();
    if validate_only {
        return Decision::unchanged(results);
    }
    draft.finish(results)
}

pub(super) fn too_many_partitions() -> Refusal {
    Refusal::new(
        ErrorCode::PolicyViolation,
        "Excessively large number of partitions per request.",
    )
}

fn wanted(topics: &[NewTopic], defaults: TopicDefaults) -> usize {
    let partitions = topics.iter().map(|topic| match topic.partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        -1 => usize::try_from(defaults.partitions).unwrap_or(0),
        partitions => usize::try_from(partitions).unwrap_or(0),
    });
    partitions.fold(0, usize::saturating_add)
}

impl Draft {
    fn create_topic(
        &mut self,
        rules: &dyn ConfigRules,
        topic: &NewTopic,
        defaults: TopicDefaults,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<CreatedTopic, Refusal> {
        let name = self.check_name(&topic.name)?;
        let configs = check_configs(topic)?;
        let id = self.fresh_topic_id(random);
        self.push(Record::Topic {
            id,
            name: name.clone(),
            unknown: UnknownFields::default(),
        });
        // Kafka looks at the settings first, and so tells of what is wrong with them first.
        self.change_settings(rules, &Resource::topic(&name), configs)?;
        let assignments = self.assignments(topic, defaults, random)?;
        let replication_factor = assignments.first().map_or(0, Vec::len);
        let partitions = self.add_partitions(id, 0, &assignments);
        Ok(CreatedTopic {
            id,
            name,
            partitions,
            replication_factor: i16::try_from(replication_factor).unwrap_or(i16::MAX),
        })
    }

    fn check_name(&self, name: &str) -> Result<TopicName, Refusal> {
        let refuse = |why| Err(Refusal::new(ErrorCode::InvalidTopicException, why));
        let name = match TopicName::new(name) {
            Ok(name) => name,
            Err(why) => return refuse(why.to_string()),
        };
        if self.image.topic_named(name.as_str()).is_some() {
            return Err(Refusal::new(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            ));
        }
        if let Some(other) = self.image.colliding_topic(&name) {
            return refuse(format!(
                "Topic '{name}' collides with existing topic: {other}"
            ));
        }
        Ok(name)
    }

    fn assignments(
        &self,
        topic: &NewTopic,
        defaults: TopicDefaults,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        if !topic.assignments.is_empty() {
            return self.manual_assignments(topic);
        }
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            ));
        }
        if topic.partitions < -1 || topic.partitions == 0 {
            return Err(Refusal::new(
                ErrorCode::InvalidPartitions,
                "Number of partitions was set to an invalid non-positive value.",
            ));
        }
        let or_default = |asked, default| if asked == -1 { default } else { asked };
        let partitions = or_default(topic.partitions, defaults.partitions);
        let factor = match topic.replication_factor {
            -1 => defaults.replication_factor,
            asked => asked,
        };
        let count = usize::try_from(partitions).unwrap_or(0);
        place(&self.image, None, count, factor, random).map_err(|refusal| {
            let why = refusal.message.unwrap_or_default();
            Refusal::new(
                refusal.code,
                format!("Unable to replicate the partition {factor} time(s): {why}"),
            )
        })
    }

    fn manual_assignments(&self, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let invalid = |what| {
            let why = format!(
                "A manual partition assignment was specified, but {what} was not set to -1."
            );
            Err(Refusal::new(ErrorCode::InvalidRequest, why))
        };
        if topic.replication_factor != -1 {
            return invalid("replication factor");
        }
        if topic.partitions != -1 {
            return invalid("numPartitions");
        }
        let refuse = |why| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        let mut assignments: BTreeMap<i32, Vec<BrokerId>> = BTreeMap::new();
        let mut factor = None;
        for (index, replicas) in &topic.assignments {
            if assignments.contains_key(index) {
                return refuse(format!(
                    "Found multiple manual partition assignments for partition {index}"
                ));
            }
            self.check_assignment(replicas, factor)?;
            factor = Some(replicas.len());
            self.check_somebody_serves(*index, replicas)?;
            assignments.insert(*index, replicas.clone());
        }
        if !assignments.keys().copied().eq(0..assignments.len() as i32) {
            return refuse("partitions should be a consecutive 0-based integer sequence".into());
        }
        Ok(assignments.into_values().collect())
    }

    pub(super) fn check_somebody_serves(
        &self,
        index: i32,
        replicas: &[BrokerId],
    ) -> Result<(), Refusal> {
        if replicas
            .iter()
            .any(|replica| self.image.is_active(*replica))
        {
            return Ok(());
        }
        Err(Refusal::new(
            ErrorCode::InvalidReplicaAssignment,
            format!(
                "All brokers specified in the manual partition assignment for partition {index} \
                 are fenced or in controlled shutdown."
            ),
        ))
    }

    /// Checks a manual assignment (Kafka method `validateManualPartitionAssignment`).
    pub(super) fn check_assignment(
        &self,
        replicas: &[BrokerId],
        factor: Option<usize>,
    ) -> Result<(), Refusal> {
        let refuse = |why| {
            let why = format!("The manual partition assignment includes {why}");
            Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why))
        };
        if replicas.is_empty() {
            return refuse("an empty replica list.".to_owned());
        }
        let mut sorted = replicas.to_vec();
        sorted.sort();
        for (place, broker) in sorted.iter().enumerate() {
            if self.image.broker(*broker).is_none() {
                return refuse(format!(
                    "broker {broker}, but no such broker is registered."
                ));
            }
            if place > 0 && sorted[place - 1] == *broker {
                return refuse(format!("the broker {broker} more than once."));
            }
        }
        match factor {
            Some(factor) if factor != replicas.len() => refuse(format!(
                "a partition with {} replica(s), but this is not consistent with previous \
                 partitions, which have {factor} replica(s).",
                replicas.len()
            )),
            _ => Ok(()),
        }
    }

    /// Adds partitions to a topic, numbered from `first`; tells how many the topic has then. Who
    /// serves is in sync from the start, since there is nothing yet to be behind with.
    pub(super) fn add_partitions(
        &mut self,
        topic: TopicId,
        first: i32,
        assignments: &[Vec<BrokerId>],
    ) -> i32 {
        let name = &self.image.topic(topic).expect("it was created before").name;
        let durability = self.image.configured_durability(name);
        let directory = |broker: &BrokerId| {
            let broker = self.image.broker(*broker);
            broker.map_or(UNASSIGNED_DIRECTORY, |b| b.default_directory())
        };
        let partition = |replicas: &Vec<BrokerId>| {
            let serves = |broker: &BrokerId| self.image.is_active(*broker);
            let isr: Vec<BrokerId> = replicas.iter().copied().filter(serves).collect();
            Partition {
                directories: replicas.iter().map(directory).collect(),
                replicas: replicas.clone(),
                leader: isr.first().copied(),
                isr,
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                recovery: Recovery::Recovered,
                durability,
                ..Partition::default()
            }
        };
        let record = |(index, replicas)| Record::Partition {
            id: PartitionId { topic, index },
            partition: partition(replicas),
        };
        let records: Vec<_> = (first..).zip(assignments).map(record).collect();
        let count = first + records.len() as i32;
        self.extend(records);
        count
    }

    fn fresh_topic_id(&self, random: &mut dyn FnMut() -> u64) -> TopicId {
        loop {
            let uuid = Uuid::from_random(|| u128::from(random()) << 64 | u128::from(random()));
            if self.image.topic(TopicId(uuid)).is_none() {
                return TopicId(uuid);
            }
        }
    }
}

fn check_configs(topic: &NewTopic) -> Result<Vec<(String, Option<String>)>, Refusal> {
    let nulls = topic.configs.iter().filter(|(_, value)| value.is_none());
    let nulls: Vec<&str> = nulls.map(|(name, _)| name.as_str()).collect();
    if nulls.is_empty() {
        return Ok(topic.configs.clone());
    }
    Err(Refusal::new(
        ErrorCode::InvalidConfig,
        format!(
            "Null value not supported for topic configs: {}",
            nulls.join(",")
        ),
    ))
}
