//! The encoding of records: protobuf messages written by hand, with prost's derive.
//!
//! Numbers of types and of fields never change their meaning and are never used again. A partition
//! and a change of one are the same message, so that a field a newer release adds means the same in
//! both. Where that message has a list inside a message, absence means "unchanged".

mod convert;

use bytes::Bytes;
use prost::Message;

use super::{Batch, DecodeError, Record, UnknownFields};
use millrace_model::ImageVersion;

/// The names of the record types; a type's number is its place here plus one.
const NAMES: &[&str] = &[
    "Cluster",
    "FeatureLevel",
    "RegisterBroker",
    "UnregisterBroker",
    "FenceBroker",
    "UnfenceBroker",
    "ShutDownBroker",
    "BrokerDirectories",
    "RegisterController",
    "Topic",
    "RemoveTopic",
    "Partition",
    "PartitionChange",
    "Config",
    "ProducerIds",
];

/// The version that every record is written in today.
const NEWEST_VERSION: u32 = 0;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RecordFrame {
    #[prost(uint32, tag = "1")]
    pub number: u32,
    #[prost(uint32, tag = "2")]
    pub version: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct BatchFrame {
    #[prost(uint64, tag = "1")]
    based_on: u64,
    #[prost(message, repeated, tag = "2")]
    records: Vec<RecordFrame>,
}

#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct FeatureLevel {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint32, tag = "2")]
    level: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Listener {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    host: String,
    #[prost(uint32, tag = "3")]
    port: u32,
    #[prost(sint32, tag = "4")]
    security_protocol: i32,
}

#[derive(Clone, PartialEq, Message)]
struct FeatureRange {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint32, tag = "2")]
    min: i32,
    #[prost(sint32, tag = "3")]
    max: i32,
}

/// Registrations of brokers (tags to 11) and of controllers, which leave out what they lack.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(int32, tag = "1")]
    id: i32,
    #[prost(int64, tag = "2")]
    epoch: i64,
    #[prost(bytes = "vec", tag = "3")]
    incarnation: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    listeners: Vec<Listener>,
    #[prost(string, optional, tag = "5")]
    rack: Option<String>,
    #[prost(message, repeated, tag = "6")]
    features: Vec<FeatureRange>,
    #[prost(bytes = "vec", tag = "7")]
    directories: Vec<u8>,
    #[prost(bool, tag = "8")]
    fenced: bool,
    #[prost(bool, tag = "9")]
    shutting_down: bool,
    #[prost(uint64, tag = "10")]
    registered_at: u64,
    #[prost(bytes = "vec", tag = "11")]
    short: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    slow: Vec<u8>,
}
const NODE_TAGS: u32 = 12;

/// What happened to a broker under one registration.
#[derive(Clone, PartialEq, Message)]
struct BrokerEvent {
    #[prost(int32, tag = "1")]
    id: i32,
    #[prost(int64, tag = "2")]
    epoch: i64,
    #[prost(bytes = "vec", tag = "3")]
    directories: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Topic {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
}
const TOPIC_TAGS: u32 = 2;

#[derive(Clone, PartialEq, Message)]
struct BrokerList {
    #[prost(int32, repeated, tag = "1")]
    ids: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Partition {
    #[prost(bytes = "vec", tag = "1")]
    topic: Vec<u8>,
    #[prost(int32, tag = "2")]
    index: i32,
    #[prost(int32, tag = "3")]
    partition_epoch: i32,
    #[prost(int32, tag = "4")]
    leader_epoch: i32,
    /// -1 is nobody.
    #[prost(sint32, optional, tag = "5")]
    leader: Option<i32>,
    #[prost(message, optional, tag = "6")]
    replicas: Option<BrokerList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    directories: Option<Vec<u8>>,
    #[prost(message, optional, tag = "8")]
    isr: Option<BrokerList>,
    #[prost(message, optional, tag = "9")]
    elr: Option<BrokerList>,
    #[prost(message, optional, tag = "10")]
    last_known_elr: Option<BrokerList>,
    #[prost(message, optional, tag = "11")]
    adding: Option<BrokerList>,
    #[prost(message, optional, tag = "12")]
    removing: Option<BrokerList>,
    /// 0 recovered, 1 recovering.
    #[prost(uint32, optional, tag = "13")]
    recovery: Option<u32>,
    /// 0 fsync, 1 page cache.
    #[prost(uint32, optional, tag = "14")]
    durability: Option<u32>,
}
const PARTITION_TAGS: u32 = 14;

#[derive(Clone, PartialEq, Message)]
struct Config {
    #[prost(sint32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    resource: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, optional, tag = "4")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ProducerIds {
    #[prost(int64, tag = "1")]
    next: i64,
    #[prost(int32, tag = "2")]
    broker: i32,
    #[prost(int64, tag = "3")]
    broker_epoch: i64,
}

pub(super) fn name_of(number: u32) -> &'static str {
    let place = (number as usize).wrapping_sub(1);
    NAMES.get(place).copied().unwrap_or("unknown")
}

pub(super) fn number_of(record: &Record) -> u32 {
    match record {
        Record::Cluster { .. } => 1,
        Record::FeatureLevel { .. } => 2,
        Record::RegisterBroker(_) => 3,
        Record::UnregisterBroker { .. } => 4,
        Record::FenceBroker { .. } => 5,
        Record::UnfenceBroker { .. } => 6,
        Record::ShutDownBroker { .. } => 7,
        Record::BrokerDirectories { .. } => 8,
        Record::RegisterController(_) => 9,
        Record::Topic { .. } => 10,
        Record::RemoveTopic { .. } => 11,
        Record::Partition { .. } => 12,
        Record::PartitionChange(_) => 13,
        Record::Config { .. } => 14,
        Record::ProducerIds { .. } => 15,
    }
}

pub(super) fn encode_batch(batch: &Batch) -> Bytes {
    let frame = BatchFrame {
        based_on: batch.based_on.get(),
        records: batch.records.iter().map(RecordFrame::of).collect(),
    };
    frame.encode_to_vec().into()
}

pub(super) fn decode_batch(bytes: Bytes) -> Result<Batch, DecodeError> {
    let frame = BatchFrame::decode(bytes).map_err(|e| malformed("Batch", e))?;
    let records = frame.records.iter().map(RecordFrame::open);
    Ok(Batch {
        based_on: ImageVersion(frame.based_on),
        records: records.collect::<Result<_, _>>()?,
    })
}

impl RecordFrame {
    pub(crate) fn of(record: &Record) -> RecordFrame {
        RecordFrame {
            number: number_of(record),
            version: NEWEST_VERSION,
            payload: convert::payload_of(record).into(),
        }
    }

    pub(crate) fn open(&self) -> Result<Record, DecodeError> {
        let newest = NAMES.len() as u32;
        if self.number == 0 || self.number > newest {
            return Err(DecodeError::UnknownType {
                number: self.number,
                version: self.version,
                newest,
            });
        }
        if self.version > NEWEST_VERSION {
            return Err(DecodeError::UnknownVersion {
                name: name_of(self.number),
                version: self.version,
                newest: NEWEST_VERSION,
            });
        }
        convert::record_of(self)
    }
}

fn malformed(name: &'static str, why: impl ToString) -> DecodeError {
    DecodeError::Malformed {
        name,
        why: why.to_string(),
    }
}
