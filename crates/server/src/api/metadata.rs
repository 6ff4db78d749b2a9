//! Metadata (key 3), versions 0 to 13.
//!
//! - 0: no topics means all; replicas that cannot be reached are left out, with
//!   REPLICA_NOT_AVAILABLE; 1: null means all, racks, controller; 2: cluster id; 4: whether topics
//!   may be made; 5: offline replicas (KIP-112);
//! - 6: LISTENER_NOT_FOUND where it was LEADER_NOT_AVAILABLE before (KIP-302); 7: leader epochs
//!   (KIP-320); 8: authorized operations (KIP-430), those of the cluster up to 10; 9: flexible;
//! - 10: topic ids (KIP-516); 12: asked by id; 13: an error of the whole (KIP-1102), never here.
//!
//! Brokers are told as they are reached by the listener that the request came by. The controller
//! that is named is always a live broker: the active controller where it is one, since requests
//! to it then need no forwarding, else the broker that answers.
//!
//! A topic that is missing and may be made is made before the answer (`auto.create.topics.enable`,
//! `num.partitions`, `default.replication.factor`), where Kafka answers UNKNOWN_TOPIC_OR_PARTITION
//! and makes it meanwhile; so do we when that takes long. Internal topics are made by those who
//! write them.

use std::collections::BTreeSet;

use millrace_metadata::{Image, Partition, Topic};
use millrace_model::{BrokerId, ErrorCode, TopicId, TopicName};
use millrace_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millrace_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

use super::internal::is_internal;
use super::{CLUSTER_OPERATIONS, Context, TOPIC_OPERATIONS};
use crate::node::endpoint;

pub(super) mod auto_creation;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 13);

/// Tells of brokers and topics, and makes topics that are missing.
pub async fn handle(context: &Context, request: MetadataRequest) -> MetadataResponse {
    if let Err(error) = check(&request, context.api_version) {
        return refused(&request, error);
    }
    let wanted = Wanted::of(&request, context.api_version);
    if let Wanted::Named(names) = &wanted
        && request.allow_auto_topic_creation
    {
        auto_creation::create_missing(context, names).await;
    }
    let image = context.node.image();
    let view = View {
        image: &image,
        silent: context.node.silent_brokers(),
        listener: context.listener(),
        api_version: context.api_version,
    };
    let mut topics = view.topics(&wanted);
    if request.include_topic_authorized_operations {
        let known = |topic: &&mut MetadataResponseTopic| topic.name.is_some();
        for topic in topics.iter_mut().filter(known) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    let mut response = MetadataResponse {
        brokers: view.brokers(),
        cluster_id: Some(context.node.cluster_id.to_string()),
        controller_id: named_controller(context, &image),
        topics,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// What is asked for.
enum Wanted<'a> {
    All,
    /// Once each, in the order of the request.
    Named(Vec<&'a str>),
    Ids(Vec<TopicId>),
}

impl Wanted<'_> {
    fn of(request: &MetadataRequest, api_version: i16) -> Wanted<'_> {
        let Some(topics) = &request.topics else {
            return Wanted::All;
        };
        if topics.is_empty() && api_version == 0 {
            return Wanted::All;
        }
        let mut ids = once_each(topics.iter().map(|topic| topic.topic_id));
        ids.retain(|id| !id.is_zero());
        if !ids.is_empty() {
            return Wanted::Ids(ids.into_iter().map(TopicId).collect());
        }
        let names = topics.iter().filter_map(|topic| topic.name.as_deref());
        Wanted::Named(once_each(names))
    }
}

fn once_each<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| seen.insert(*item)).collect()
}

fn check(request: &MetadataRequest, api_version: i16) -> Result<(), ErrorCode> {
    let mut topics = request.topics.iter().flatten();
    let is_wrong = |topic: &MetadataRequestTopic| match &topic.name {
        None => api_version < 12 || topic.topic_id.is_zero(),
        Some(_) => api_version < 12 && !topic.topic_id.is_zero(),
    };
    match topics.any(is_wrong) {
        true => Err(ErrorCode::InvalidRequest),
        false => Ok(()),
    }
}

fn refused(request: &MetadataRequest, error: ErrorCode) -> MetadataResponse {
    let topics = request.topics.iter().flatten();
    let topics = topics.map(|topic| MetadataResponseTopic {
        error_code: error.code(),
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..Default::default()
    });
    MetadataResponse {
        topics: topics.collect(),
        error_code: error.code(),
        ..Default::default()
    }
}

/// The broker that clients take for the controller; -1 where no broker is alive.
pub(super) fn named_controller(context: &Context, image: &Image) -> i32 {
    let listener = context.listener();
    let alive = |id: &BrokerId| endpoint(image, *id, listener).is_some();
    let known = [context.node.quorum.leader(), Some(context.node.id)];
    let named = known.into_iter().flatten().find(alive);
    let named = named.or_else(|| image.brokers().map(|broker| broker.id).find(alive));
    named.map_or(-1, BrokerId::get)
}

