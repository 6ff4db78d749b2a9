//! A member of a group, by the consumer protocol (KIP-848): the coordinator says what to read.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_model::{ErrorCode, TopicId, Uuid};
use millrace_protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use millrace_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use tokio::time::Instant;

use crate::{
    ClientError, Cluster, CommittedOffset, Consumed, Consumer, ConsumerOptions, Start,
    TopicPartition,
};

/// How long the others wait for this member to give up what it owns.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;

/// How often what was read is committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// Member epochs with a meaning of their own.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// Reads what the coordinator of its group gives it, and commits that from time to time.
pub struct Member {
    cluster: Cluster,
    group: String,
    topics: Vec<String>,
    begin: Start,
    options: ConsumerOptions,
    id: String,
    epoch: i32,
    beat_at: Instant,
    commit_at: Instant,
    owned: Vec<TopicPartition>,
    consumer: Consumer,
    /// Where to go on with each partition that was read from, and what of that is committed.
    read: BTreeMap<TopicPartition, CommittedOffset>,
    committed: BTreeMap<TopicPartition, CommittedOffset>,
}

impl Member {
    /// A member that has not joined yet; partitions without a committed offset are read from `begin`.
    pub fn new(
        cluster: &Cluster,
        group: &str,
        topics: Vec<String>,
        begin: Start,
        options: ConsumerOptions,
    ) -> Member {
        let now = cluster.machine().clock.now();
        Member {
            id: cluster.machine().random.uuid().to_string(),
            cluster: cluster.clone(),
            group: group.to_owned(),
            topics,
            begin,
            options,
            epoch: JOIN,
            beat_at: now,
            commit_at: now + COMMIT_INTERVAL,
            owned: Vec::new(),
            consumer: Consumer::new(cluster, options),
            read: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }

    /// What one round of reading brings; nothing also while the group has nothing for this member.
    pub async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        let now = self.cluster.machine().clock.now();
        if now >= self.commit_at {
            self.commit().await?;
        }
        if now >= self.beat_at {
            self.beat().await?;
        }
        if self.owned.is_empty() {
            tokio::time::sleep(self.options.max_wait.min(Duration::from_millis(100))).await;
            return Ok(Vec::new());
        }
        self.consumer.poll().await
    }

    /// The epoch it is in and what it reads there; nothing while it is no member.
    pub fn owned(&self) -> (i32, &[TopicPartition]) {
        match self.epoch > JOIN {
            true => (self.epoch, &self.owned),
            false => (self.epoch, &[]),
        }
    }

    /// Notes that everything up to this record has been dealt with.
    pub fn done(&mut self, record: &Consumed) {
        let partition = (record.topic.clone(), record.partition);
        let at = CommittedOffset {
            offset: record.offset.next(),
            leader_epoch: record.leader_epoch,
        };
        self.read.insert(partition, at);
    }

