//! One client connection: requests are begun in the order they came, answers leave in that order.
//!
//! One task serves a connection. Requests that may overlap (Produce, Fetch) are begun as soon as
//! they are read and wait side by side; any other is a barrier: it begins when everything before it
//! has been answered, and nothing after it begins before it has been. While an answer is written
//! nothing is read, so a client that does not take its answers is not served further.

pub mod frames;
pub mod memory;
mod output;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millrace_host::BoxStream;
use millrace_model::limits::{FRAME_MEMORY_WAIT, MAX_REQUESTS_IN_FLIGHT};
use tokio_util::sync::CancellationToken;

use crate::api::RequestError;
use frames::{Frame, FrameError, FrameReader};
use memory::{Charge, RequestMemory};

/// What answers the requests of a connection.
pub trait Service: Send + 'static {
    /// Begins the request in `frame`.
    ///
    /// # Errors
    /// If there is nothing to answer with; the connection is closed.
    fn begin(&mut self, frame: bytes::BytesMut) -> Result<Begun, RequestError>;
}

/// A request that was looked at.
pub enum Begun {
    /// What must happen in order has happened; the rest waits beside other requests.
    Overlapping(BoxFuture<'static, Result<Reply, RequestError>>),
    /// Has not happened yet; runs alone.
    Barrier(BoxFuture<'static, Result<Reply, RequestError>>),
    /// Must wait before anything can happen (for room in a log); requests behind it wait too.
    Gated(BoxFuture<'static, Result<Begun, RequestError>>),
}

/// What goes back to the client.
pub enum Reply {
    /// These bytes, length and header included.
    Segments(Vec<Bytes>),
    /// Nothing: the client does not expect an answer (acks=0).
    Nothing,
    /// Nothing, and the connection is closed: the only way to tell a client that expects no answer.
    Close,
}

/// What bounds one connection.
#[derive(Clone)]
pub struct ConnectionLimits {
    /// `socket.request.max.bytes`.
    pub max_frame_bytes: usize,
    /// `connections.max.idle.ms`; none for ever.
    pub max_idle: Option<Duration>,
    /// What requests of all connections share.
    pub memory: Arc<RequestMemory>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client closed it.
    #[error("the client closed it")]
    ByClient,
    /// Nothing came for `connections.max.idle.ms`.
    #[error("it was idle")]
    Idle,
    /// The broker stops.
    #[error("the broker stops")]
    Stopping,
    /// A frame waited too long for memory.
    #[error("no memory for its request")]
    NoMemory,
    /// A request without an answer failed.
    #[error("a request that expects no answer failed")]
    Unanswerable,
    /// The bytes are no frames, or the socket failed.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// A frame is no request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An answer could not be written.
    #[error("cannot write an answer: {0}")]
    Write(#[from] io::Error),
}

struct Pending {
    reply: BoxFuture<'static, Result<Reply, RequestError>>,
    _charge: Charge,
}

struct Connection<S> {
    stream: BoxStream,
    service: S,
    reader: FrameReader,
    pending: VecDeque<Pending>,
    limits: ConnectionLimits,
}

/// Serves `stream` until it ends. `first` is what was read of it already.
pub async fn serve(
    stream: BoxStream,
    first: &[u8],
    service: impl Service,
    limits: ConnectionLimits,
    stopping: CancellationToken,
) -> Ended {
    let mut reader = FrameReader::new(limits.max_frame_bytes, limits.memory.clone());
    if let Err(error) = reader.feed(first) {
        return error.into();
    }
    let mut connection = Connection {
        stream,
        service,
        reader,
        pending: VecDeque::new(),
        limits,
    };
    let ended = connection.run(stopping).await;
    ended.err().unwrap_or(Ended::ByClient)
}

impl<S: Service> Connection<S> {
    async fn run(&mut self, stopping: CancellationToken) -> Result<(), Ended> {
        loop {
            self.begin_requests().await?;
            let may_read = self.pending.len() < MAX_REQUESTS_IN_FLIGHT;
            let (stream, reader) = (&mut self.stream, &mut self.reader);
            let pending = &mut self.pending;
            tokio::select! {
                biased;
                reply = front(pending), if !pending.is_empty() => self.answer(reply?).await?,
                read = fill(reader, stream, &self.limits), if may_read => {
                    if !read? {
                        return Ok(());
                    }
                }
                () = stopping.cancelled() => return self.drain().await,
                () = idle(self.limits.max_idle), if pending.is_empty() => {
                    return Err(Ended::Idle);
                }
            }
        }
    }

    /// Begins what has been received, as far as the bound on requests in flight allows.
    async fn begin_requests(&mut self) -> Result<(), Ended> {
        while self.pending.len() < MAX_REQUESTS_IN_FLIGHT {
            let Some(Frame { bytes, charge }) = self.reader.take() else {
                break;
            };
            let mut begun = self.service.begin(bytes)?;
            while let Begun::Gated(gate) = begun {
                begun = gate.await?;
            }
            match begun {
                Begun::Gated(_) => {}
                Begun::Overlapping(reply) => self.pending.push_back(Pending {
                    reply,
                    _charge: charge,
                }),
                Begun::Barrier(reply) => {
                    self.drain().await?;
                    let reply = reply.await?;
                    self.answer(reply).await?;
                }
            }
        }
        Ok(())
    }

    /// Answers everything that was begun.
    async fn drain(&mut self) -> Result<(), Ended> {
        while !self.pending.is_empty() {
            let reply = front(&mut self.pending).await?;
            self.answer(reply).await?;
        }
        Ok(())
    }

    /// Writes this answer, together with those behind it that are there already.
    async fn answer(&mut self, reply: Reply) -> Result<(), Ended> {
        let mut segments = VecDeque::new();
        let mut next = Some(reply);
        let mut closing = false;
        while let Some(reply) = next.take() {
            match reply {
                Reply::Segments(reply) => segments.extend(reply),
                Reply::Nothing => {}
                Reply::Close => closing = true,
            }
            if !closing && segments.len() < MAX_GATHERED_SEGMENTS {
                next = match self.pending.is_empty() {
                    true => None,
                    false => front(&mut self.pending).now_or_never().transpose()?,
                };
            }
        }
        output::write_segments(&mut self.stream, segments).await?;
        if closing {
            return Err(Ended::Unanswerable);
        }
        Ok(())
    }
}

/// Segments from which on answers are no longer joined into one write.
const MAX_GATHERED_SEGMENTS: usize = 32;

/// Returns after `limit`; never without one.
pub(crate) async fn idle(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Waits for the oldest request and takes it off. Cancelling loses nothing.
async fn front(pending: &mut VecDeque<Pending>) -> Result<Reply, RequestError> {
    let oldest = pending
        .front_mut()
        .expect("callers ask only when one is pending");
    let reply = (&mut oldest.reply).await;
    pending.pop_front();
    reply
}

/// Reads once, as soon as there is memory for requests.
async fn fill(
    reader: &mut FrameReader,
    stream: &mut BoxStream,
    limits: &ConnectionLimits,
) -> Result<bool, Ended> {
    if reader.is_within_frame() {
        let room = tokio::time::timeout(FRAME_MEMORY_WAIT, limits.memory.room());
        room.await.map_err(|_| Ended::NoMemory)?;
    } else {
        limits.memory.room().await;
    }
    Ok(reader.fill(stream).await?)
}

#[cfg(test)]
mod tests;
