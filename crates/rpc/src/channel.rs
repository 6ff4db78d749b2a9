//! One channel to one peer: connected at the first call, again at the next one after it broke.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_host::{Host, Tasks};
use millrace_model::limits;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::executor::OnTasks;
use crate::server::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT};

/// How long a connection may take to be made, name resolution and handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The authority of every call; the connection decides where it goes.
const AUTHORITY: &str = "millrace";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// Why a peer could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkFailure {
    /// Nobody told where the peer listens.
    #[error("the address of the peer is not known")]
    NoAddress,
    /// The machine is there and nothing listens: the process is gone, or not there yet.
    #[error("connection refused by {0}")]
    Refused(String),
    /// Anything else, a timeout for instance.
    #[error("cannot connect to {0}: {1}")]
    Unreachable(String, String),
    /// An established connection ended.
    #[error("connection to {0} broke: {1}")]
    Broken(String, String),
}

/// What is known of a channel's connection. The number grows with each attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing was tried, or the address changed.
    Idle,
    /// An attempt is under way.
    Connecting(u64),
    /// Connected.
    Up(u64),
    /// Not connected; the next call tries again.
    Down(u64, LinkFailure),
}

impl Link {
    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        matches!(self, Link::Up(_))
    }
}

/// A channel to one peer for one purpose, for the generated clients; clones share the connection.
#[derive(Clone)]
pub struct PeerChannel(Arc<Shared>);

struct Shared {
    host: Host,
    tasks: Tasks,
    headers: HeaderMap,
    state: Mutex<State>,
    link: watch::Sender<Link>,
}

struct State {
    address: Option<Address>,
    attempt: u64,
    sender: Option<SendRequest<Body>>,
    /// Ends the task that drives the connection.
    connection: Option<AbortHandle>,
}

impl State {
    fn forget_connection(&mut self) {
        self.sender = None;
        self.attempt += 1;
        if let Some(connection) = self.connection.take() {
            connection.abort();
        }
    }
}

impl PeerChannel {
    pub(crate) fn new(
        host: Host,
        tasks: Tasks,
        headers: HeaderMap,
        address: Option<Address>,
    ) -> PeerChannel {
        PeerChannel(Arc::new(Shared {
            host,
            tasks,
            headers,
            state: Mutex::new(State {
                address,
                attempt: 0,
                sender: None,
                connection: None,
            }),
            link: watch::Sender::new(Link::Idle),
        }))
    }

