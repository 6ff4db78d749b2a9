//! A connection whose first bytes were read to see what it speaks, with those bytes put back.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use millrace_host::BoxStream;
use millrace_host::network::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How a peer's connection begins: the start of HTTP/2's preface. As the length of a Kafka frame
/// it would announce 1.3 GB, which no client sends.
pub const PEER_PREFACE: [u8; 4] = *b"PRI ";

/// Whether a connection that begins with these bytes is a peer's.
pub fn is_peer_connection(first: [u8; 4]) -> bool {
    first == PEER_PREFACE
}

/// A stream that yields `read` again before what follows.
pub struct Rewound {
    read: Bytes,
    stream: BoxStream,
}

impl Rewound {
    /// Puts `read` back in front of `stream`.
    pub fn new(read: Bytes, stream: BoxStream) -> Rewound {
        Rewound { read, stream }
    }
}

impl Stream for Rewound {
    fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_address()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_address()
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..count]);
        self.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
