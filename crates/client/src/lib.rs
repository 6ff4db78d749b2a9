//! A small async client of a Kafka-compatible cluster, for the command line, the console and tests.
//!
//! It speaks the newest version both sides know, keeps one connection to each broker it needs, finds
//! leaders through Metadata and asks again where an answer is worth asking for again. Everything it
//! does goes through [`millrace_host::Host`], so it runs under a simulated clock and network as it
//! runs on sockets.

mod admin;
mod cluster;
mod connection;
mod consumer;
mod error;
mod groups;
mod machine;
mod member;
mod offsets;
mod producer;
mod quorum;

pub use admin::{NewTopic, PartitionDescription, TopicDescription};
pub use cluster::{Cluster, Node, PartitionView, TopicView};
pub use connection::{Connection, Exchange};
pub use consumer::{Consumed, Consumer, ConsumerOptions, FetchedBatches, Start};
pub use error::ClientError;
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember, TopicPartition};
pub use machine::this_machine;
pub use member::Member;
pub use millrace_protocol::compression::Compression;
pub use producer::{Acks, Outcome, Produced, Producer, ProducerOptions, ToSend};
pub use quorum::{BrokerVersions, QuorumReplica, QuorumView, known_apis};
