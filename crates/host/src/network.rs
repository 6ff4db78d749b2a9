//! Sockets: listen and connect give a byte stream.

pub mod sim;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// One connection's bytes, both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static {
    /// The other side's address.
    fn peer_address(&self) -> io::Result<SocketAddr>;
    /// This side's address.
    fn local_address(&self) -> io::Result<SocketAddr>;
    /// The socket itself where there is one, for sendfile; `None` under simulation or TLS.
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// A connection of any kind.
pub type BoxStream = Box<dyn Stream>;

/// Accepts connections.
pub trait Listener: Send + Sync + 'static {
    /// The next connection. Cancelling loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxStream>>;
    /// Where it listens, with the port the system chose if none was asked for.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A listener of any kind.
pub type BoxListener = Box<dyn Listener>;

/// The network: names are resolved where the connection is made.
pub trait Network: Send + Sync + 'static {
    /// Listens at `host:port`; port 0 lets the system choose.
    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>>;
    /// Connects to `host:port`. The caller sets the time limit.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>>;
}

/// The machine's own network.
pub struct RealNetwork;

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

impl Network for RealNetwork {
    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let host = if host.is_empty() { "0.0.0.0" } else { host };
            let address = tokio::net::lookup_host((host, port)).await?.next();
            let address = address.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))
            })?;
            let domain = socket2::Domain::for_address(address);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let listener = TcpListener::from_std(socket.into())?;
            Ok(Box::new(RealListener(listener)) as BoxListener)
        })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move { real_stream(TcpStream::connect((host, port)).await?) })
    }
}

struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move { real_stream(self.0.accept().await?.0) })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn real_stream(stream: TcpStream) -> io::Result<BoxStream> {
    stream.set_nodelay(true)?;
    Ok(Box::new(RealStream(stream)))
}

struct RealStream(TcpStream);

impl Stream for RealStream {
    fn peer_address(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }
}

impl AsyncRead for RealStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for RealStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
