//! The vocabulary of Millrace: identities, offsets, epochs, error codes, time and limits.
//!
//! Plain data, no behaviour beyond what the types themselves mean. Numbers that differ in meaning
//! differ in type, so that a leader epoch can never stand where an offset belongs. Nothing here
//! reads a clock, a disk or a network, and nothing here depends on another crate.

mod durability;
mod error;
mod id;
pub mod limits;
mod number;
mod planted;
mod time;
mod uuid;

pub use durability::Durability;
pub use error::ErrorCode;
pub use id::{PartitionId, TopicName, TopicNameError};
pub use number::{
    BrokerEpoch, BrokerId, ControllerEpoch, ImageVersion, LeaderEpoch, Offset, PartitionEpoch,
    ProducerEpoch, ProducerId, Sequence,
};
pub use planted::Planted;
pub use time::Timestamp;
pub use uuid::{DirectoryId, Incarnation, ParseUuidError, TopicId, Uuid};
