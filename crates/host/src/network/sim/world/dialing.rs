//! Listening, connecting and accepting.

use std::io;
use std::net::SocketAddr;
use std::task::{Poll, Waker};

use super::super::connection::{Connection, ConnectionId, Dialing, End, Side};
use super::{BACKLOG, DIAL_AGAIN, Due, LONGEST_DIAL_AGAIN, MachineId, Queue, World, address};

impl World {
    pub(in crate::network::sim) fn listen(
        &mut self,
        machine: MachineId,
        port: u16,
    ) -> io::Result<SocketAddr> {
        let port = match port {
            0 => self.free_port(machine),
            port => port,
        };
        let address = address(machine, port);
        if self.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.listeners.insert(address, Queue::default());
        Ok(address)
    }

    pub(super) fn free_port(&mut self, machine: MachineId) -> u16 {
        let machine = &mut self.machines[machine];
        machine.next_port = machine.next_port.checked_add(1).unwrap_or(32_768);
        machine.next_port
    }

    pub(in crate::network::sim) fn unlisten(&mut self, address: SocketAddr) {
        let Some(queue) = self.listeners.remove(&address) else {
            return;
        };
        for id in queue.waiting {
            self.close(id, Side::Listener);
        }
    }

    pub(in crate::network::sim) fn dial(
        &mut self,
        machine: MachineId,
        host: &str,
        port: u16,
    ) -> io::Result<ConnectionId> {
        let to = self.find(host).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))
        })?;
        let own = address(machine, self.free_port(machine));
        let id = self.next_id;
        self.next_id += 1;
        let connection = Connection {
            ends: [End::new(machine, own), End::new(to, address(to, port))],
            dialing: Dialing::Waiting,
            accepted: false,
        };
        self.connections.insert(id, connection);
        self.note(id ^ ((machine as u64) << 32) ^ ((to as u64) << 40));
        self.send_dial(id, 0);
        Ok(id)
    }

    pub(super) fn machines_of(&self, id: ConnectionId) -> Option<[MachineId; 2]> {
        let connection = self.connections.get(&id)?;
        Some([connection.ends[0].machine, connection.ends[1].machine])
    }

    pub(super) fn send_dial(&mut self, id: ConnectionId, attempt: u32) {
        let Some([from, to]) = self.machines_of(id) else {
            return;
        };
        match self.travel(from, to, 0) {
            Some(at) => self.later(at, Due::Dial(id, attempt)),
            None => self.unanswered(id, attempt),
        }
    }

    pub(super) fn unanswered(&mut self, id: ConnectionId, attempt: u32) {
        let pause = LONGEST_DIAL_AGAIN.min(DIAL_AGAIN * 2u32.pow(attempt.min(4)));
        let at = self.now + pause;
        self.later(at, Due::DialAgain(id, attempt + 1));
    }

    /// A connection whose dialer still waits.
    pub(super) fn waiting(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(&id)?;
        let waits = matches!(connection.dialing, Dialing::Waiting) && !connection.ends[0].gone;
        waits.then_some(connection)
    }

    pub(super) fn dial_again(&mut self, id: ConnectionId, attempt: u32) {
        if self.waiting(id).is_some() {
            self.send_dial(id, attempt);
        }
    }

    pub(super) fn dialed(&mut self, id: ConnectionId, attempt: u32) {
        let Some([from, to]) = self.machines_of(id) else {
            return;
        };
        if self.waiting(id).is_none() {
            return;
        }
        if self.is_cut(from, to) {
            return self.unanswered(id, attempt);
        }
        let place = self.connections[&id].ends[1].address;
        let accepted = match self.listeners.get_mut(&place) {
            Some(queue) if queue.waiting.len() < BACKLOG => {
                if !queue.waiting.contains(&id) && !self.connections[&id].accepted {
                    queue.waiting.push_back(id);
                    self.wakers.extend(queue.acceptor.take());
                }
                true
            }
            Some(_) => return self.unanswered(id, attempt),
            None => false,
        };
        match self.travel(to, from, 0) {
            Some(at) => self.later(at, Due::Answer(id, accepted)),
            None => self.unanswered(id, attempt),
        }
    }

    pub(super) fn answered(&mut self, id: ConnectionId, accepted: bool) {
        let Some(connection) = self.waiting(id) else {
            return;
        };
        connection.dialing = match accepted {
            true => Dialing::Connected,
            false => Dialing::Refused,
        };
        let dialer = connection.ends[0].reader.take();
        self.wakers.extend(dialer);
        self.note(id * 2 + u64::from(accepted));
    }

    pub(in crate::network::sim) fn poll_dialed(
        &mut self,
        id: ConnectionId,
        waker: &Waker,
    ) -> Poll<io::Result<()>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        match connection.dialing {
            _ if connection.ends[0].reset => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            Dialing::Connected => Poll::Ready(Ok(())),
            Dialing::Refused => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            Dialing::Waiting => {
                connection.ends[0].reader = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(in crate::network::sim) fn poll_accept(
        &mut self,
        at: SocketAddr,
        waker: &Waker,
    ) -> Poll<ConnectionId> {
        let Some(queue) = self.listeners.get_mut(&at) else {
            return Poll::Pending;
        };
        match queue.waiting.pop_front() {
            Some(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.accepted = true;
                }
                Poll::Ready(id)
            }
            None => {
                queue.acceptor = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(in crate::network::sim) fn addresses(&self, id: ConnectionId) -> [SocketAddr; 2] {
        match self.connections.get(&id) {
            Some(connection) => [connection.ends[0].address, connection.ends[1].address],
            None => [address(0, 0); 2],
        }
    }
}
