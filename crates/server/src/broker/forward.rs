//! Requests that other nodes forward to this one, the active controller.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use futures::future::BoxFuture;
use millrace_model::ImageVersion;
use millrace_quorum::{ForwardError, ForwardHandler, Forwarded};

use crate::api::{Caller, Context, ListenerKind, RequestError, answer_forwarded};
use crate::node::Node;

/// Answers through the same table of APIs as any client's request.
#[derive(Default)]
pub struct Forwarding {
    /// Set once the node is complete.
    pub node: OnceLock<Weak<Node>>,
}

impl ForwardHandler for Forwarding {
    fn handle(
        &self,
        request: Forwarded,
    ) -> BoxFuture<'_, Result<(Bytes, ImageVersion), ForwardError>> {
        Box::pin(async move {
            let node = self.node.get().and_then(Weak::upgrade);
            let node = node.ok_or(ForwardError::NoController)?;
            let context = Context {
                caller: caller(&request),
                api_version: request.api_version,
                node: node.clone(),
                moved: None,
            };
            let answer = answer_forwarded(context, request.api_key, request.body).await;
            let answer = answer.map_err(|error| match error {
                RequestError::ControllerMoved => ForwardError::NoController,
                error => ForwardError::Unsupported(error.to_string()),
            })?;
            Ok((answer, node.image().version()))
        })
    }
}

fn caller(request: &Forwarded) -> Caller {
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Caller {
        client_id: Some(Arc::from(request.client_id.as_str())),
        principal: Arc::from(request.principal.as_str()),
        address: request.client_address.parse().unwrap_or(unknown),
        listener: Arc::from(""),
        listener_kind: ListenerKind::Controller,
        forwarded: true,
    }
}
