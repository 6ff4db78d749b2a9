//! Applying a batch: the only writer of the image, live and at load.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_model::{
    BrokerEpoch, BrokerId, ImageVersion, PartitionId, ProducerId, TopicId, TopicName,
};

use super::{Image, Topic};
use crate::broker::Broker;
use crate::config::Resource;
use crate::partition::Partition;
use crate::record::{Batch, PartitionChange, Record, UnknownFields};

/// Why a batch was not applied. The image is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It was decided on another image. This happens, and is harmless: every node skips the entry
    /// alike, the image keeps its version, and the proposer decides again.
    #[error("batch was decided on image version {based_on}, but meets version {image}")]
    Stale {
        /// What it was decided on.
        based_on: ImageVersion,
        /// What it met.
        image: ImageVersion,
    },
    /// The log entry is not newer than the image; a bug of the caller.
    #[error("entry of version {version} comes after an image of version {image}")]
    OutOfOrder {
        /// The entry's version.
        version: ImageVersion,
        /// The image's.
        image: ImageVersion,
    },
    /// A record does not fit the image it was decided on; a bug: stop the process.
    #[error("record {record} does not fit the image: {why}")]
    Misfit {
        /// The record's name.
        record: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The records would break an invariant; a bug: stop the process.
    #[error("batch breaks an invariant: {0}")]
    Broken(String),
}

impl ApplyError {
    /// Whether skipping the entry is right; anything else must stop the process.
    pub fn is_harmless(&self) -> bool {
        matches!(self, ApplyError::Stale { .. })
    }
}

impl Image {
    /// The image after `batch`, which the log holds as `version`.
    ///
    /// The versions of an image grow with the log but need not be without gaps: only an entry that
    /// changes the image gives it a new version. A batch is applied if and only if it was decided
    /// on this very image.
    ///
    /// # Errors
    /// [`ApplyError::Stale`] when the batch must be skipped; the others are bugs. All nodes come
    /// to the same result, since it depends on the image and the batch alone.
    pub fn apply(&self, batch: &Batch, version: ImageVersion) -> Result<Image, ApplyError> {
        if batch.based_on != self.version {
            return Err(ApplyError::Stale {
                based_on: batch.based_on,
                image: self.version,
            });
        }
        if version <= self.version {
            return Err(ApplyError::OutOfOrder {
                version,
                image: self.version,
            });
        }
        let mut next = self.with_records(&batch.records, version)?;
        next.version = version;
        if cfg!(debug_assertions) {
            next.validate().map_err(ApplyError::Broken)?;
        }
        Ok(next)
    }

    /// The image as it would be after `records`, still under this image's version: what further
    /// decisions of the same batch are taken on.
    ///
    /// # Errors
    /// As [`Image::apply`], but never [`ApplyError::Stale`].
    pub fn speculate(&self, records: &[Record]) -> Result<Image, ApplyError> {
        self.with_records(records, self.version.next())
    }

    /// As [`Image::speculate`], in the middle of a decision, when invariants need not hold yet.
    pub(crate) fn speculate_unchecked(&self, records: &[Record]) -> Result<Image, ApplyError> {
        let mut writer = Writer::new(self.clone(), self.version.next());
        writer.records(records)?;
        Ok(writer.image)
    }

    fn with_records(&self, records: &[Record], version: ImageVersion) -> Result<Image, ApplyError> {
        let mut writer = Writer::new(self.clone(), version);
        writer.records(records)?;
        writer.check().map_err(ApplyError::Broken)?;
        Ok(writer.image)
    }
}

/// Writes records into an image and remembers what it must check in the end.
pub(super) struct Writer {
    pub image: Image,
    version: ImageVersion,
    partitions: BTreeSet<PartitionId>,
    brokers: BTreeSet<BrokerId>,
}

impl Writer {
    pub fn new(image: Image, version: ImageVersion) -> Writer {
        Writer {
            image,
            version,
            partitions: BTreeSet::new(),
            brokers: BTreeSet::new(),
        }
    }

