//! Loopback with a hand on each connection: bytes can be held up, and connections cut.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use millrace_host::network::{RealNetwork, Stream};
use millrace_host::{BoxListener, BoxStream, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connections that one broker has opened, by the port they lead to.
#[derive(Default)]
pub struct Wires {
    gates: Mutex<BTreeMap<u16, Gate>>,
}

#[derive(Default)]
struct Gate {
    held: bool,
    opened: usize,
    wires: Vec<Weak<Wire>>,
}

/// One connection.
#[derive(Default)]
struct Wire {
    state: Mutex<State>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Nothing gets through, and nobody is told.
    Held,
    Cut,
}

impl Wires {
    fn change(&self, port: u16, change: impl FnOnce(&mut Gate), to: impl Fn(State) -> State) {
        let mut gates = self.gates.lock().unwrap();
        let gate = gates.entry(port).or_default();
        change(gate);
        for wire in gate.wires.iter().filter_map(Weak::upgrade) {
            let mut state = wire.state.lock().unwrap();
            *state = to(*state);
            wire.reader.wake();
            wire.writer.wake();
        }
    }

    /// Nothing gets through any more, either way; connections stay open, also new ones.
    pub fn hold(&self, port: u16) {
        let hold = |state| match state {
            State::Open => State::Held,
            other => other,
        };
        self.change(port, |gate| gate.held = true, hold);
    }

    /// What was held up goes on.
    pub fn release(&self, port: u16) {
        let release = |state| match state {
            State::Held => State::Open,
            other => other,
        };
        self.change(port, |gate| gate.held = false, release);
    }

    /// Ends every connection, with what is under way; new ones can be opened.
    pub fn cut(&self, port: u16) {
        self.change(port, |gate| gate.held = false, |_| State::Cut);
    }

    /// Connections opened so far.
    pub fn opened(&self, port: u16) -> usize {
        let gates = self.gates.lock().unwrap();
        gates.get(&port).map_or(0, |gate| gate.opened)
    }

    fn add(&self, port: u16) -> Arc<Wire> {
        let mut gates = self.gates.lock().unwrap();
        let gate = gates.entry(port).or_default();
        let wire = Arc::new(Wire::default());
        if gate.held {
            *wire.state.lock().unwrap() = State::Held;
        }
        gate.opened += 1;
        gate.wires.push(Arc::downgrade(&wire));
        wire
    }
}

/// A broker's network.
pub struct GatedNetwork(pub Arc<Wires>);

impl Network for GatedNetwork {
    fn listen<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        RealNetwork.listen(host, port)
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = RealNetwork.connect(host, port).await?;
            let wire = self.0.add(port);
            Ok(Box::new(Gated { stream, wire }) as BoxStream)
        })
    }
}

struct Gated {
    stream: BoxStream,
    wire: Arc<Wire>,
}

impl Gated {
    /// Whether bytes may pass; whoever waits is woken when that changes.
    fn passes(&self, waker: &AtomicWaker, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        waker.register(cx.waker());
        match *self.wire.state.lock().unwrap() {
            State::Open => Poll::Ready(Ok(())),
            State::Held => Poll::Pending,
            State::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl Stream for Gated {
    fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_address()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.local_address()
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.passes(&self.wire.reader, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_read(cx, buf),
            other => other,
        }
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.passes(&self.wire.writer, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_write(cx, buf),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.passes(&self.wire.writer, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_flush(cx),
            other => other,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