/// The cluster as it is seen through one listener.
struct View<'a> {
    image: &'a Image,
    /// Brokers that hang; they are not named.
    silent: BTreeSet<BrokerId>,
    listener: &'a str,
    api_version: i16,
}

impl View<'_> {
    fn brokers(&self) -> Vec<MetadataResponseBroker> {
        let ids = self.image.brokers().map(|broker| broker.id);
        let ids = ids.filter(|id| !self.silent.contains(id));
        let alive = ids.filter_map(|id| endpoint(self.image, id, self.listener));
        let told = alive.map(|(broker, listener)| MetadataResponseBroker {
            node_id: broker.id.get(),
            host: listener.host.clone(),
            port: i32::from(listener.port),
            rack: broker.rack.clone(),
            ..Default::default()
        });
        told.collect()
    }

    fn topics(&self, wanted: &Wanted<'_>) -> Vec<MetadataResponseTopic> {
        match wanted {
            Wanted::All => self.image.topics().map(|topic| self.topic(topic)).collect(),
            Wanted::Named(names) => names.iter().map(|name| self.named(name)).collect(),
            Wanted::Ids(ids) => ids.iter().map(|id| self.identified(*id)).collect(),
        }
    }

    fn named(&self, name: &str) -> MetadataResponseTopic {
        match self.image.topic_named(name) {
            Some(topic) => self.topic(topic),
            None => MetadataResponseTopic {
                error_code: missing(name).code(),
                name: Some(name.to_owned()),
                is_internal: is_internal(name),
                ..Default::default()
            },
        }
    }

    fn identified(&self, id: TopicId) -> MetadataResponseTopic {
        match self.image.topic(id) {
            Some(topic) => self.topic(topic),
            None => MetadataResponseTopic {
                error_code: ErrorCode::UnknownTopicId.code(),
                name: None,
                topic_id: id.0,
                ..Default::default()
            },
        }
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = self.image.partitions_of(topic.id);
        let partitions = partitions.map(|(id, partition)| self.partition(id.index, partition));
        MetadataResponseTopic {
            name: Some(topic.name.as_str().to_owned()),
            topic_id: topic.id.0,
            is_internal: is_internal(topic.name.as_str()),
            partitions: partitions.collect(),
            ..Default::default()
        }
    }

    fn partition(&self, index: i32, partition: &Partition) -> MetadataResponsePartition {
        let replicas = self.told(&partition.replicas);
        let isr = self.told(&partition.isr);
        let whole = replicas.len() == partition.replicas.len() && isr.len() == partition.isr.len();
        let (error, leader) = match self.leader(partition) {
            Err(error) => (error, -1),
            Ok(leader) if whole => (ErrorCode::None, leader.get()),
            Ok(leader) => (ErrorCode::ReplicaNotAvailable, leader.get()),
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index,
            leader_id: leader,
            leader_epoch: partition.leader_epoch.get(),
            replica_nodes: replicas,
            isr_nodes: isr,
            offline_replicas: offline_replicas(self.image, partition, self.listener),
            ..Default::default()
        }
    }

    /// The brokers of a partition; the first version leaves out whom nobody can reach.
    fn told(&self, brokers: &[BrokerId]) -> Vec<i32> {
        let reached = |id: &&BrokerId| {
            self.api_version > 0 || endpoint(self.image, **id, self.listener).is_some()
        };
        brokers.iter().filter(reached).map(|id| id.get()).collect()
    }

    fn leader(&self, partition: &Partition) -> Result<BrokerId, ErrorCode> {
        if let Some(leader) = reachable_leader(self.image, partition, self.listener) {
            return match self.silent.contains(&leader) {
                true => Err(ErrorCode::LeaderNotAvailable),
                false => Ok(leader),
            };
        }
        let leader = partition.leader.and_then(|id| self.image.broker(id));
        match leader {
            Some(_) if self.api_version >= 6 => Err(ErrorCode::ListenerNotFound),
            _ => Err(ErrorCode::LeaderNotAvailable),
        }
    }
}

/// Why a topic of this name is not told of.
pub(super) fn missing(name: &str) -> ErrorCode {
    match TopicName::new(name) {
        Ok(_) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    }
}

/// A partition's leader, if it is to be reached through this listener.
pub(super) fn reachable_leader(
    image: &Image,
    partition: &Partition,
    listener: &str,
) -> Option<BrokerId> {
    let leader = partition.leader?;
    endpoint(image, leader, listener)?;
    Some(leader)
}

/// The replicas that serve nobody: their broker is fenced, gone or not on this listener, or their
/// directory has failed.
pub(super) fn offline_replicas(image: &Image, partition: &Partition, listener: &str) -> Vec<i32> {
    let serves = |id: BrokerId| {
        let Some((broker, _)) = endpoint(image, id, listener) else {
            return false;
        };
        let directory = partition.directory(id);
        directory.is_some_and(|directory| broker.has_online(directory))
    };
    let replicas = partition.replicas.iter();
    let offline = replicas.filter(|id| !serves(**id));
    offline.map(|id| id.get()).collect()
}
