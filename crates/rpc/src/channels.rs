//! The peers of this node: where they are, and one channel to each for every purpose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_host::Host;
use millrace_model::BrokerId;

use crate::channel::{Address, PeerChannel};
use crate::identity::{self, Identity};

/// What a connection is for; each purpose has one of its own, so that none delays another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Votes and entries of the metadata quorum.
    Raft,
    /// Sessions and requests to the controller, metadata snapshots.
    Control,
    /// Live batches of partitions.
    Replication,
    /// Batches from disk for followers that lag.
    CatchUp,
}

/// A node's listeners for peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerListener {
    /// `controller.listener.names`; carries `Raft` and `Control`, where a node has one.
    Controller,
    /// `inter.broker.listener.name`; carries the rest, and everything to a node without the other.
    Broker,
}

impl Purpose {
    fn listener(self) -> PeerListener {
        match self {
            Purpose::Raft | Purpose::Control => PeerListener::Controller,
            Purpose::Replication | Purpose::CatchUp => PeerListener::Broker,
        }
    }
}

/// Channels to every peer; cheap to clone.
#[derive(Clone)]
pub struct Channels(Arc<Shared>);

struct Shared {
    identity: Identity,
    host: Host,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    addresses: BTreeMap<(BrokerId, PeerListener), Address>,
    channels: BTreeMap<(BrokerId, Purpose), PeerChannel>,
}

impl Peers {
    /// Where a purpose's connection goes: the listener meant for it, else the only one there is.
    fn address(&self, node: BrokerId, purpose: Purpose) -> Option<Address> {
        let other = match purpose.listener() {
            PeerListener::Controller => PeerListener::Broker,
            PeerListener::Broker => PeerListener::Controller,
        };
        let meant = self.addresses.get(&(node, purpose.listener()));
        meant
            .or_else(|| self.addresses.get(&(node, other)))
            .cloned()
    }
}

impl Channels {
    /// No peers yet.
    pub fn new(identity: Identity, host: Host) -> Channels {
        Channels(Arc::new(Shared {
            identity,
            host,
            peers: Mutex::default(),
        }))
    }

    /// This node, as its peers see it.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Tells where a peer listens; connections to an address it left are dropped.
    pub fn set_address(&self, node: BrokerId, listener: PeerListener, host: &str, port: u16) {
        let address = Address {
            host: host.into(),
            port,
        };
        let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.addresses.insert((node, listener), address);
        let of_node = (node, Purpose::Raft)..=(node, Purpose::CatchUp);
        let channels: Vec<_> = peers
            .channels
            .range(of_node)
            .map(|(k, c)| (k.1, c.clone()))
            .collect();
        for (purpose, channel) in channels {
            channel.set_address(peers.address(node, purpose));
        }
    }

    /// The channel to a peer for one purpose, always the same one; it connects at its first call.
    /// Calls fail at once while the peer's address is not known.
    pub fn channel(&self, node: BrokerId, purpose: Purpose) -> PeerChannel {
        let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let address = peers.address(node, purpose);
        let channel = peers.channels.entry((node, purpose)).or_insert_with(|| {
            let headers = identity::headers(&self.0.identity, Some(node));
            PeerChannel::new(self.0.host.clone(), self.tasks(purpose), headers, address)
        });
        channel.clone()
    }

    /// A channel of its own to an address whose node is not known yet (bootstrap servers).
    pub fn channel_to(&self, host: &str, port: u16) -> PeerChannel {
        let address = Address {
            host: host.into(),
            port,
        };
        let headers = identity::headers(&self.0.identity, None);
        let tasks = self.tasks(Purpose::Control);
        PeerChannel::new(self.0.host.clone(), tasks, headers, Some(address))
    }

    fn tasks(&self, purpose: Purpose) -> millrace_host::Tasks {
        match purpose {
            Purpose::Raft | Purpose::Control => self.0.host.control.clone(),
            Purpose::Replication | Purpose::CatchUp => self.0.host.tasks.clone(),
        }
    }
}
