//! All machines, the ways between them, their connections, and what is due when.

mod dialing;
mod ways;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::ReadBuf;

use super::Path;
use super::connection::{Connection, ConnectionId, Dialing, Segment, Side, gather};

/// Distinguishes machines.
pub(super) type MachineId = usize;

/// Bytes one side may send that the other has not read: both kernels' buffers together.
const BUFFERS: usize = 2 << 20;
/// Bytes of one segment at most, as kernels hand them to a network card.
const SEGMENT_BYTES: usize = 64 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 1024;
/// Before the first attempt to send a segment again, and the longest such pause.
const RESEND: Duration = Duration::from_millis(200);
const LONGEST_RESEND: Duration = Duration::from_secs(2);
/// The same for connecting.
const DIAL_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_DIAL_AGAIN: Duration = Duration::from_secs(4);
/// A lost segment is noticed by those behind it so much later, unless there are none.
const QUICK_RESEND: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The next segment that `sender` sent is there.
    Segment(ConnectionId, u8, u32),
    /// What is stuck is sent again.
    Resend(ConnectionId, u8, u32),
    /// The first message of a handshake is there, after so many attempts.
    Dial(ConnectionId, u32),
    /// The answer to it is.
    Answer(ConnectionId, bool),
    /// There was none, after so many attempts.
    DialAgain(ConnectionId, u32),
    /// A side is told that the connection is broken.
    Break(ConnectionId, u8),
}

struct Machine {
    name: String,
    powered: bool,
    next_port: u16,
}

struct Way {
    path: Path,
    free_at: Duration,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<ConnectionId>,
    acceptor: Option<Waker>,
}

