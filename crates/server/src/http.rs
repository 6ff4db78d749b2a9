//! The HTTP listener: `/live`, `/ready` and `/metrics`, off the data path.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use millrace_host::{BoxListener, BoxStream};
use millrace_model::limits::MAX_HTTP_CONNECTIONS;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use std::pin::Pin;
use std::task::{Context, Poll};

/// What the listener tells about.
pub trait Health: Send + Sync + 'static {
    /// Whether clients are served, and what is amiss nevertheless; else why not, in a few words.
    fn ready(&self) -> Result<Vec<String>, String>;
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> BoxFuture<'_, String>;
}

/// Serves until told to stop.
pub async fn serve(listener: BoxListener, health: Arc<dyn Health>, stopping: CancellationToken) {
    let routes = Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    let listener = Bounded {
        listener,
        permits: Arc::new(Semaphore::new(MAX_HTTP_CONNECTIONS)),
    };
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stopping.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::warn!(%error, "the HTTP listener ended");
    }
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(health): State<Arc<dyn Health>>) -> (StatusCode, String) {
    match health.ready() {
        Ok(amiss) => {
            let lines = amiss.iter().map(|what| format!("but {what}\n"));
            (
                StatusCode::OK,
                format!("ready\n{}", lines.collect::<String>()),
            )
        }
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        ),
    }
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, OPEN_METRICS)],
        health.metrics().await,
    )
}

/// Accepts only as many connections at once as there are permits.
struct Bounded {
    listener: BoxListener,
    permits: Arc<Semaphore>,
}

impl axum::serve::Listener for Bounded {
    type Io = Permitted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Permitted, SocketAddr) {
        loop {
            let permit = self.permits.clone().acquire_owned().await;
            let permit = permit.expect("nobody closes this semaphore");
            match self.listener.accept().await {
                Ok(stream) => {
                    if let Ok(address) = stream.peer_address() {
                        let _permit = permit;
                        return (Permitted { stream, _permit }, address);
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }
}

struct Permitted {
    stream: BoxStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Permitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Permitted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
