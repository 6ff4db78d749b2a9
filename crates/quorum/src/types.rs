//! The types that openraft works with here.

use std::fmt;

use bytes::Bytes;
use millrace_model::{BrokerId, DirectoryId, ImageVersion};
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;

/// Who takes part in the quorum: a node together with its metadata directory, since a wiped disk
/// must never vote under an identity that may have voted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RaftId {
    /// The node's number.
    pub node: BrokerId,
    /// Its metadata directory.
    pub directory: DirectoryId,
}

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.node, self.directory)
    }
}

/// Where a member of the quorum listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// A name or an address.
    pub host: String,
    /// The port of its listener for peers.
    pub port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A batch of metadata records in its own encoding.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The version of the image after it.
    pub(crate) version: ImageVersion,
    /// False where the batch was based on an older image and changed nothing.
    pub(crate) accepted: bool,
}

openraft::declare_raft_types!(
    /// How openraft is used here.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = RaftId,
        Node = Place,
        LeaderId = leader_id_std::LeaderId<u64, RaftId>,
);

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, RaftId>;
pub(crate) type Term = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<Term>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Entry = <TypeConfig as openraft::RaftTypeConfig>::Entry;
pub(crate) type Payload = openraft::EntryPayload<Proposal, RaftId, Place>;
pub(crate) type Membership = openraft::Membership<RaftId, Place>;
pub(crate) type StoredMembership = openraft::StoredMembership<Term, RaftId, Place>;
pub(crate) type SnapshotMeta = openraft::storage::SnapshotMeta<Term, RaftId, Place>;
pub(crate) type Snapshot = openraft::storage::Snapshot<Term, RaftId, Place, Bytes>;

/// A log id of a term and an index.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(Term::from(term), index)
}