/// Everything there is.
pub(super) struct World {
    now: Duration,
    rng: StdRng,
    machines: Vec<Machine>,
    ways: BTreeMap<(MachineId, MachineId), Way>,
    listeners: BTreeMap<SocketAddr, Queue>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_id: ConnectionId,
    due: BinaryHeap<Reverse<(Duration, u64, Due)>>,
    next_due: u64,
    wakers: Vec<Waker>,
    digest: u64,
    delivered: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            machines: Vec::new(),
            ways: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_id: 0,
            due: BinaryHeap::new(),
            next_due: 0,
            wakers: Vec::new(),
            digest: 0,
            delivered: 0,
        }
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn is_stuck(&self) -> bool {
        let ends = self.connections.values().flat_map(|c| &c.ends);
        let mut pipes = ends.map(|end| &end.out);
        pipes.any(|pipe| pipe.pause.is_some() && !pipe.queue.is_empty())
    }

    fn note(&mut self, what: u64) {
        self.digest = (self.digest.rotate_left(5) ^ what).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn note_bytes(&mut self, bytes: &[u8]) {
        self.note(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.note(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.note(u64::from_le_bytes(last));
    }

    fn later(&mut self, at: Duration, due: Due) {
        self.next_due += 1;
        self.due.push(Reverse((at, self.next_due, due)));
    }

    pub(super) fn advance(&mut self, to: Duration) {
        while let Some(Reverse((at, _, due))) = self.due.peek().copied() {
            if at > to {
                break;
            }
            self.due.pop();
            self.now = self.now.max(at);
            match due {
                Due::Segment(id, side, generation) => self.arrive(id, side_of(side), generation),
                Due::Resend(id, side, generation) => self.resend(id, side_of(side), generation),
                Due::Dial(id, attempt) => self.dialed(id, attempt),
                Due::Answer(id, accepted) => self.answered(id, accepted),
                Due::DialAgain(id, attempt) => self.dial_again(id, attempt),
                Due::Break(id, side) => self.broken(id, side_of(side)),
            }
        }
        self.now = self.now.max(to);
    }

    pub(super) fn poll_read(
        &mut self,
        id: ConnectionId,
        side: Side,
        buf: &mut ReadBuf<'_>,
        waker: &Waker,
    ) -> Poll<io::Result<()>> {
        let Some([a, b]) = self.machines_of(id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let (own, peers) = if side == Side::Dialer { (a, b) } else { (b, a) };
        let untold = self.is_cut(own, peers);
        let connection = self.connections.get_mut(&id).expect("it was just found");
        let end = connection.end(side);
        if end.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut read = 0;
        while let Some(first) = end.inbox.front_mut() {
            let fits = first.len().min(buf.remaining());
            buf.put_slice(&first[..fits]);
            read += fits;
            first.advance(fits);
            if !first.is_empty() {
                break;
            }
            end.inbox.pop_front();
        }
        if read == 0 && !end.ended && buf.remaining() > 0 {
            end.reader = Some(waker.clone());
            return Poll::Pending;
        }
        let sender = connection.end(side.other());
        if untold {
            sender.out.untold += read;
        } else {
            sender.out.unread -= (read + sender.out.untold).min(sender.out.unread);
            sender.out.untold = 0;
            if read > 0 {
                self.wakers.extend(sender.writer.take());
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(
        &mut self,
        id: ConnectionId,
        side: Side,
        bufs: &[io::IoSlice<'_>],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let end = connection.end(side);
        if end.reset || end.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let room = BUFFERS.saturating_sub(end.out.unread).min(SEGMENT_BYTES);
        if room == 0 {
            end.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let bytes = Bytes::from(gather(bufs, room));
        let written = bytes.len();
        end.out.unread += written;
        self.note(id * 2 + side as u64);
        self.note_bytes(&bytes);
        self.send(id, side, Segment::Data(bytes));
        Poll::Ready(Ok(written))
    }

    pub(super) fn shutdown(&mut self, id: ConnectionId, side: Side) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        let end = connection.end(side);
        if end.reset || end.shut {
            return Ok(());
        }
        end.shut = true;
        self.send(id, side, Segment::End);
        Ok(())
    }

    /// The process lets go of its side.
    pub(super) fn close(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let end = connection.end(side);
        if !end.gone {
            end.gone = true;
            let unread = !end.inbox.is_empty();
            end.inbox.clear();
            let reset = end.reset;
            if matches!(connection.dialing, Dialing::Waiting) && side == Side::Dialer {
                // The listening side hears of it when it sends, or at once if it was reached.
                self.later(self.now, Due::Break(id, Side::Listener as u8));
            } else if unread && !reset {
                self.send_break(id, side.other());
            } else if !reset {
                let _ = self.shutdown(id, side);
            }
        }
        self.clean_up(id);
    }

    fn clean_up(&mut self, id: ConnectionId) {
        let never_met = |c: &Connection| c.ends[0].gone && matches!(c.dialing, Dialing::Refused);
        let connection = self.connections.get(&id);
        if connection.is_some_and(|c| c.is_over() || never_met(c)) {
            self.connections.remove(&id);
        }
    }

    fn send(&mut self, id: ConnectionId, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let pipe = &mut connection.end(side).out;
        pipe.queue.push_back(segment);
        // What is behind something stuck waits with it.
        if pipe.on_the_way + 1 == pipe.queue.len() {
            self.send_queued(id, side);
        }
    }

    /// Sends what is not on its way yet.
    fn send_queued(&mut self, id: ConnectionId, side: Side) {
        let Some([a, b]) = self.machines_of(id) else {
            return;
        };
        let (from, to) = if side == Side::Dialer { (a, b) } else { (b, a) };
        loop {
            let pipe = &mut self.pipe(id, side);
            let generation = pipe.generation;
            let Some(next) = pipe.queue.get(pipe.on_the_way) else {
                return;
            };
            let bytes = match next {
                Segment::Data(bytes) => bytes.len(),
                Segment::End => 0,
            };
            let arrival = self.travel(from, to, bytes);
            let cut = self.is_cut(from, to);
            let pipe = self.pipe(id, side);
            let Some(mut at) = arrival else {
                let is_first = pipe.on_the_way == 0;
                let pause = match pipe.pause {
                    None if !is_first && !cut => QUICK_RESEND,
                    None => RESEND,
                    Some(pause) => (pause * 2).min(LONGEST_RESEND),
                };
                pipe.pause = Some(pause);
                let again = self.now + pause;
                return self.later(again, Due::Resend(id, side as u8, generation));
            };
            at = at.max(pipe.last_arrival);
            pipe.last_arrival = at;
            pipe.on_the_way += 1;
            pipe.pause = None;
            self.later(at, Due::Segment(id, side as u8, generation));
        }
    }

    fn pipe(&mut self, id: ConnectionId, side: Side) -> &mut super::connection::Pipe {
        let connection = self.connections.get_mut(&id);
        &mut connection.expect("callers looked").end(side).out
    }

    fn resend(&mut self, id: ConnectionId, side: Side, generation: u32) {
        let connection = self.connections.get_mut(&id);
        if connection.is_some_and(|c| c.end(side).out.generation == generation) {
            self.send_queued(id, side);
        }
    }

    /// A segment that `sender` sent arrives.
    fn arrive(&mut self, id: ConnectionId, sender: Side, generation: u32) {
        let Some([a, b]) = self.machines_of(id) else {
            return;
        };
        let (from, to) = if sender == Side::Dialer {
            (a, b)
        } else {
            (b, a)
        };
        if self.pipe(id, sender).generation != generation {
            return;
        }
        if self.is_cut(from, to) {
            // All that is under way is lost with it.
            let pipe = self.pipe(id, sender);
            pipe.on_the_way = 0;
            pipe.generation += 1;
            pipe.last_arrival = Duration::ZERO;
            return self.send_queued(id, sender);
        }
        let pipe = self.pipe(id, sender);
        pipe.on_the_way -= 1;
        let segment = pipe
            .queue
            .pop_front()
            .expect("what was on its way is queued");
        self.delivered += 1;
        let connection = self.connections.get_mut(&id).expect("it was just found");
        let receiver = connection.end(sender.other());
        match segment {
            Segment::Data(_) if receiver.gone || receiver.reset => self.send_break(id, sender),
            Segment::Data(bytes) => {
                receiver.inbox.push_back(bytes);
                self.wakers.extend(receiver.reader.take());
            }
            Segment::End => {
                receiver.ended = true;
                self.wakers.extend(receiver.reader.take());
            }
        }
        self.clean_up(id);
    }

    /// Tells one side that the connection is broken.
    fn send_break(&mut self, id: ConnectionId, told: Side) {
        let Some([a, b]) = self.machines_of(id) else {
            return;
        };
        let (from, to) = if told == Side::Dialer { (b, a) } else { (a, b) };
        match self.travel(from, to, 0) {
            Some(at) => self.later(at, Due::Break(id, told as u8)),
            // Whoever sends again asks again.
            None => {
                let pipe = self.pipe(id, told);
                pipe.queue.push_front(Segment::Data(Bytes::new()));
                pipe.on_the_way = 0;
                pipe.generation += 1;
                let (generation, again) = (pipe.generation, self.now + RESEND);
                self.later(again, Due::Resend(id, told as u8, generation));
            }
        }
    }

    fn broken(&mut self, id: ConnectionId, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.end(side).break_off(&mut self.wakers);
        if side == Side::Listener && !connection.accepted {
            // Nobody has to accept what is over.
            let at = connection.end(side).address;
            connection.end(side).gone = true;
            if let Some(queue) = self.listeners.get_mut(&at) {
                queue.waiting.retain(|waiting| *waiting != id);
            }
        }
        self.clean_up(id);
    }
}

fn side_of(number: u8) -> Side {
    match number {
        0 => Side::Dialer,
        _ => Side::Listener,
    }
}

fn address(machine: MachineId, port: u16) -> SocketAddr {
    let low = u8::try_from(machine + 1).unwrap_or(u8::MAX);
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, low), port))
}

fn machine_of(address: SocketAddr) -> MachineId {
    match address {
        SocketAddr::V4(v4) => usize::from(v4.ip().octets()[3]) - 1,
        SocketAddr::V6(_) => usize::MAX,
    }
}