    /// Commits what has been dealt with, and leaves the group.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        self.commit().await?;
        if self.epoch > JOIN {
            self.epoch = LEAVE;
            self.send_beat().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ClientError> {
        self.commit_at = self.cluster.machine().clock.now() + COMMIT_INTERVAL;
        if self.read == self.committed || self.epoch <= JOIN {
            return Ok(());
        }
        let mut by_topic: BTreeMap<&str, Vec<(i32, CommittedOffset)>> = BTreeMap::new();
        for ((topic, index), at) in &self.read {
            by_topic.entry(topic).or_default().push((*index, *at));
        }
        let committed = self
            .cluster
            .commit_as(&self.group, &self.id, self.epoch, by_topic)
            .await;
        match committed {
            Ok(()) => self.committed = self.read.clone(),
            // The next heartbeat tells what to do; what is not committed is read again.
            Err(error) if is_about_membership(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), ClientError> {
        let answer = match self.send_beat().await {
            Ok(answer) => answer,
            Err(error) if is_about_membership(&error) => {
                // It was taken for dead, and joins anew with nothing.
                self.epoch = JOIN;
                return self.own(Vec::new()).await;
            }
            Err(error) => return Err(error),
        };
        self.epoch = answer.member_epoch;
        let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        let interval = Duration::from_millis(interval);
        self.beat_at = self.cluster.machine().clock.now() + interval;
        if let Some(assignment) = answer.assignment {
            let mut owned = Vec::new();
            for topic in assignment.topic_partitions {
                let name = self.name_of(TopicId(topic.topic_id)).await?;
                owned.extend(
                    topic
                        .partitions
                        .into_iter()
                        .map(|index| (name.clone(), index)),
                );
            }
            // Whoever says all in its heartbeat is told all, mostly what it knows.
            if is_another(&mut owned, &self.owned) {
                self.own(owned).await?;
                // What was given up is free for others once the coordinator knows.
                self.beat_at = self.cluster.machine().clock.now();
            }
        }
        Ok(())
    }

    async fn send_beat(&mut self) -> Result<ConsumerGroupHeartbeatResponse, ClientError> {
        let mut owned: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for (topic, index) in &self.owned {
            let id = self.cluster.topic(topic).await?.id;
            owned.entry(id.0).or_default().push(*index);
        }
        let owned = owned
            .into_iter()
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id,
                partitions,
                ..Default::default()
            });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            subscribed_topic_names: Some(self.topics.clone()),
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        };
        let asked = self
            .cluster
            .ask_coordinator(&self.group, &request, i16::MAX, |answer| answer.error_code);
        Ok(asked.await?.1)
    }

    async fn name_of(&mut self, id: TopicId) -> Result<String, ClientError> {
        for name in &self.topics {
            if self.cluster.topic(name).await?.id == id {
                return Ok(name.clone());
            }
        }
        Err(ClientError::Broker {
            code: ErrorCode::UnknownTopicId,
            message: None,
        })
    }

    /// Owns these partitions from now on, each from where the group stands.
    async fn own(&mut self, partitions: Vec<TopicPartition>) -> Result<(), ClientError> {
        self.commit().await?;
        let committed = match partitions.is_empty() {
            true => BTreeMap::new(),
            false => self.cluster.committed_offsets(&self.group).await?,
        };
        let mut consumer = Consumer::new(&self.cluster, self.options);
        for partition in &partitions {
            let kept = self.read.get(partition).copied();
            let known = kept.or_else(|| committed.get(partition).copied());
            let start = known.map_or(self.begin, |at| Start::At(at.offset));
            consumer.assign(&partition.0, partition.1, start).await?;
            if let Some(at) = known {
                consumer.only_since(&partition.0, partition.1, at.leader_epoch);
            }
        }
        self.read
            .retain(|partition, _| partitions.contains(partition));
        self.committed
            .retain(|partition, _| partitions.contains(partition));
        self.owned = partitions;
        self.consumer = consumer;
        Ok(())
    }
}

/// Whether an assignment, which this sorts, differs from what is owned.
fn is_another(told: &mut [TopicPartition], owned: &[TopicPartition]) -> bool {
    told.sort_unstable();
    told != owned
}

/// Whether the coordinator does not count on this member, or not in this epoch.
fn is_about_membership(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::UnknownMemberId
                | ErrorCode::FencedMemberEpoch
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::IllegalGeneration
                | ErrorCode::RebalanceInProgress
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_in_another_order_is_no_other() {
        let partitions = |indexes: &[i32]| -> Vec<TopicPartition> {
            let indexes = indexes.iter();
            indexes.map(|index| ("topic".to_owned(), *index)).collect()
        };
        let owned = partitions(&[0, 2, 3]);
        assert!(!is_another(&mut partitions(&[3, 0, 2]), &owned));
        assert!(is_another(&mut partitions(&[0, 2]), &owned));
        assert!(is_another(&mut partitions(&[0, 2, 4]), &owned));
        assert!(is_another(&mut partitions(&[]), &owned));
        assert!(!is_another(&mut partitions(&[]), &[]));
    }
}
