//! The group coordinator: shards of groups over `__consumer_offsets`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use millrace_coordinator::group::{
    Call, Counters, Notice, Record, RecordError, Request, Response, Settings, States, Topic,
    Topics, View,
};
use millrace_coordinator::{Groups as GroupShard, Shard};
use millrace_metadata::{Delta, Image};
use millrace_model::{PartitionId, TopicId, TopicName};
use millrace_protocol::hash::java_string_hash;

use super::family::{Encoded, Family};
use crate::Config;
use crate::api::internal::GROUP_OFFSETS;
use crate::config::group_settings;

/// Groups, as a kind of coordinator.
pub struct Groups {
    world: RwLock<Arc<World>>,
    /// `millrace.metrics.group.lags`.
    shown_lags: AtomicUsize,
}

/// What decisions about groups look at, at one moment.
pub struct World {
    topics: ImageTopics,
    settings: Arc<Settings>,
}

/// What there is to know of the groups of one partition.
pub struct GroupMeasures {
    /// What has happened.
    pub counters: Counters,
    /// Groups by state.
    pub states: States,
    /// Committed offsets: group, topic, partition, offset; at most as many as are to be shown.
    pub offsets: Vec<(String, String, i32, i64)>,
}

/// The topics of an image.
struct ImageTopics {
    image: Arc<Image>,
    /// Of the image in which topics changed last.
    version: u64,
}

impl Groups {
    /// Groups of a broker with these settings, before it knows the cluster.
    pub fn new(config: &Config) -> Groups {
        let image = Arc::new(Image::default());
        Groups {
            shown_lags: AtomicUsize::new(config.shown_group_lags),
            world: RwLock::new(Arc::new(World {
                settings: Arc::new(group_settings(&config.settings, &image)),
                topics: ImageTopics { image, version: 0 },
            })),
        }
    }
}

/// Whether an image differs in what groups see of topics.
fn changes_topics(delta: &Delta) -> bool {
    let moved = delta.partitions.iter().any(|partition| {
        let replicas = |side: &Option<Arc<millrace_metadata::Partition>>| {
            side.as_ref().map(|partition| partition.replicas.clone())
        };
        replicas(&partition.before) != replicas(&partition.after)
    });
    let rack = |side: &Option<Arc<millrace_metadata::Broker>>| {
        side.as_ref().and_then(|broker| broker.rack.clone())
    };
    let mut brokers = delta.brokers.iter();
    moved
        || !delta.topics_created.is_empty()
        || !delta.topics_deleted.is_empty()
        || brokers.any(|broker| rack(&broker.before) != rack(&broker.after))
}

impl Topics for ImageTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<Topic> {
        self.image.topic_named(name).map(|topic| seen(topic))
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        self.image.topic(id).map(|topic| topic.name.clone())
    }

    fn racks_of(&self, topic: TopicId, index: i32) -> Vec<Arc<str>> {
        let partition = self.image.partition(PartitionId { topic, index });
        let replicas = partition.iter().flat_map(|partition| &partition.replicas);
        let racks = replicas.filter_map(|id| self.image.broker(*id)?.rack.as_deref());
        let mut racks: Vec<&str> = racks.collect();
        racks.sort_unstable();
        racks.dedup();
        racks.into_iter().map(Arc::from).collect()
    }

    fn each(&self, visit: &mut dyn FnMut(&TopicName, Topic)) {
        let mut topics: Vec<_> = self.image.topics().collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        for topic in topics {
            visit(&topic.name, seen(topic));
        }
    }
}

fn seen(topic: &millrace_metadata::Topic) -> Topic {
    Topic {
        id: topic.id,
        partitions: topic.partitions,
    }
}

impl Family for Groups {
    type Shard = GroupShard;
    type Request = Request;
    type Response = Response;
    type Record = Record;
    type Notice = Notice;
    type World = World;
    type Measures = GroupMeasures;

    fn topic(&self) -> &'static str {
        GROUP_OFFSETS
    }

    fn shard(&self, _partition: i32) -> GroupShard {
        GroupShard::default()
    }

    fn world(&self) -> Arc<World> {
        let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
        world.clone()
    }

    fn view<'a>(&self, world: &'a World) -> <GroupShard as Shard>::View<'a> {
        View {
            topics: &world.topics,
            settings: &world.settings,
        }
    }

    fn update(&self, config: &Config, image: &Arc<Image>, delta: &Delta) {
        self.shown_lags
            .store(config.shown_group_lags, Ordering::Relaxed);
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        let version = match changes_topics(delta) {
            true => image.version().get(),
            false => world.topics.version,
        };
        let settings = match delta.configs.is_empty() && delta.features.is_empty() {
            true => world.settings.clone(),
            false => Arc::new(group_settings(&config.settings, image)),
        };
        *world = Arc::new(World {
            settings,
            topics: ImageTopics {
                image: image.clone(),
                version,
            },
        });
    }

    fn notices(&self, delta: &Delta) -> Vec<Notice> {
        let deleted = delta.topics_deleted.iter();
        let deleted: Vec<_> = deleted
            .map(|topic| (topic.name.clone(), topic.id))
            .collect();
        match deleted.is_empty() {
            true => Vec::new(),
            false => vec![Notice::TopicsDeleted(deleted)],
        }
    }

    fn measure(&self, shard: &GroupShard) -> GroupMeasures {
        let shown = self.shown_lags.load(Ordering::Relaxed);
        let offsets = shard.offsets().take(shown);
        GroupMeasures {
            counters: shard.counters(),
            states: shard.states(),
            offsets: offsets
                .map(|(group, topic, index, committed)| {
                    (
                        group.to_owned(),
                        topic.to_owned(),
                        index,
                        committed.offset.get(),
                    )
                })
                .collect(),
        }
    }

    fn subject(&self, request: &Request) -> Option<i32> {
        let group = match &request.call {
            Call::JoinGroup(request) => &request.group_id,
            Call::SyncGroup(request) => &request.group_id,
            Call::Heartbeat(request) => &request.group_id,
            Call::LeaveGroup(request) => &request.group_id,
            Call::OffsetCommit(request) => &request.group_id,
            Call::TxnOffsetCommit(request) => &request.group_id,
            Call::OffsetFetch { group, .. } => &group.group_id,
            Call::OffsetDelete(request) => &request.group_id,
            Call::ConsumerGroupHeartbeat(request) => &request.group_id,
            Call::DescribeGroups(_)
            | Call::ListGroups(_)
            | Call::DeleteGroups(_)
            | Call::ConsumerGroupDescribe(_) => return None,
        };
        Some(java_string_hash(group))
    }

    fn is_brief(&self, request: &Request) -> bool {
        matches!(
            request.call,
            Call::Heartbeat(_)
                | Call::ConsumerGroupHeartbeat(_)
                | Call::JoinGroup(_)
                | Call::SyncGroup(_)
        )
    }

    fn encode(&self, record: &Record) -> Result<Encoded, String> {
        let told = |error: millrace_protocol::EncodeError| error.to_string();
        Ok(Encoded {
            key: record.encode_key().map_err(told)?,
            value: record.encode_value().map_err(told)?,
        })
    }

    fn decode(&self, key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, String> {
        match Record::decode(key, value) {
            Ok(record) => Ok(Some(record)),
            Err(RecordError::Unknown(kind)) => {
                tracing::warn!(kind, "passing over a record of a kind that is not known");
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
