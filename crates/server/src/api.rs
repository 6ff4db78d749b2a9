//! The table of Kafka APIs: which this broker answers, on which kind of listener, in which versions.
//!
//! Each API is one file below `api/`, named as Kafka's schema in snake case, and holds
//! `pub const VERSIONS: (i16, i16)` and `pub async fn handle(context: &Context, request: XRequest)
//! -> XResponse`. An API that only the active controller can answer (`Handler::Controller`) is
//! written as if it ran there: the dispatch forwards the request's bytes when the active controller
//! is elsewhere, and hands the answer back once the own image holds the result; such a file
//! also has `pub fn refuse(request: &XRequest, error: ErrorCode, message: Option<&str>)
//! -> XResponse`, the answer when no controller gave one. It decides by [`decide`].
//!
//! ApiVersions advertises exactly this table.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::start_response;
use millrace_protocol::{Decode, DecodeError, EncodeError, Message, Reader, Segment, Writer};

use crate::connection::Reply;
use crate::node::Node;

mod alterations;
mod authorized;
mod deciding;
mod dispatch;
mod groups;
mod table;

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod errors;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod internal;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
pub mod update_features;

pub use authorized::{CLUSTER_OPERATIONS, GROUP_OPERATIONS, TOPIC_OPERATIONS};
pub use deciding::{Moved, decide, limit_of};
use dispatch::forward;
pub use dispatch::{ClientService, answer_forwarded};
pub use table::{TABLE, served};

/// Everything a handler may know besides the request itself.
#[derive(Clone)]
pub struct Context {
    /// What all requests of this broker share.
    pub node: Arc<Node>,
    /// The version of the request, within the API's range.
    pub api_version: i16,
    /// Who asks.
    pub caller: Caller,
    /// Where a handler on the active controller notes that it is not that any more.
    pub moved: Option<Moved>,
}

/// Who sent a request, and by which way.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client id of the request header.
    pub client_id: Option<Arc<str>>,
    /// For instance `User:ANONYMOUS`.
    pub principal: Arc<str>,
    /// Where the client's connection comes from.
    pub address: SocketAddr,
    /// The name of the listener it reached.
    pub listener: Arc<str>,
    /// Whether that listener serves controllers or brokers.
    pub listener_kind: ListenerKind,
    /// Whether another node received the request and forwarded it here, to the active controller.
    pub forwarded: bool,
}

/// What a listener is for; it decides which APIs are served there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Clients and brokers.
    Broker,
    /// Named in `controller.listener.names`: quorum traffic, and tools with
    /// `--bootstrap-controller`.
    Controller,
}

/// Which listeners serve an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listeners {
    /// Listeners of brokers only.
    Broker,
    /// Listeners of both kinds.
    Both,
}

/// Why a request gets no answer of its own API; the connection is closed, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The bytes are no such request.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// The frame has no header.
    #[error(transparent)]
    Header(#[from] millrace_protocol::header::HeaderError),
    /// The body is no such request.
    #[error("malformed request: {0}")]
    Decode(#[from] DecodeError),
    /// No such API here, or not in this version.
    #[error("api key {key} version {version} is not served on this listener")]
    NotServed {
        /// The API's number.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// Another node is the active controller now; nothing was done.
    #[error("this node is not the active controller any more")]
    ControllerMoved,
    /// The answer could not be written in this version.
    #[error("cannot encode the response: {0}")]
    Encode(#[from] EncodeError),
}

/// One line of the table.
pub struct Api {
    /// Which API.
    pub key: ApiKey,
    /// The versions that are served and advertised.
    pub versions: (i16, i16),
    /// Where it is served.
    pub listeners: Listeners,
    /// What answers it.
    pub handler: Handler,
}

/// What answers an API.
pub enum Handler {
    /// Begins at once and waits beside other requests of its connection; gets the whole frame.
    Overlapping(fn(Context, Request) -> Result<Started, RequestError>),
    /// Runs alone on its connection, on the node that got the request.
    Alone(fn(Context, Bytes) -> Body),
    /// Runs alone on its connection, on the active controller.
    Controller {
        /// Answers, on the active controller.
        handle: fn(Context, Bytes) -> Body,
        /// Answers when no controller could.
        refuse: Refuse,
    },
}

/// Makes the answer that says why nobody could answer.
pub type Refuse =
    fn(&Context, &Bytes, millrace_model::ErrorCode, Option<&str>) -> Result<Bytes, RequestError>;

/// The body of an answer, to be.
pub type Body = BoxFuture<'static, Result<Bytes, RequestError>>;

/// An answer with its length and header, to be.
pub type Answer = BoxFuture<'static, Result<Reply, RequestError>>;

/// A request of the data path that was looked at.
pub enum Started {
    /// What must happen in order has happened.
    Now(Answer),
    /// It must wait first, and so must what comes behind it.
    Gated(BoxFuture<'static, Result<Answer, RequestError>>),
}

/// A request of the data path: its bytes belong to it.
pub struct Request {
    /// Header and body.
    pub frame: BytesMut,
    /// Where the body begins.
    pub body_at: usize,
    /// The answer carries the same number.
    pub correlation_id: i32,
}

impl Context {
    /// The name of the listener the request came by, as the image knows it.
    pub fn listener(&self) -> &str {
        &self.caller.listener
    }
}

/// Reads the body of a request.
///
/// # Errors
/// If the bytes are no such request.
pub fn decode<'a, T: Decode<'a>>(body: &'a [u8], version: i16) -> Result<T, RequestError> {
    Ok(T::decode(&mut Reader::new(body), version)?)
}

/// Writes the body of an answer.
///
/// # Errors
/// If the answer cannot be written in this version: a bug.
pub fn encode<T: Message>(body: &T, version: i16) -> Result<Bytes, RequestError> {
    let mut writer = Writer::with_capacity(256);
    body.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

/// A whole answer: length, header and body, with records shared and not copied.
///
/// # Errors
/// If the answer cannot be written in this version: a bug.
pub fn reply<T: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &T,
) -> Result<Reply, RequestError> {
    let mut writer = start_response(key, version, correlation_id);
    body.encode(&mut writer, version)?;
    Ok(Reply::Segments(pieces(writer)))
}

/// The pieces of an answer without holes.
fn pieces(writer: Writer) -> Vec<Bytes> {
    let segments = writer.into_segments().into_iter();
    let bytes = segments.filter_map(|segment| match segment {
        Segment::Bytes(bytes) => Some(bytes),
        Segment::Hole(length) => {
            debug_assert_eq!(length, 0, "answers are made of bytes in memory");
            None
        }
    });
    bytes.collect()
}