    fn records(&mut self, records: &[Record]) -> Result<(), ApplyError> {
        for record in records {
            self.record(record).map_err(|why| ApplyError::Misfit {
                record: record.name(),
                why,
            })?;
        }
        Ok(())
    }

    pub fn record(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Cluster { id } => self.cluster(id),
            Record::FeatureLevel { name, level } => self.feature(name, *level),
            Record::RegisterBroker(broker) => self.register(broker),
            Record::UnregisterBroker { id, epoch } => {
                self.change_broker(*id, *epoch, |_| ())?;
                self.image.brokers.remove(id);
                Ok(())
            }
            Record::FenceBroker { id, epoch } => {
                self.change_broker(*id, *epoch, |broker| broker.fenced = true)
            }
            Record::UnfenceBroker { id, epoch } => {
                self.change_broker(*id, *epoch, |broker| broker.fenced = false)
            }
            Record::ShutDownBroker { id, epoch } => {
                self.change_broker(*id, *epoch, |broker| broker.shutting_down = true)
            }
            Record::BrokerDirectories {
                id,
                epoch,
                directories,
            } => self.change_broker(*id, *epoch, |broker| {
                broker.directories.clone_from(directories);
            }),
            Record::RegisterController(node) => {
                self.image
                    .controllers
                    .insert(node.id, Arc::new(node.clone()));
                Ok(())
            }
            Record::Topic { id, name, unknown } => self.topic(*id, name, unknown),
            Record::RemoveTopic { id } => self.remove_topic(*id),
            Record::Partition { id, partition } => self.partition(*id, partition),
            Record::PartitionChange(change) => self.change_partition(change),
            Record::Config {
                resource,
                name,
                value,
            } => {
                self.config(resource, name, value.as_deref());
                Ok(())
            }
            Record::ProducerIds { next, .. } => self.producer_ids(*next),
        }
    }

    /// Checks what the records touched.
    pub fn check(&self) -> Result<(), String> {
        for id in &self.partitions {
            if let Some(partition) = self.image.partition(*id) {
                self.image.check_partition(*id, partition)?;
            }
        }
        self.brokers
            .iter()
            .try_for_each(|id| self.image.check_broker(*id))
    }

    fn cluster(&mut self, id: &str) -> Result<(), String> {
        match &self.image.cluster_id {
            Some(known) if **known != *id => Err(format!("the cluster's id is {known}")),
            _ => {
                self.image.cluster_id = Some(id.into());
                Ok(())
            }
        }
    }

    fn feature(&mut self, name: &str, level: i16) -> Result<(), String> {
        if level < 0 {
            return Err(format!("level {level} of {name} is negative"));
        }
        if level == 0 {
            self.image.features.remove(name);
        } else {
            self.image.features.insert(name.to_owned(), level);
        }
        Ok(())
    }

    fn register(&mut self, broker: &Broker) -> Result<(), String> {
        let known = self.image.broker(broker.id);
        let same = known.is_some_and(|k| k.epoch == broker.epoch);
        if same && known.is_some_and(|k| k.incarnation != broker.incarnation) {
            return Err(format!("epoch {} is another incarnation's", broker.epoch));
        }
        if !same && broker.epoch <= self.image.last_broker_epoch {
            return Err(format!("epoch {} was given before", broker.epoch));
        }
        let mut broker = broker.clone();
        if broker.registered_at == ImageVersion::default() {
            broker.registered_at = self.version;
        }
        self.image.last_broker_epoch = self.image.last_broker_epoch.max(broker.epoch);
        self.brokers.insert(broker.id);
        self.image.brokers.insert(broker.id, Arc::new(broker));
        Ok(())
    }

    fn change_broker(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
        change: impl FnOnce(&mut Broker),
    ) -> Result<(), String> {
        let Some(known) = self.image.brokers.get_mut(&id) else {
            return Err(format!("broker {id} is not registered"));
        };
        if known.epoch != epoch {
            return Err(format!(
                "broker {id} has epoch {}, not {epoch}",
                known.epoch
            ));
        }
        change(Arc::make_mut(known));
        self.brokers.insert(id);
        Ok(())
    }

    fn topic(
        &mut self,
        id: TopicId,
        name: &TopicName,
        unknown: &UnknownFields,
    ) -> Result<(), String> {
        if self.image.topics.contains_key(&id) || self.image.topics_by_name.contains_key(name) {
            return Err(format!("topic {name} ({id}) exists already"));
        }
        let topic = Topic {
            id,
            name: name.clone(),
            partitions: 0,
            unknown: unknown.clone(),
        };
        self.image.topics.insert(id, Arc::new(topic));
        self.image.topics_by_name.insert(name.clone(), id);
        self.image.index.add_topic(name);
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), String> {
        let Some(topic) = self.image.topics.remove(&id) else {
            return Err(format!("topic {id} does not exist"));
        };
        for index in 0..topic.partitions {
            let id = PartitionId { topic: id, index };
            if let Some(old) = self.image.partitions.remove(&id) {
                self.image.index.change(id, Some(&old), None);
            }
        }
        self.image.topics_by_name.remove(&topic.name);
        self.image.index.remove_topic(&topic.name);
        self.image.configs.remove(&Resource::topic(&topic.name));
        Ok(())
    }

    fn partition(&mut self, id: PartitionId, partition: &Partition) -> Result<(), String> {
        let Some(topic) = self.image.topics.get_mut(&id.topic) else {
            return Err(format!("topic {} does not exist", id.topic));
        };
        if topic.partitions != id.index {
            return Err(format!("the next partition is {}", topic.partitions));
        }
        Arc::make_mut(topic).partitions += 1;
        self.image.index.change(id, None, Some(partition));
        self.image
            .partitions
            .insert(id, Arc::new(partition.clone()));
        self.partitions.insert(id);
        Ok(())
    }

    fn change_partition(&mut self, change: &PartitionChange) -> Result<(), String> {
        let id = change.id;
        let Some(known) = self.image.partitions.get_mut(&id) else {
            return Err(format!("partition {id} does not exist"));
        };
        let raised = match change.leader {
            Some(_) => known.leader_epoch.next(),
            None => known.leader_epoch,
        };
        if change.leader_epoch != raised || change.partition_epoch != known.partition_epoch.next() {
            return Err(format!(
                "partition {id} has leader epoch {} and partition epoch {}, the change makes \
                 them {} and {}",
                known.leader_epoch,
                known.partition_epoch,
                change.leader_epoch,
                change.partition_epoch
            ));
        }
        let new = Arc::new(known.changed_by(change));
        let old = std::mem::replace(known, new.clone());
        self.image.index.change(id, Some(&old), Some(&new));
        self.partitions.insert(id);
        Ok(())
    }

    fn config(&mut self, resource: &Resource, name: &str, value: Option<&str>) {
        let configs = &mut self.image.configs;
        match value {
            Some(value) => {
                let settings = configs.entry(resource.clone()).or_default();
                Arc::make_mut(settings).insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(settings) = configs.get_mut(resource) {
                    Arc::make_mut(settings).remove(name);
                    if settings.is_empty() {
                        configs.remove(resource);
                    }
                }
            }
        }
    }

    fn producer_ids(&mut self, next: ProducerId) -> Result<(), String> {
        if next <= self.image.next_producer_id {
            return Err(format!(
                "ids up to {} are given away",
                self.image.next_producer_id
            ));
        }
        self.image.next_producer_id = next;
        Ok(())
    }
}

impl Writer {
    /// Sets what a snapshot holds beside records.
    pub fn restore(&mut self, last_broker_epoch: BrokerEpoch) {
        self.image.version = self.version;
        self.image.last_broker_epoch = last_broker_epoch;
    }
}
