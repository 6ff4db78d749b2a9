//! From a frame to the handler of its API, and from there to an answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_model::ErrorCode;
use millrace_protocol::Reader;
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{decode_request_header, start_response};
use millrace_quorum::{ForwardError, Forwarded};
use tokio::time::Instant;

use super::{
    Answer, Api, Body, Caller, Context, Handler, Moved, Refuse, Request, RequestError, Started,
    TABLE,
};
use super::{api_versions, pieces, reply};
use crate::connection::{Begun, Reply, Service};
use crate::node::Node;

/// Answers the requests of one client's connection.
pub struct ClientService {
    node: Arc<Node>,
    caller: Caller,
}

/// What a frame's header says.
struct Header {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body_at: usize,
}

impl ClientService {
    /// A service for a connection of `caller`.
    pub fn new(node: Arc<Node>, caller: Caller) -> ClientService {
        ClientService { node, caller }
    }

    fn read_header(&mut self, frame: &[u8]) -> Result<Header, RequestError> {
        let mut reader = Reader::new(frame);
        let header = decode_request_header(&mut reader)?;
        if self.caller.client_id.as_deref() != header.client_id {
            self.caller.client_id = header.client_id.map(Arc::from);
        }
        Ok(Header {
            key: header.api_key,
            version: header.api_version,
            correlation_id: header.correlation_id,
            body_at: frame.len() - reader.remaining(),
        })
    }

    fn find(&self, header: &Header) -> Result<&'static Api, RequestError> {
        let served = lookup(header.key).filter(|api| {
            let (low, high) = api.versions;
            (low..=high).contains(&header.version) && api.is_served_on(self.caller.listener_kind)
        });
        served.ok_or_else(|| RequestError::NotServed {
            key: header.key.code(),
            version: header.version,
        })
    }

    fn try_begin(&mut self, mut frame: BytesMut) -> Result<Begun, RequestError> {
        let began = self.node.host.clock.now();
        self.node.metrics.request_received(frame.len());
        let header = self.read_header(&frame)?;
        if header.key == ApiKey::ApiVersions && header.version > api_versions::VERSIONS.1 {
            let response = api_versions::unsupported();
            let answer = reply(header.key, 0, header.correlation_id, &response);
            return Ok(Begun::Barrier(Box::pin(async move { answer })));
        }
        let api = self.find(&header)?;
        let context = Context {
            node: self.node.clone(),
            api_version: header.version,
            caller: self.caller.clone(),
            moved: None,
        };
        let body = match api.handler {
            Handler::Overlapping(begin) => {
                let request = Request {
                    frame,
                    body_at: header.body_at,
                    correlation_id: header.correlation_id,
                };
                let node = self.node.clone();
                let noted = move |answer| noted(node, header.key, began, answer);
                return Ok(match begin(context, request)? {
                    Started::Now(answer) => Begun::Overlapping(noted(answer)),
                    Started::Gated(gate) => Begun::Gated(Box::pin(async move {
                        let answer = gate.await?;
                        Ok(Begun::Overlapping(noted(answer)))
                    })),
                });
            }
            Handler::Alone(handle) => handle(context, frame.split_off(header.body_at).freeze()),
            Handler::Controller { refuse, .. } => {
                let body = frame.split_off(header.body_at).freeze();
                at_controller(context, header.key, body, refuse)
            }
        };
        let answer = Box::pin(async move {
            let mut writer = start_response(header.key, header.version, header.correlation_id);
            writer.share(&body.await?);
            Ok(Reply::Segments(pieces(writer)))
        });
        Ok(Begun::Barrier(noted(
            self.node.clone(),
            header.key,
            began,
            answer,
        )))
    }
}

impl Service for ClientService {
    fn begin(&mut self, frame: BytesMut) -> Result<Begun, RequestError> {
        let begun = self.try_begin(frame);
        if begun.is_err() {
            self.node.metrics.request_malformed();
        }
        begun
    }
}

fn lookup(key: ApiKey) -> Option<&'static Api> {
    let found = TABLE.binary_search_by_key(&key.code(), |api| api.key.code());
    found.ok().map(|place| &TABLE[place])
}

/// The answer, counted.
fn noted(node: Arc<Node>, key: ApiKey, began: Instant, answer: Answer) -> Answer {
    Box::pin(async move {
        let reply = answer.await?;
        let bytes = match &reply {
            Reply::Segments(segments) => segments.iter().map(Bytes::len).sum(),
            Reply::Nothing | Reply::Close => 0,
        };
        let duration = node.host.clock.now() - began;
        node.metrics.request_answered(key, duration, bytes);
        Ok(reply)
    })
}

/// How long a forwarded request may take when it does not say so itself.
const FORWARD_LIMIT: Duration = Duration::from_secs(30);

/// Has the active controller answer, wherever it is.
fn at_controller(context: Context, key: ApiKey, body: Bytes, refuse: Refuse) -> Body {
    Box::pin(async move {
        let version = context.api_version;
        match forward(&context, key, version, body.clone(), FORWARD_LIMIT).await {
            Ok(answer) => Ok(answer),
            Err(error) => {
                tracing::warn!(api = key.name(), %error, "the controller did not answer");
                let message = error.to_string();
                refuse(&context, &body, ErrorCode::RequestTimedOut, Some(&message))
            }
        }
    })
}

/// Has the active controller answer a request on the caller's behalf; bodies alone.
pub(super) async fn forward(
    context: &Context,
    key: ApiKey,
    version: i16,
    body: Bytes,
    limit: Duration,
) -> Result<Bytes, ForwardError> {
    let caller = &context.caller;
    let forwarded = Forwarded {
        api_key: key.code(),
        api_version: version,
        principal: caller.principal.to_string(),
        client_id: caller.client_id.as_deref().unwrap_or_default().to_owned(),
        client_address: caller.address.to_string(),
        body,
        deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    };
    context.node.quorum.forward(forwarded).await
}

/// Answers a request that another node forwarded here; the body alone.
///
/// # Errors
/// If it is no request that is ever forwarded, or not one at all; `ControllerMoved` where another
/// node must answer it.
pub async fn answer_forwarded(
    context: Context,
    key: i16,
    body: Bytes,
) -> Result<Bytes, RequestError> {
    let version = context.api_version;
    let not_served = RequestError::NotServed { key, version };
    let Some(api) = ApiKey::try_from(key).ok().and_then(lookup) else {
        return Err(not_served);
    };
    match api.handler {
        Handler::Controller { handle, .. }
            if (api.versions.0..=api.versions.1).contains(&version) =>
        {
            let moved = Moved::default();
            let context = Context {
                moved: Some(moved.clone()),
                ..context
            };
            let answer = handle(context, body).await;
            match moved.is_noted() {
                true => Err(RequestError::ControllerMoved),
                false => answer,
            }
        }
        _ => Err(not_served),
    }
}
