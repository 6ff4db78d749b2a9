//! The server side: services on connections that a listener accepted.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace_host::{BoxStream, Tasks};
use millrace_model::limits;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::executor::OnTasks;
use crate::identity::{self, Identity};

/// Calls that one peer connection may have open: streams of partitions share one call, so this is
/// far above what a well-behaved peer needs.
const MAX_OPEN_CALLS: u32 = 1024;

/// How often a connection without traffic is tried. What must be noticed sooner, a dead leader or
/// controller, has heartbeats of its own; each try wakes two processes.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a stopping server lets open calls end.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// The connection a call came on; services find it in the extensions of their request.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    /// Distinguishes the connections of this process.
    pub id: u64,
    open: watch::Receiver<()>,
}

impl PeerConnection {
    /// Resolves when the connection has ended, however it did.
    pub async fn closed(&self) {
        let mut open = self.open.clone();
        while open.changed().await.is_ok() {}
    }
}

/// Serves peers; cheap to clone.
#[derive(Clone)]
pub struct PeerServer(Arc<Shared>);

struct Shared {
    identity: Identity,
    routes: Routes,
    next_connection: AtomicU64,
    stopping: watch::Sender<bool>,
}

impl PeerServer {
    /// A server of these services, called by nodes of the same cluster only.
    pub fn new(identity: Identity, routes: Routes) -> PeerServer {
        PeerServer(Arc::new(Shared {
            identity,
            routes: routes.prepare(),
            next_connection: AtomicU64::new(1),
            stopping: watch::Sender::new(false),
        }))
    }

    /// Serves one accepted connection until it ends; its calls run on `tasks`. A listener that
    /// controllers use accepts and serves on `Host::control`, so that load costs no election.
    pub async fn serve(&self, stream: BoxStream, tasks: &Tasks) {
        let (closing, open) = watch::channel(());
        let id = self.0.next_connection.fetch_add(1, Ordering::Relaxed);
        let service = PerConnection {
            server: self.0.clone(),
            connection: PeerConnection { id, open },
        };
        let mut builder = hyper::server::conn::http2::Builder::new(OnTasks(tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .max_frame_size(limits::PEER_FRAME_BYTES)
            .initial_stream_window_size(limits::PEER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::PEER_CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(MAX_OPEN_CALLS)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stopping = self.0.stopping.subscribe();
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = told(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                let ended = tokio::time::timeout(STOP_GRACE, connection).await;
                ended.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(connection = id, %error, "a peer's connection broke");
        }
        drop(closing);
    }

    /// Ends every connection; open calls get a moment to finish.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }
}

/// Resolves once the server is told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

struct PerConnection {
    server: Arc<Shared>,
    connection: PeerConnection,
}

type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'static>>;

impl hyper::service::Service<Request<Incoming>> for PerConnection {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, mut request: Request<Incoming>) -> ResponseFuture {
        match identity::verify(&self.server.identity, request.headers()) {
            Ok(peer) => {
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(self.connection.clone());
                Box::pin(self.server.routes.clone().call(request))
            }
            Err(refusal) => {
                tracing::warn!(connection = self.connection.id, %refusal, "refused a call");
                Box::pin(async move { Ok(refusal.into_http()) })
            }
        }
    }
}
