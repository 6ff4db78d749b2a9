//! A network in memory: machines by name, links between them that are slow, lossy or cut, and
//! connections that behave as TCP's do under that. One seed decides every delay, and time is moved
//! by whoever runs the simulation.
//!
//! What a connection promises is what TCP promises: bytes arrive in order or not at all. A lost
//! segment holds up what is behind it until it is sent again; on a cut link that is until the link
//! heals, with growing pauses between the attempts. Only the acknowledging side of a link that is
//! cut one way hurts too: the sender's buffer fills up. A machine without power answers nothing, so
//! its peers keep half of a connection until it is back and says that it knows nothing of them.

mod connection;
mod world;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{BoxListener, BoxStream, Listener, Network, Stream};
use connection::{ConnectionId, Side};
use world::{MachineId, World};

/// How one machine reaches another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// The least time on the way.
    pub delay: Duration,
    /// Up to so much more.
    pub jitter: Duration,
    /// The share of segments that must be sent again, 0 to 1.
    pub loss: f64,
    /// `None` for as many as there are.
    pub bytes_per_second: Option<u64>,
    /// Nothing gets through.
    pub cut: bool,
}

impl Default for Path {
    /// A switch in the same room.
    fn default() -> Path {
        Path {
            delay: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            loss: 0.0,
            bytes_per_second: None,
            cut: false,
        }
    }
}

/// The network of all simulated machines; clones are the same network.
#[derive(Clone)]
pub struct SimNetwork(Arc<Mutex<World>>);

impl SimNetwork {
    /// No machines yet.
    pub fn new(seed: u64) -> SimNetwork {
        SimNetwork(Arc::new(Mutex::new(World::new(seed))))
    }

    /// Adds a machine, which others reach by this name.
    pub fn add(&self, name: &str) -> Arc<dyn Network> {
        let machine = self.with(|world| world.add(name));
        Arc::new(Socket {
            network: self.clone(),
            machine,
        })
    }

    /// Changes the world, then wakes whom that concerns: a waker may run destructors, which come
    /// back here.
    fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let (value, wakers) = {
            let mut world = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let value = change(&mut world);
            (value, world.take_wakers())
        };
        wakers.into_iter().for_each(Waker::wake);
        value
    }

    /// Lets everything arrive that is due at this time since the beginning.
    pub fn advance(&self, to: Duration) {
        self.with(|world| world.advance(to));
    }

    /// The way from one machine to another; the way back is another one.
    pub fn path(&self, from: &str, to: &str) -> Path {
        self.with(|world| world.path(from, to))
    }

    /// Changes the way from one machine to another.
    pub fn set_path(&self, from: &str, to: &str, path: Path) {
        self.with(|world| world.set_path(from, to, path));
    }

    /// The machine loses its power: it sends nothing any more, also not that its connections end.
    /// Drop its processes after this.
    pub fn power_off(&self, name: &str) {
        self.with(|world| world.power(name, false));
    }

    /// The machine is there again, and remembers no connection.
    pub fn power_on(&self, name: &str) {
        self.with(|world| world.power(name, true));
    }

    /// Something on the way resets all connections between two machines; how many there were. Only
    /// `from` is told when `one_sided`; the other finds out when it sends.
    pub fn reset(&self, from: &str, to: &str, one_sided: bool) -> usize {
        self.with(|world| world.reset_between(from, to, one_sided))
    }

    /// Stands for everything that was sent so far: two runs of one seed agree on it at every time.
    pub fn digest(&self) -> u64 {
        self.with(|world| world.digest())
    }

    /// Connections of which at least one side is open.
    pub fn connections(&self) -> usize {
        self.with(|world| world.connections())
    }

    /// Whether something that was sent is held up, and waits to be sent again.
    pub fn is_stuck(&self) -> bool {
        self.with(|world| world.is_stuck())
    }

    /// Segments that arrived so far.
    pub fn delivered(&self) -> u64 {
        self.with(|world| world.delivered())
    }
}

/// The network as one machine sees it.
struct Socket {
    network: SimNetwork,
    machine: MachineId,
}

impl Network for Socket {
    fn listen<'a>(&'a self, _host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxListener>> {
        Box::pin(async move {
            let address = self
                .network
                .with(|world| world.listen(self.machine, port))?;
            let network = self.network.clone();
            Ok(Box::new(SimListener { network, address }) as BoxListener)
        })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let id = self
                .network
                .with(|world| world.dial(self.machine, host, port))?;
            // From here on dropping this future drops the stream, which ends the attempt.
            let stream = SimStream::new(self.network.clone(), id, Side::Dialer);
            let connected = |cx: &mut Context<'_>| {
                let network = &stream.network;
                network.with(|world| world.poll_dialed(id, cx.waker()))
            };
            std::future::poll_fn(connected).await?;
            Ok(Box::new(stream) as BoxStream)
        })
    }
}

struct SimListener {
    network: SimNetwork,
    address: SocketAddr,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(std::future::poll_fn(|cx| {
            let address = self.address;
            let accepted = self
                .network
                .with(|world| world.poll_accept(address, cx.waker()));
            accepted.map(|id| {
                let stream = SimStream::new(self.network.clone(), id, Side::Listener);
                Ok(Box::new(stream) as BoxStream)
            })
        }))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.with(|world| world.unlisten(self.address));
    }
}

struct SimStream {
    network: SimNetwork,
    id: ConnectionId,
    side: Side,
    addresses: [SocketAddr; 2],
}

impl SimStream {
    fn new(network: SimNetwork, id: ConnectionId, side: Side) -> SimStream {
        let addresses = network.with(|world| world.addresses(id));
        SimStream {
            network,
            id,
            side,
            addresses,
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.network.with(|world| world.close(self.id, self.side));
    }
}

impl Stream for SimStream {
    fn peer_address(&self) -> io::Result<SocketAddr> {
        Ok(self.addresses[self.side.other() as usize])
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.addresses[self.side as usize])
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let network = &self.network;
        network.with(|world| world.poll_read(self.id, self.side, buf, cx.waker()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let network = &self.network;
        network.with(|world| world.poll_write(self.id, self.side, bufs, cx.waker()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let network = &self.network;
        Poll::Ready(network.with(|world| world.shutdown(self.id, self.side)))
    }
}

#[cfg(test)]
mod tests;
