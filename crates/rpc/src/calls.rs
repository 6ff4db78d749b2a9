//! Calls with a stream of messages each way, in pieces.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::Stream;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Frame};
use prost::Message;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use crate::channel::PeerChannel;
use crate::identity::Peer;
use crate::pieces::{PREFIX_BYTES, Received};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Messages on their way out, each in pieces as [`crate::PieceWriter`] makes them.
pub type Outgoing = Pin<Box<dyn Stream<Item = Vec<Bytes>> + Send>>;

/// Messages that come in. Cancelling [`Messages::next`] loses nothing.
pub struct Messages {
    body: Body,
    received: Received,
    limit: usize,
}

impl Messages {
    fn new(body: Body, limit: usize) -> Messages {
        Messages {
            body,
            received: Received::default(),
            limit,
        }
    }

    /// The next message; `None` after the last.
    ///
    /// # Errors
    /// What the other side ended the call with; or that it is too long or none of this type, and
    /// then the call is of no more use.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            let Some(frame) = frame.transpose()? else {
                return match self.received.has_remaining() {
                    true => Err(Status::internal("the call ended within a message")),
                    false => Ok(None),
                };
            };
            match frame.into_data() {
                Ok(data) => self.received.push(data),
                Err(frame) => ended_by(frame.trailers_ref())?,
            }
        }
    }

    fn decode<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let Some((compressed, len)) = self.received.prefix() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(Status::unimplemented("the message is compressed"));
        }
        if len > self.limit {
            return Err(Status::out_of_range(format!(
                "a message of {len} bytes, where {} are allowed",
                self.limit
            )));
        }
        if self.received.remaining() < PREFIX_BYTES + len {
            return Ok(None);
        }
        self.received.advance(PREFIX_BYTES);
        let message = M::decode((&mut self.received).take(len));
        let message = message.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}

fn ended_by(trailers: Option<&HeaderMap>) -> Result<(), Status> {
    match trailers.and_then(Status::from_header_map) {
        Some(status) if status.code() != Code::Ok => Err(status),
        Some(_) | None => Ok(()),
    }
}

/// The body of one direction of a call.
struct Sending {
    messages: Outgoing,
    ready: VecDeque<Bytes>,
    /// What ends the body once the messages have; only a server says so.
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|end| Ok(Frame::trailers(end))));
            }
            match ready!(self.messages.as_mut().poll_next(cx)) {
                Some(pieces) => self.ready.extend(pieces),
                None => self.ended = true,
            }
        }
    }
}

impl PeerChannel {
    /// Opens a call of `service` and returns what the peer says, once it has begun to answer.
    ///
    /// # Errors
    /// If the peer cannot be reached, or what it refuses the call with.
    pub async fn open(
        &self,
        service: &str,
        method: &str,
        outgoing: Outgoing,
        limit: usize,
    ) -> Result<Messages, Status> {
        let body = Body::new(Sending {
            messages: outgoing,
            ready: VecDeque::new(),
            trailers: None,
            ended: false,
        });
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("/{service}/{method}"))
            .header(TE, HeaderValue::from_static("trailers"))
            .header(CONTENT_TYPE, GRPC)
            .body(body)
            .map_err(|error| Status::internal(format!("cannot name the call: {error}")))?;
        let response = self.clone().call(request).await?;
        ended_by(Some(response.headers()))?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(Status::unavailable(format!("the peer answered {status}")));
        }
        Ok(Messages::new(Body::new(response.into_body()), limit))
    }
}

/// A call that came in.
pub struct Call {
    /// Who made it.
    pub peer: Peer,
    /// What is called.
    pub method: String,
    /// What the caller says.
    pub messages: Messages,
}

/// Answers the calls of one service.
pub trait Calls: Send + Sync + 'static {
    /// The service's name in `proto/`.
    const SERVICE: &'static str;
    /// The longest message that is taken, in bytes.
    const MAX_MESSAGE_BYTES: usize;

    /// Begins to answer a call.
    ///
    /// # Errors
    /// What the call is refused with.
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Outgoing, Status>>;
}

/// What serves these calls, for a [`crate::PeerServer`].
pub fn serve_calls<C: Calls>(calls: C) -> Routes {
    Routes::new(Served(Arc::new(calls)))
}

struct Served<C>(Arc<C>);

impl<C> Clone for Served<C> {
    fn clone(&self) -> Self {
        Served(self.0.clone())
    }
}

impl<C: Calls> NamedService for Served<C> {
    const NAME: &'static str = C::SERVICE;
}

impl<C: Calls> Service<Request<Body>> for Served<C> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let calls = self.0.clone();
        Box::pin(async move {
            let Some(peer) = request.extensions().get::<Peer>().copied() else {
                let refusal = Status::unauthenticated("the call carries no identity");
                return Ok(refusal.into_http());
            };
            let path = request.uri().path();
            let method = path.rsplit('/').next().unwrap_or_default().to_owned();
            let messages = Messages::new(request.into_body(), C::MAX_MESSAGE_BYTES);
            let call = Call {
                peer,
                method,
                messages,
            };
            Ok(match calls.answer(call).await {
                Ok(outgoing) => answer(outgoing),
                Err(refusal) => refusal.into_http(),
            })
        })
    }
}

fn answer(outgoing: Outgoing) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Body::new(Sending {
        messages: outgoing,
        ready: VecDeque::new(),
        trailers: Some(trailers),
        ended: false,
    }));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
