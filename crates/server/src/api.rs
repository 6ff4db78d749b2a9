//! The table of Kafka APIs: which this broker answers, on which kind of listener, in which versions.
//!
//! Each API is one file below `api/`, named as Kafka's schema in snake case, and holds
//! `pub const VERSIONS: (i16, i16)` and `pub async fn handle(context: &Context, request: XRequest)
//! -> XResponse`. An API that only the active controller can answer (`Place::Controller`) is
//! written as if it ran there: the dispatch forwards the request's bytes when the active controller
//! is elsewhere, and hands the answer back once the own image holds the result; such a file
//! also has `pub fn refuse(request: &XRequest, error: ErrorCode, message: Option<&str>)
//! -> XResponse`, the answer when no controller could be reached.
//!
//! ApiVersions advertises exactly this table.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::node::Node;

/// Everything a handler may know besides the request itself.
#[derive(Clone)]
pub struct Context {
    /// What all requests of this broker share.
    pub node: Arc<Node>,
    /// The version of the request, within the API's range.
    pub api_version: i16,
    /// Who asks.
    pub caller: Caller,
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
    /// No such API here, or not in this version.
    #[error("api key {key} version {version} is not served on this listener")]
    NotServed {
        /// The API's number.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// The answer could not be written in this version.
    #[error("cannot encode the response: {0}")]
    Encode(String),
}

/// The body of a response, in pieces that are written one after the other.
pub type ResponseBody = Vec<Bytes>;

/// Answers one request of one API.
pub type Handler = fn(Context, Bytes) -> BoxFuture<'static, Result<ResponseBody, RequestError>>;
