//! Links between brokers that a test can cut: user-space TCP proxies before the ports that brokers
//! use among themselves.
//!
//! Who a connection comes from is read off the kernel's tables (which process owns the other end),
//! so brokers need no settings that differ from real ones. While a direction is cut, its bytes
//! are held and arrive after the heal, as TCP would send them again; nothing is told to either
//! side, not even that a process has died. A new connection over a cut link hangs.

mod owner;
mod pump;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::admin::NodeId;

/// What is cut now, and who is who; cheap to clone.
#[derive(Clone, Default)]
pub struct Links(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directions that carry nothing: (from, to).
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Which process is which node.
    processes: BTreeMap<u32, NodeId>,
    /// Every connection, so that all can be ended.
    connections: Vec<(NodeId, NodeId, TcpStream)>,
    closed: bool,
}

impl Links {
    /// Nothing is cut, nobody is known.
    pub fn new() -> Links {
        Links::default()
    }

    /// Says that node `node` now runs as process `pid`.
    pub fn introduce(&self, pid: u32, node: NodeId) {
        let mut state = self.lock();
        state.processes.retain(|_, known| *known != node);
        state.processes.insert(pid, node);
    }

    /// Puts a proxy before a port of `node` and returns the port to reach it by.
    ///
    /// # Panics
    /// When no port can be listened on.
    pub fn proxy(&self, node: NodeId, listen: u16, target: u16) {
        let listener = TcpListener::bind(("127.0.0.1", listen))
            .unwrap_or_else(|error| panic!("listening on {listen}: {error}"));
        let links = self.clone();
        std::thread::spawn(move || links.accept(&listener, node, target));
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cut.insert((from, to));
    }

    /// Cuts every link of `node`, both ways, to each of `others`.
    pub fn isolate(&self, node: NodeId, others: &[NodeId]) {
        for other in others.iter().filter(|other| **other != node) {
            self.cut(node, *other);
            self.cut(*other, node);
        }
    }

    /// Everything flows again; what was held arrives.
    pub fn heal(&self) {
        self.lock().cut.clear();
        self.0.changed.notify_all();
    }

    /// Ends every connection between two nodes; new ones may be made.
    pub fn reset(&self, one: NodeId, other: NodeId) {
        let mut state = self.lock();
        state.connections.retain(|(from, to, stream)| {
            let between = (*from, *to) == (one, other) || (*from, *to) == (other, one);
            if between {
                let _ = stream.shutdown(Shutdown::Both);
            }
            !between
        });
    }

    /// Ends all connections and takes no new ones.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for (_, _, stream) in state.connections.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.0.changed.notify_all();
    }

    fn accept(&self, listener: &TcpListener, node: NodeId, target: u16) {
        for accepted in listener.incoming() {
            if self.lock().closed {
                return;
            }
            if let Ok(stream) = accepted {
                let from = self.node_behind(&stream);
                let links = self.clone();
                std::thread::spawn(move || links.carry(&stream, from, node, target));
            }
        }
    }

    /// The node that owns the other end of a connection; none for a stranger, whom nothing cuts.
    fn node_behind(&self, stream: &TcpStream) -> NodeId {
        let processes = self.lock().processes.clone();
        let port = stream.peer_addr().map_or(0, |address| address.port());
        let pids: Vec<u32> = processes.keys().copied().collect();
        let owner = owner::process_of_local_port(port, &pids);
        owner
            .and_then(|pid| processes.get(&pid).copied())
            .unwrap_or(0)
    }

    fn carry(&self, near: &TcpStream, from: NodeId, to: NodeId, target: u16) {
        if !self.wait_open(from, to) {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
            return;
        };
        let _ = near.set_nodelay(true);
        let _ = far.set_nodelay(true);
        for end in [near, &far] {
            if let Ok(end) = end.try_clone() {
                self.lock().connections.push((from, to, end));
            }
        }
        std::thread::scope(|scope| {
            scope.spawn(|| pump::pump(self, near, &far, (from, to)));
            scope.spawn(|| pump::pump(self, &far, near, (to, from)));
        });
    }

    /// Waits while a direction is cut; false when the test is over.
    fn wait_open(&self, from: NodeId, to: NodeId) -> bool {
        let mut state = self.lock();
        while state.cut.contains(&(from, to)) && !state.closed {
            state = self
                .0
                .changed
                .wait(state)
                .expect("nothing panics under this lock");
        }
        !state.closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics under this lock")
    }
}
