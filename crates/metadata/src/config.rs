//! Dynamic configurations, and the settings that the controller resolves for everybody.

use millrace_model::{BrokerId, Durability, Planted, TopicName};

use crate::image::Image;
use crate::partition::Partition;

/// Names of the settings that decisions look at.
pub mod names {
    /// How many in-sync replicas an acks=all write needs.
    pub const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
    /// Whether a replica that may lack acknowledged records may lead.
    pub const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";
    /// What an acknowledgement means: `fsync` or `page-cache`.
    pub const DURABILITY: &str = "millrace.durability";
    /// Kafka's setting of a topic; 1 means fsync.
    pub const FLUSH_MESSAGES: &str = "flush.messages";
    /// Kafka's setting of a broker; 1 means fsync.
    pub const LOG_FLUSH_INTERVAL_MESSAGES: &str = "log.flush.interval.messages";
}

/// What kind of thing a configuration belongs to (Kafka class `ConfigResource.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum ResourceKind {
    /// A topic, by name.
    Topic = 2,
    /// A broker, by number; the empty name means all brokers.
    Broker = 4,
    /// A client metrics subscription (KIP-714).
    ClientMetrics = 16,
    /// A group (KIP-848).
    Group = 32,
}

impl ResourceKind {
    /// The kind of this number on the wire.
    pub fn from_code(code: i8) -> Option<ResourceKind> {
        match code {
            2 => Some(ResourceKind::Topic),
            4 => Some(ResourceKind::Broker),
            16 => Some(ResourceKind::ClientMetrics),
            32 => Some(ResourceKind::Group),
            _ => None,
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> i8 {
        self as i8
    }
}

/// What a configuration belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// What kind of thing.
    pub kind: ResourceKind,
    /// Its name.
    pub name: String,
}

impl Resource {
    /// A topic's configuration.
    pub fn topic(name: &TopicName) -> Resource {
        Resource {
            kind: ResourceKind::Topic,
            name: name.as_str().to_owned(),
        }
    }

    /// One broker's configuration.
    pub fn broker(id: BrokerId) -> Resource {
        Resource {
            kind: ResourceKind::Broker,
            name: id.to_string(),
        }
    }

    /// What holds for all brokers that have nothing of their own.
    pub fn cluster() -> Resource {
        Resource {
            kind: ResourceKind::Broker,
            name: String::new(),
        }
    }
}

impl Image {
    /// What a topic, or else all brokers, set for `name`: the only places that a setting of
    /// replication may come from (rule 12: never one broker's).
    pub fn topic_setting(&self, topic: &TopicName, name: &str) -> Option<&str> {
        self.config(&Resource::topic(topic), name)
            .or_else(|| self.config(&Resource::cluster(), name))
    }

    /// `min.insync.replicas` as configured for a topic, before the number of replicas caps it.
    pub fn configured_min_insync(&self, topic: &TopicName) -> usize {
        self.topic_setting(topic, names::MIN_INSYNC_REPLICAS)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(1)
    }

    /// `min.insync.replicas` of a partition: the smaller of the setting and the replica count.
    pub fn min_insync(&self, topic: &TopicName, partition: &Partition) -> usize {
        self.configured_min_insync(topic)
            .min(partition.replicas.len())
    }

    /// Whether a replica that may lack acknowledged records may lead partitions of the topic.
    pub fn unclean_election_allowed(&self, topic: &TopicName) -> bool {
        let setting = self.topic_setting(topic, names::UNCLEAN_LEADER_ELECTION);
        setting.is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
            || Planted::UncleanElection.is_here()
    }

    /// What an acknowledgement of the topic's replicas is configured to mean. Kafka's flush after
    /// every message means fsync too; the topic's word goes before that of all brokers.
    ///
    /// What acknowledgements have meant so far may be less: see [`Partition::durability`].
    pub fn configured_durability(&self, topic: &TopicName) -> Durability {
        let level = |resource: &Resource, flush: &str| {
            if self.config(resource, flush).map(str::trim) == Some("1") {
                return Some(Durability::Fsync);
            }
            self.config(resource, names::DURABILITY)?
                .trim()
                .parse()
                .ok()
        };
        level(&Resource::topic(topic), names::FLUSH_MESSAGES)
            .or_else(|| level(&Resource::cluster(), names::LOG_FLUSH_INTERVAL_MESSAGES))
            .unwrap_or_default()
    }
}
