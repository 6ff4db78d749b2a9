//! The records of `__consumer_offsets`, in Kafka's own format (classes
//! `GroupCoordinatorRecordHelpers` and `GroupCoordinatorRecordSerde`): a key that begins with the
//! record's type, and a value that begins with its version; no value is a tombstone.

use crate::wire;
use bytes::Bytes;
use millrace_protocol::{Decode, DecodeError, EncodeError, Message, Reader, Writer};

/// Versions in which values are written: those of a 4.3 broker.
const OFFSET_COMMIT_VERSION: i16 = 4;
/// The only version of an offset's value that can say when it expires.
const OFFSET_COMMIT_WITH_EXPIRY_VERSION: i16 = 1;
const GROUP_METADATA_VERSION: i16 = 3;

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is of a type that this version does not know: left over from a newer one, and to be
    /// skipped, as Kafka does.
    #[error("records of type {0} are not known")]
    Unknown(i16),
    /// The bytes are not what their type and version say.
    #[error("cannot read a record of the group coordinator: {0}")]
    Decode(#[from] DecodeError),
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident($key:ident, $value:ident), version $version:expr;)*) => {
        /// A fact about a group: a key, and its newest value or the end of it.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record {
            $($(#[$doc])* $name(wire::$key, Option<wire::$value>),)*
        }

        impl Record {
            /// The key's bytes.
            ///
            /// # Errors
            /// If a text is longer than the format can say.
            pub fn encode_key(&self) -> Result<Bytes, EncodeError> {
                match self {
                    $(Record::$name(key, _) => key_bytes(key),)*
                }
            }

            /// The value's bytes; `None` for a tombstone.
            ///
            /// # Errors
            /// If a text is longer than the format can say.
            pub fn encode_value(&self) -> Result<Option<Bytes>, EncodeError> {
                match self {
                    $(Record::$name(_, value) => value.as_ref()
                        .map(|value| value_bytes(value, $version(value)))
                        .transpose(),)*
                }
            }

            /// Reads a record of the log. Values of a newer version are read as the newest known
            /// one, for newer versions only add tagged fields (KIP-915).
            ///
            /// # Errors
            /// If the type is not known, or the bytes are not what type and version say.
            pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Record, RecordError> {
                let mut key = Reader::new(key);
                let kind = key.i16()?;
                Ok(match kind {
                    wire::LegacyOffsetCommitKey::API_KEY => legacy(&mut key, value)?,
                    $(wire::$key::API_KEY => {
                        Record::$name(read_key(&mut key)?, read_value(value)?)
                    })*
                    unknown => return Err(RecordError::Unknown(unknown)),
                })
            }
        }
    };
}

records! {
    /// An offset that a group has committed.
    OffsetCommit(OffsetCommitKey, OffsetCommitValue), version offset_commit_version;
    /// A classic group: its generation, its members and their assignment.
    GroupMetadata(GroupMetadataKey, GroupMetadataValue), version |_: &_| GROUP_METADATA_VERSION;
    /// A consumer group's epoch.
    ConsumerGroupMetadata(ConsumerGroupMetadataKey, ConsumerGroupMetadataValue), version first;
    /// What a consumer group's topics looked like; written by Kafka before 4.1.
    ConsumerGroupPartitionMetadata(
        ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue), version first;
    /// A consumer group's member and its subscription.
    ConsumerGroupMemberMetadata(
        ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue), version first;
    /// The epoch of a consumer group's target assignment.
    ConsumerGroupTargetAssignmentMetadata(
        ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue),
        version first;
    /// What a member should own.
    ConsumerGroupTargetAssignmentMember(
        ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue),
        version first;
    /// What a member owns, and what it has yet to give up.
    ConsumerGroupCurrentMemberAssignment(
        ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue),
        version first;
    /// The topics that a regular expression of a consumer group stands for.
    ConsumerGroupRegularExpression(
        ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue), version first;
}

fn offset_commit_version(value: &wire::OffsetCommitValue) -> i16 {
    if value.expire_timestamp == -1 {
        OFFSET_COMMIT_VERSION
    } else {
        OFFSET_COMMIT_WITH_EXPIRY_VERSION
    }
}

fn first<T>(_: &T) -> i16 {
    0
}

/// Keys are never flexible; their one version is the type's number.
fn key_bytes<T: Message>(key: &T) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(T::API_KEY);
    key.encode(&mut writer, T::VERSIONS.0)?;
    Ok(writer.into_bytes())
}

fn value_bytes<T: Message>(value: &T, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    value.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

fn read_key<'a, T: Decode<'a>>(key: &mut Reader<'a>) -> Result<T, DecodeError> {
    T::decode(key, T::VERSIONS.0)
}

fn read_value<'a, T: Decode<'a>>(value: Option<&'a [u8]>) -> Result<Option<T>, DecodeError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let mut value = Reader::new(value);
    let version = value.i16()?;
    T::decode(&mut value, version.min(T::VERSIONS.1)).map(Some)
}

/// Kafka 0.8 wrote offsets with keys of type 0; they mean what today's mean.
fn legacy(key: &mut Reader<'_>, value: Option<&[u8]>) -> Result<Record, DecodeError> {
    let key: wire::LegacyOffsetCommitKey = read_key(key)?;
    let key = wire::OffsetCommitKey {
        group: key.group,
        topic: key.topic,
        partition: key.partition,
    };
    Ok(Record::OffsetCommit(key, read_value(value)?))
}
