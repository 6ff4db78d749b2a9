//! Cuts the bytes of a connection into frames: four bytes of length, then so many bytes.
//!
//! An idle connection holds no buffer: what comes is read into a scratch buffer of the thread and
//! copied out to the frame it belongs to; only a frame with much outstanding is read into its own
//! memory directly. Each frame is an allocation of its own, so that a small batch kept by a log
//! never keeps its neighbours alive.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use millrace_host::BoxStream;
use millrace_model::limits::FRAME_RESERVE_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::memory::{Charge, RequestMemory};

const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// One request as it came, without its length; the charge is held until it is answered.
pub struct Frame {
    /// Header and body.
    pub bytes: BytesMut,
    /// The frame's share of the request memory.
    pub charge: Charge,
}

/// Why a connection's bytes are no frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is negative or above the limit.
    #[error("frame length {length} is not within 0 to {limit}")]
    Length {
        /// As the client sent it.
        length: i32,
        /// `socket.request.max.bytes`.
        limit: usize,
    },
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What has been received of a connection and not been taken yet.
pub struct FrameReader {
    memory: Arc<RequestMemory>,
    max_frame_bytes: usize,
    length: [u8; 4],
    length_received: usize,
    body: Option<PartialFrame>,
    ready: VecDeque<Frame>,
}

struct PartialFrame {
    frame: Frame,
    expected: usize,
}

impl PartialFrame {
    fn missing(&self) -> usize {
        self.expected - self.frame.bytes.len()
    }

    /// Makes room for what comes next: all of it for a small frame, for a large one as much as has
    /// been received already.
    fn reserve(&mut self) {
        let bytes = &mut self.frame.bytes;
        if bytes.len() == bytes.capacity() {
            let more = bytes.len().max(FRAME_RESERVE_BYTES);
            bytes.reserve((self.expected - bytes.len()).min(more));
        }
        self.frame.charge.grow_to(bytes.capacity());
    }
}

impl FrameReader {
    /// A reader that refuses frames above `max_frame_bytes`.
    pub fn new(max_frame_bytes: usize, memory: Arc<RequestMemory>) -> FrameReader {
        FrameReader {
            memory,
            max_frame_bytes,
            length: [0; 4],
            length_received: 0,
            body: None,
            ready: VecDeque::new(),
        }
    }

    /// The next whole frame.
    pub fn take(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Whether a whole frame waits to be taken.
    pub fn has_frame(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether a frame has begun and is not whole yet.
    pub fn is_within_frame(&self) -> bool {
        self.length_received > 0
    }

    /// Reads once; false at the end of the stream. Cancelling loses nothing.
    pub async fn fill(&mut self, stream: &mut BoxStream) -> Result<bool, FrameError> {
        if let Some(body) = &mut self.body
            && body.missing() >= SCRATCH_BYTES
        {
            body.reserve();
            let room = body.missing();
            let read = stream
                .read_buf(&mut (&mut body.frame.bytes).limit(room))
                .await?;
            self.complete_body();
            return Ok(read > 0);
        }
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    Poll::Ready(Ok(())) => {
                        let received = buffer.filled();
                        Poll::Ready(self.feed(received).map(|()| !received.is_empty()))
                    }
                }
            })
        })
        .await
    }

    /// Takes over bytes of the stream in the order they came.
    pub fn feed(&mut self, mut received: &[u8]) -> Result<(), FrameError> {
        while !received.is_empty() {
            match &mut self.body {
                None => {
                    let take = (4 - self.length_received).min(received.len());
                    self.length[self.length_received..][..take].copy_from_slice(&received[..take]);
                    self.length_received += take;
                    received = &received[take..];
                    if self.length_received == 4 {
                        self.begin_body()?;
                    }
                }
                Some(body) => {
                    body.reserve();
                    let room = body.frame.bytes.capacity() - body.frame.bytes.len();
                    let take = body.missing().min(room).min(received.len());
                    body.frame.bytes.extend_from_slice(&received[..take]);
                    received = &received[take..];
                    self.complete_body();
                }
            }
        }
        Ok(())
    }

    fn begin_body(&mut self) -> Result<(), FrameError> {
        let length = i32::from_be_bytes(self.length);
        let limit = self.max_frame_bytes;
        let expected = usize::try_from(length)
            .ok()
            .filter(|expected| *expected <= limit)
            .ok_or(FrameError::Length { length, limit })?;
        self.body = Some(PartialFrame {
            frame: Frame {
                bytes: BytesMut::new(),
                charge: Charge::none(&self.memory),
            },
            expected,
        });
        self.complete_body();
        Ok(())
    }

    fn complete_body(&mut self) {
        if let Some(body) = self.body.take_if(|body| body.missing() == 0) {
            self.length_received = 0;
            self.ready.push_back(body.frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(limit: usize) -> FrameReader {
        FrameReader::new(limit, RequestMemory::new(usize::MAX))
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let bodies: Vec<Vec<u8>> = [0, 1, 5, 700, 300_000]
            .iter()
            .map(|len| (0..*len).map(|n: u32| n as u8).collect())
            .collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for piece in [1, 3, 4, 5, 1000, stream.len()] {
            let mut reader = reader(1 << 20);
            for chunk in stream.chunks(piece) {
                reader.feed(chunk).unwrap();
            }
            for body in &bodies {
                assert_eq!(reader.take().unwrap().bytes, body[..], "pieces of {piece}");
            }
            assert!(!reader.has_frame() && !reader.is_within_frame());
        }
    }

    #[test]
    fn a_hostile_length_is_refused_before_anything_is_allocated() {
        for length in [i32::MAX, -1, i32::MIN, 1025] {
            let mut reader = reader(1024);
            let refused = reader.feed(&length.to_be_bytes());
            assert!(matches!(refused, Err(FrameError::Length { .. })));
        }
    }

    #[test]
    fn a_claimed_length_costs_only_what_has_come() {
        let memory = RequestMemory::new(usize::MAX);
        let mut reader = FrameReader::new(100 << 20, memory.clone());
        reader.feed(&(100i32 << 20).to_be_bytes()).unwrap();
        assert_eq!(memory.used_bytes(), 0);
        reader.feed(&[1; 10]).unwrap();
        assert!(memory.used_bytes() <= 2 * FRAME_RESERVE_BYTES);
        drop(reader);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[tokio::test]
    async fn large_frames_are_read_from_the_stream() {
        use tokio::io::AsyncWriteExt;
        let body: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
        let network = millrace_host::network::RealNetwork;
        let mut listener = millrace_host::Network::listen(&network, "127.0.0.1", 0)
            .await
            .unwrap();
        let port = listener.local_address().unwrap().port();
        let sent = [framed(&body), framed(b"after")].concat();
        let client = tokio::spawn(async move {
            let mut stream = millrace_host::Network::connect(&network, "127.0.0.1", port)
                .await
                .unwrap();
            stream.write_all(&sent).await.unwrap();
        });
        let mut stream = listener.accept().await.unwrap();
        let mut reader = reader(1 << 20);
        while reader.fill(&mut stream).await.unwrap() {}
        assert_eq!(reader.take().unwrap().bytes, body[..]);
        assert_eq!(reader.take().unwrap().bytes, b"after"[..]);
        client.await.unwrap();
    }
}