    /// Watches the connection; this is how a caller learns that it broke.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.0.link.subscribe()
    }

    /// Connects unless it is connected; a refused connection fails within milliseconds.
    pub async fn connect(&self) -> Result<(), LinkFailure> {
        self.sender().await.map(drop)
    }

    /// Drops the connection; calls on it end.
    pub fn disconnect(&self) {
        let mut state = self.0.lock();
        state.forget_connection();
        self.0.link.send_replace(Link::Idle);
    }

    pub(crate) fn set_address(&self, address: Option<Address>) {
        let mut state = self.0.lock();
        if state.address != address {
            state.address = address;
            state.forget_connection();
            self.0.link.send_replace(Link::Idle);
        }
    }

    async fn sender(&self) -> Result<SendRequest<Body>, LinkFailure> {
        let mut link = self.0.link.subscribe();
        let waits_for = match self.0.sender_or_attempt()? {
            Ok(sender) => return Ok(sender),
            Err(attempt) => attempt,
        };
        loop {
            // The attempt runs in a task of its own: a caller that gives up does not end it.
            match &*link.borrow_and_update() {
                Link::Connecting(_) => {}
                Link::Up(_) => break,
                Link::Down(attempt, failure) if *attempt >= waits_for => {
                    return Err(failure.clone());
                }
                Link::Down(..) => {}
                Link::Idle => return Err(LinkFailure::NoAddress),
            }
            link.changed().await.map_err(|_| LinkFailure::NoAddress)?;
        }
        let broke = || LinkFailure::Broken("the peer".to_owned(), "at once".to_owned());
        self.0.lock().sender.clone().ok_or_else(broke)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A live connection, or the number of the attempt that is under way, started if need be.
    fn sender_or_attempt(self: &Arc<Self>) -> Result<Result<SendRequest<Body>, u64>, LinkFailure> {
        let mut state = self.lock();
        if let Some(sender) = &state.sender
            && !sender.is_closed()
        {
            return Ok(Ok(sender.clone()));
        }
        if let Link::Connecting(attempt) = *self.link.borrow()
            && attempt == state.attempt
        {
            return Ok(Err(attempt));
        }
        let address = state.address.clone().ok_or(LinkFailure::NoAddress)?;
        state.forget_connection();
        let attempt = state.attempt;
        self.link.send_replace(Link::Connecting(attempt));
        self.tasks.spawn(self.clone().attempt(attempt, address));
        Ok(Err(attempt))
    }

    async fn attempt(self: Arc<Self>, attempt: u64, address: Address) {
        let place = format!("{}:{}", address.host, address.port);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.establish(attempt, &address));
        let outcome = connecting.await.unwrap_or_else(|_| {
            Err(LinkFailure::Unreachable(
                place,
                "no answer in time".to_owned(),
            ))
        });
        if let Err(failure) = outcome {
            self.ended(attempt, failure);
        }
    }

    async fn establish(
        self: &Arc<Self>,
        attempt: u64,
        address: &Address,
    ) -> Result<(), LinkFailure> {
        let place = format!("{}:{}", address.host, address.port);
        let connected = self.host.network.connect(&address.host, address.port).await;
        let stream = connected.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => LinkFailure::Refused(place.clone()),
            _ => LinkFailure::Unreachable(place.clone(), error.to_string()),
        })?;
        let handshake = Builder::new(OnTasks(self.tasks.clone()))
            .timer(TokioTimer::new())
            .max_frame_size(limits::PEER_FRAME_BYTES)
            .initial_stream_window_size(limits::PEER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::PEER_CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake::<_, Body>(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake
            .map_err(|error| LinkFailure::Unreachable(place.clone(), error.to_string()))?;
        let mut state = self.lock();
        if state.attempt != attempt {
            return Ok(());
        }
        let shared = Arc::downgrade(self);
        let driver = self.tasks.spawn(async move {
            let why = match connection.await {
                Ok(()) => "closed".to_owned(),
                Err(error) => error.to_string(),
            };
            if let Some(shared) = shared.upgrade() {
                shared.ended(attempt, LinkFailure::Broken(place, why));
            }
        });
        state.sender = Some(sender);
        state.connection = Some(driver.abort_handle());
        self.link.send_replace(Link::Up(attempt));
        Ok(())
    }

    fn ended(&self, attempt: u64, failure: LinkFailure) {
        let mut state = self.lock();
        if state.attempt == attempt {
            tracing::debug!(%failure, "no connection");
            state.sender = None;
            self.link.send_replace(Link::Down(attempt, failure));
        }
    }
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Status>> + Send>>;

impl Service<Request<Body>> for PeerChannel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        let channel = self.clone();
        Box::pin(async move {
            for (name, value) in &channel.0.headers {
                request.headers_mut().insert(name, value.clone());
            }
            let mut place = std::mem::take(request.uri_mut()).into_parts();
            place.scheme = Some(Scheme::HTTP);
            place.authority = Some(Authority::from_static(AUTHORITY));
            *request.uri_mut() = Uri::from_parts(place)
                .map_err(|error| Status::internal(format!("cannot name the call: {error}")))?;
            let unavailable = |failure: LinkFailure| Status::unavailable(failure.to_string());
            let mut sender = channel.sender().await.map_err(unavailable)?;
            let sent = sender.try_send_request(request).await;
            let mut error = match sent {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // The connection ended before the call left: it is safe to send it on a new one.
            let Some(request) = error.take_message() else {
                return Err(Status::unavailable(error.into_error().to_string()));
            };
            let mut sender = channel.sender().await.map_err(unavailable)?;
            let sent = sender.send_request(request).await;
            sent.map_err(|error| Status::unavailable(error.to_string()))
        })
    }
}
