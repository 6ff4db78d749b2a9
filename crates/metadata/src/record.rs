//! Facts: what the metadata log holds, with stable numbers and an encoding of their own.
//!
//! A record is framed by its type and version, so that a build meeting a type or version from the
//! future says which one instead of guessing. Within a known record an unknown field survives: it
//! is kept with the broker, controller, topic or partition and written again.

mod unknown;
mod wire;

use bytes::Bytes;
use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, Durability, ImageVersion, LeaderEpoch, PartitionEpoch,
    PartitionId, ProducerId, TopicId, TopicName,
};

use crate::broker::{Broker, Controller};
use crate::config::Resource;
use crate::partition::{Partition, Recovery};

pub use unknown::UnknownFields;
pub(crate) use wire::RecordFrame;

/// Largest encoded batch that is decoded: changes of some hundred thousand partitions fit, and a
/// length from a broken disk or peer makes nobody allocate more.
pub const MAX_BATCH_BYTES: usize = 48 * 1024 * 1024;

/// One fact about the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster has this id; the first record of all.
    Cluster {
        /// `cluster.id`.
        id: String,
    },
    /// The cluster runs this version of a feature; level 0 removes it.
    FeatureLevel {
        /// The feature's name.
        name: String,
        /// Its finalized version.
        level: i16,
    },
    /// A broker registered, replacing its former registration.
    RegisterBroker(Broker),
    /// A broker is gone for good.
    UnregisterBroker {
        /// Which broker.
        id: BrokerId,
        /// Under which registration.
        epoch: BrokerEpoch,
    },
    /// A broker's session is over.
    FenceBroker {
        /// Which broker.
        id: BrokerId,
        /// Under which registration.
        epoch: BrokerEpoch,
    },
    /// A broker serves.
    UnfenceBroker {
        /// Which broker.
        id: BrokerId,
        /// Under which registration.
        epoch: BrokerEpoch,
    },
    /// A broker hands over what it leads, to stop then.
    ShutDownBroker {
        /// Which broker.
        id: BrokerId,
        /// Under which registration.
        epoch: BrokerEpoch,
    },
    /// These are the directories of a broker that are online now.
    BrokerDirectories {
        /// Which broker.
        id: BrokerId,
        /// Under which registration.
        epoch: BrokerEpoch,
        /// All that are online.
        directories: Vec<DirectoryId>,
    },
    /// A controller registered.
    RegisterController(Controller),
    /// A topic exists.
    Topic {
        /// Its identity.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// What a newer release wrote and this build does not understand.
        unknown: UnknownFields,
    },
    /// A topic is gone, with its partitions and its configuration.
    RemoveTopic {
        /// Its identity.
        id: TopicId,
    },
    /// A partition exists, in this state.
    Partition {
        /// Which partition.
        id: PartitionId,
        /// Its whole registration.
        partition: Partition,
    },
    /// A partition changed.
    PartitionChange(PartitionChange),
    /// A setting has this value, or none.
    Config {
        /// Whose setting.
        resource: Resource,
        /// The setting's name.
        name: String,
        /// Its value; `None` removes it.
        value: Option<String>,
    },
    /// Producer ids below `next` are given away.
    ProducerIds {
        /// The first id nobody has.
        next: ProducerId,
        /// Who got the last block.
        broker: BrokerId,
        /// Under which registration.
        broker_epoch: BrokerEpoch,
    },
}

/// What changed in a partition; `None` means unchanged. The epochs are those after the change, so
/// that whoever applies it can tell that nothing is missing in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    /// Which partition.
    pub id: PartitionId,
    /// The epoch after the change: always one more than before.
    pub partition_epoch: PartitionEpoch,
    /// The epoch after the change: one more than before if `leader` is given, else as before.
    pub leader_epoch: LeaderEpoch,
    /// The leader; given also when the same broker leads on under a new epoch.
    pub leader: Option<Option<BrokerId>>,
    /// The replicas.
    pub replicas: Option<Vec<BrokerId>>,
    /// The directories of the replicas.
    pub directories: Option<Vec<DirectoryId>>,
    /// The in-sync replicas.
    pub isr: Option<Vec<BrokerId>>,
    /// The eligible leader replicas.
    pub elr: Option<Vec<BrokerId>>,
    /// Who led last.
    pub last_known_elr: Option<Vec<BrokerId>>,
    /// Replicas that a reassignment brings.
    pub adding: Option<Vec<BrokerId>>,
    /// Replicas that a reassignment takes away.
    pub removing: Option<Vec<BrokerId>>,
    /// Whether the leader was elected cleanly.
    pub recovery: Option<Recovery>,
    /// What acknowledgements have meant.
    pub durability: Option<Durability>,
    /// What a newer release wrote and this build does not understand.
    pub unknown: UnknownFields,
}

impl PartitionChange {
    /// A change of `id` that changes nothing but the partition epoch, which becomes the one after
    /// that of `before`.
    pub fn of(id: PartitionId, before: &Partition) -> PartitionChange {
        PartitionChange {
            id,
            partition_epoch: before.partition_epoch.next(),
            leader_epoch: before.leader_epoch,
            leader: None,
            replicas: None,
            directories: None,
            isr: None,
            elr: None,
            last_known_elr: None,
            adding: None,
            removing: None,
            recovery: None,
            durability: None,
            unknown: UnknownFields::default(),
        }
    }
}

/// What one entry of the metadata log holds: records that take effect together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The version of the image that the records were decided on.
    pub based_on: ImageVersion,
    /// The facts, in order.
    pub records: Vec<Record>,
}

/// Why bytes are no batch or record of this build.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A record type that this build does not know: the log was written by a newer release.
    #[error(
        "metadata record type {number} (version {version}) is not known to this build, which \
         knows types 1 to {newest}: the metadata was written by a newer release"
    )]
    UnknownType {
        /// The type's number.
        number: u32,
        /// The record's version.
        version: u32,
        /// The greatest type known.
        newest: u32,
    },
    /// A known record in a version that this build does not know.
    #[error(
        "metadata record {name} has version {version}, but this build knows it up to version \
         {newest}: the metadata was written by a newer release"
    )]
    UnknownVersion {
        /// The record's name.
        name: &'static str,
        /// The record's version.
        version: u32,
        /// The greatest version known.
        newest: u32,
    },
    /// Bytes that are no record.
    #[error("metadata record {name} is malformed: {why}")]
    Malformed {
        /// The record's name.
        name: &'static str,
        /// What is wrong.
        why: String,
    },
    /// More bytes than a batch may have.
    #[error("metadata batch of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
}

impl Record {
    /// The stable number of this type of record.
    pub fn number(&self) -> u32 {
        wire::number_of(self)
    }

    /// The name of this type of record, for messages.
    pub fn name(&self) -> &'static str {
        wire::name_of(self.number())
    }
}

impl Batch {
    /// The bytes of one log entry.
    pub fn encode(&self) -> Bytes {
        wire::encode_batch(self)
    }

    /// Reads the bytes of one log entry.
    ///
    /// # Errors
    /// When they are malformed, too many, or written by a newer release.
    pub fn decode(bytes: Bytes) -> Result<Batch, DecodeError> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(DecodeError::TooLarge {
                bytes: bytes.len(),
                limit: MAX_BATCH_BYTES,
            });
        }
        wire::decode_batch(bytes)
    }
}
