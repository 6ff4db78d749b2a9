//! One simulated connection: what each side holds, and what is on its way to it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::world::MachineId;

/// Distinguishes the connections of a simulation.
pub(super) type ConnectionId = u64;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that connected.
    Dialer = 0,
    /// The one that accepted.
    Listener = 1,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Dialer => Side::Listener,
            Side::Listener => Side::Dialer,
        }
    }
}

/// How far the handshake has come.
#[derive(Debug)]
pub(super) enum Dialing {
    /// Nothing is decided; the dialer waits.
    Waiting,
    /// Both sides may use it.
    Connected,
    /// Nobody listened there.
    Refused,
}

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Segment {
    /// Bytes of the stream.
    Data(Bytes),
    /// The stream ends here.
    End,
}

/// One side of a connection.
pub(super) struct End {
    pub(super) machine: MachineId,
    pub(super) address: SocketAddr,
    /// Arrived and not read yet.
    pub(super) inbox: VecDeque<Bytes>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// The peer sends nothing more.
    pub(super) ended: bool,
    /// The peer, or something on the way, broke it.
    pub(super) reset: bool,
    /// The process let go of it, or its machine forgot it.
    pub(super) gone: bool,
    /// This side has said that it sends nothing more.
    pub(super) shut: bool,
    /// What this side sent and the other has not got yet.
    pub(super) out: Pipe,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// Not arrived yet, in order.
    pub(super) queue: VecDeque<Segment>,
    /// How many of them, from the front, are on their way; the others wait to be sent again.
    pub(super) on_the_way: usize,
    /// Raised when everything that is on its way is lost: what was to arrive then does not.
    pub(super) generation: u32,
    /// When the last one on its way arrives: nothing overtakes on a stream.
    pub(super) last_arrival: Duration,
    /// The pause before it is sent again.
    pub(super) pause: Option<Duration>,
    /// Bytes sent that the other side's process has not read.
    pub(super) unread: usize,
    /// Bytes it has read of which this side does not know, since the way back is cut.
    pub(super) untold: usize,
}

impl End {
    pub(super) fn new(machine: MachineId, address: SocketAddr) -> End {
        End {
            machine,
            address,
            inbox: VecDeque::new(),
            reader: None,
            writer: None,
            ended: false,
            reset: false,
            gone: false,
            shut: false,
            out: Pipe::default(),
        }
    }

    /// Whoever waits on this side.
    pub(super) fn take_wakers(&mut self, into: &mut Vec<Waker>) {
        into.extend(self.reader.take());
        into.extend(self.writer.take());
    }

    /// The connection is broken as this side sees it.
    pub(super) fn break_off(&mut self, wakers: &mut Vec<Waker>) {
        self.reset = true;
        self.inbox.clear();
        self.out.forget();
        self.take_wakers(wakers);
    }
}

impl Pipe {
    /// Nothing more arrives.
    pub(super) fn forget(&mut self) {
        self.queue.clear();
        self.on_the_way = 0;
        self.generation += 1;
        self.unread = 0;
    }
}

/// Both sides.
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) dialing: Dialing,
    /// Whether the listening process took it out of the queue.
    pub(super) accepted: bool,
}

impl Connection {
    pub(super) fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Whether nobody can notice any more that it was there.
    pub(super) fn is_over(&self) -> bool {
        let over = |end: &End| end.gone && (end.reset || end.out.queue.is_empty());
        self.ends.iter().all(over)
    }
}

/// Copies as much as fits.
pub(super) fn gather(bufs: &[io::IoSlice<'_>], room: usize) -> Vec<u8> {
    let total: usize = bufs.iter().map(|buf| buf.len()).sum();
    let mut bytes = Vec::with_capacity(total.min(room));
    for buf in bufs {
        let left = room - bytes.len();
        bytes.extend_from_slice(&buf[..buf.len().min(left)]);
    }
    bytes
}
