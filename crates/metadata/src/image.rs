//! The image: everything the quorum has agreed on, as of one version.
//!
//! An image is immutable and costs a few pointers to copy. Only [`Image::apply`] makes the next.

mod apply;
mod index;
mod snapshot;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use millrace_model::{
    BrokerEpoch, BrokerId, ImageVersion, PartitionId, ProducerId, TopicId, TopicName,
};

use crate::broker::{Broker, Controller};
use crate::config::Resource;
use crate::partition::Partition;
use crate::record::UnknownFields;

pub use apply::ApplyError;
pub use index::Load;
pub use snapshot::{SnapshotDecoder, SnapshotError};

/// A topic, without its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has; they are numbered from 0.
    pub partitions: i32,
    /// What a newer release wrote and this build does not understand.
    pub unknown: UnknownFields,
}

/// The state of the cluster as of one version of it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    version: ImageVersion,
    cluster_id: Option<Arc<str>>,
    features: OrdMap<String, i16>,
    brokers: OrdMap<BrokerId, Arc<Broker>>,
    controllers: OrdMap<BrokerId, Arc<Controller>>,
    topics: OrdMap<TopicId, Arc<Topic>>,
    topics_by_name: OrdMap<TopicName, TopicId>,
    partitions: OrdMap<PartitionId, Arc<Partition>>,
    configs: OrdMap<Resource, Arc<BTreeMap<String, String>>>,
    next_producer_id: ProducerId,
    /// The greatest broker epoch ever given, so that none is given twice.
    last_broker_epoch: BrokerEpoch,
    index: index::Index,
}

impl Image {
    /// The version: that of the newest entry of the metadata log that changed it.
    pub fn version(&self) -> ImageVersion {
        self.version
    }

    /// `cluster.id`, once the cluster is formed.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The finalized version of a feature; 0 when the cluster does not run it.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// All finalized features.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
    }

    /// A broker's registration.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// All registered brokers, by number.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// Whether a broker is registered, not fenced and not shutting down.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|b| b.is_active())
    }

    /// A controller's registration.
    pub fn controller(&self, id: BrokerId) -> Option<&Arc<Controller>> {
        self.controllers.get(&id)
    }

    /// All registered controllers, by number.
    pub fn controllers(&self) -> impl Iterator<Item = &Arc<Controller>> {
        self.controllers.values()
    }

    /// A topic by its identity.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// A topic by its name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topics_by_name.get(name)?)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let topic = |id| self.topics.get(id).expect("a name points to a topic");
        self.topics_by_name.values().map(topic)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// One partition.
    pub fn partition(&self, id: PartitionId) -> Option<&Arc<Partition>> {
        self.partitions.get(&id)
    }

    /// All partitions, topic by topic.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &Arc<Partition>)> {
        self.partitions.iter().map(|(id, p)| (*id, p))
    }

    /// How many partitions there are.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// The partitions of a topic, from 0.
    pub fn partitions_of(
        &self,
        topic: TopicId,
    ) -> impl Iterator<Item = (PartitionId, &Arc<Partition>)> {
        let at = |index| PartitionId { topic, index };
        self.partitions
            .range(at(0)..=at(i32::MAX))
            .map(|(id, p)| (*id, p))
    }

    /// The partitions of which `broker` holds a replica.
    pub fn hosted_by(
        &self,
        broker: BrokerId,
    ) -> impl Iterator<Item = (PartitionId, &Arc<Partition>)> {
        self.index.hosted_by(broker).map(|id| (id, self.expect(id)))
    }

    /// The partitions that nobody leads.
    pub fn leaderless(&self) -> impl Iterator<Item = (PartitionId, &Arc<Partition>)> {
        self.index
            .leaderless
            .iter()
            .map(|id| (*id, self.expect(*id)))
    }

    /// The partitions that are being reassigned.
    pub fn reassigning(&self) -> impl Iterator<Item = (PartitionId, &Arc<Partition>)> {
        self.index
            .reassigning
            .iter()
            .map(|id| (*id, self.expect(*id)))
    }

    /// What a broker carries.
    pub fn load(&self, broker: BrokerId) -> Load {
        self.index.loads.get(&broker).copied().unwrap_or_default()
    }

    /// One dynamic setting of exactly this resource.
    pub fn config(&self, resource: &Resource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }

    /// All dynamic settings of exactly this resource.
    pub fn configs_of(&self, resource: &Resource) -> Option<&Arc<BTreeMap<String, String>>> {
        self.configs.get(resource)
    }

    /// All dynamic settings.
    pub fn configs(&self) -> impl Iterator<Item = (&Resource, &Arc<BTreeMap<String, String>>)> {
        self.configs.iter()
    }

    /// The first producer id that nobody has been given.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// The epoch for the next registration of a broker: greater than any given before, and at
    /// least the version of the image that will hold it.
    pub fn next_broker_epoch(&self) -> BrokerEpoch {
        let version = i64::try_from(self.version.get()).unwrap_or(i64::MAX - 1);
        BrokerEpoch(version.max(self.last_broker_epoch.get()) + 1)
    }

    /// A topic whose name differs from `name` only in dots and underscores, if there is one.
    pub fn colliding_topic(&self, name: &TopicName) -> Option<&TopicName> {
        self.index.colliding(name)
    }

    /// The name of the topic that a partition of this image belongs to.
    pub(crate) fn topic_name(&self, id: PartitionId) -> &TopicName {
        &self
            .topics
            .get(&id.topic)
            .expect("a partition has a topic")
            .name
    }

    pub(crate) fn maps(&self) -> Maps<'_> {
        Maps {
            features: &self.features,
            brokers: &self.brokers,
            controllers: &self.controllers,
            topics: &self.topics,
            partitions: &self.partitions,
            configs: &self.configs,
        }
    }

    fn expect(&self, id: PartitionId) -> &Arc<Partition> {
        self.partitions
            .get(&id)
            .expect("an index names partitions that exist")
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Image) -> bool {
        self.version == other.version
            && self.cluster_id == other.cluster_id
            && self.features == other.features
            && self.brokers == other.brokers
            && self.controllers == other.controllers
            && self.topics == other.topics
            && self.partitions == other.partitions
            && self.configs == other.configs
            && self.next_producer_id == other.next_producer_id
            && self.last_broker_epoch == other.last_broker_epoch
    }
}

/// The persistent maps, for the comparison of two images.
pub(crate) struct Maps<'a> {
    pub features: &'a OrdMap<String, i16>,
    pub brokers: &'a OrdMap<BrokerId, Arc<Broker>>,
    pub controllers: &'a OrdMap<BrokerId, Arc<Controller>>,
    pub topics: &'a OrdMap<TopicId, Arc<Topic>>,
    pub partitions: &'a OrdMap<PartitionId, Arc<Partition>>,
    pub configs: &'a OrdMap<Resource, Arc<BTreeMap<String, String>>>,
}

type PartitionSet = OrdSet<PartitionId>;
