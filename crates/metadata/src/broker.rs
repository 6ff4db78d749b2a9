//! Nodes of the cluster as the image knows them.

use millrace_model::{BrokerEpoch, BrokerId, DirectoryId, ImageVersion, Incarnation};

use crate::feature::FeatureRange;
use crate::partition::UNASSIGNED_DIRECTORY;
use crate::record::UnknownFields;

/// Where a node listens, as it wants to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, for instance `PLAINTEXT`.
    pub name: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A broker's registration (KIP-631).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// `node.id`.
    pub id: BrokerId,
    /// Given at registration; a new incarnation has a greater one.
    pub epoch: BrokerEpoch,
    /// The run of the process that registered.
    pub incarnation: Incarnation,
    /// Where clients and peers reach it.
    pub listeners: Vec<Listener>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// What it can run, sorted by name.
    pub features: Vec<FeatureRange>,
    /// The log directories that are online.
    pub directories: Vec<DirectoryId>,
    /// Those of them that are short of space and take no records from producers.
    pub short: Vec<DirectoryId>,
    /// Those of them whose syncs take long; whoever waits for all in sync should not wait for these.
    pub slow: Vec<DirectoryId>,
    /// A fenced broker leads nothing, joins no ISR and is shown to no client.
    pub fenced: bool,
    /// In controlled shutdown: hands over what it leads and joins no ISR.
    pub shutting_down: bool,
    /// The version of the image that first held this registration; the broker may be unfenced
    /// once its own image has come so far. Zero in a record that is not applied yet.
    pub registered_at: ImageVersion,
    /// What a newer release wrote and this build does not understand.
    pub unknown: UnknownFields,
}

impl Broker {
    /// Whether it may be given leaderships and places in an ISR.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.shutting_down
    }

    /// Whether a replica recorded in `directory` can be served; a replica whose directory the
    /// broker has yet to choose can.
    pub fn has_online(&self, directory: DirectoryId) -> bool {
        directory == UNASSIGNED_DIRECTORY || self.directories.contains(&directory)
    }

    /// Whether a replica recorded in `directory` can grow.
    pub fn has_room(&self, directory: DirectoryId) -> bool {
        self.may_be_outside(directory, &self.short)
    }

    /// Whether the disk under a replica recorded in `directory` is as quick as it should be.
    pub fn is_quick(&self, directory: DirectoryId) -> bool {
        self.may_be_outside(directory, &self.slow)
    }

    /// Whether a replica recorded in `directory` may lie in none of `these`.
    fn may_be_outside(&self, directory: DirectoryId, these: &[DirectoryId]) -> bool {
        match directory {
            UNASSIGNED_DIRECTORY => self.directories.iter().any(|d| !these.contains(d)),
            directory => !these.contains(&directory),
        }
    }

    /// Where a new replica goes: the only directory, or left to the broker to choose.
    pub fn default_directory(&self) -> DirectoryId {
        match self.directories.as_slice() {
            [only] => *only,
            _ => UNASSIGNED_DIRECTORY,
        }
    }

    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|l| l.name == name)
    }
}

/// A controller's registration (KIP-919).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// `node.id`.
    pub id: BrokerId,
    /// The run of the process that registered.
    pub incarnation: Incarnation,
    /// Where tools reach it.
    pub listeners: Vec<Listener>,
    /// What it can run, sorted by name.
    pub features: Vec<FeatureRange>,
    /// What a newer release wrote and this build does not understand.
    pub unknown: UnknownFields,
}
