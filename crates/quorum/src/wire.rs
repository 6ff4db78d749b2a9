//! The quorum's encodings: how openraft's values look on the wire and on disk.
//!
//! Both use the messages of `proto/raft.proto`, never an image of openraft's own types, so that an
//! upgrade of openraft changes neither.

use bytes::Bytes;
use millrace_model::{BrokerId, DirectoryId, Uuid};
use millrace_rpc::proto::raft;
use millrace_rpc::proto::raft::entry::Payload as WirePayload;
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftVote;
use thiserror::Error;

use crate::types::{
    Entry, LogId, Membership, Payload, Place, Proposal, RaftId, SnapshotMeta, StoredMembership,
    Vote, log_id,
};

/// What a peer or a disk said makes no sense.
#[derive(Debug, Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for std::io::Error {
    fn from(malformed: Malformed) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, malformed)
    }
}

impl From<Malformed> for millrace_rpc::tonic::Status {
    fn from(malformed: Malformed) -> Self {
        millrace_rpc::tonic::Status::invalid_argument(malformed.to_string())
    }
}

pub(crate) fn encode_id(id: &RaftId) -> raft::Id {
    raft::Id {
        node: id.node.get(),
        directory: Bytes::copy_from_slice(&id.directory.0.0),
    }
}

pub(crate) fn decode_id(id: &raft::Id) -> Result<RaftId, Malformed> {
    let directory: [u8; 16] = id
        .directory
        .as_ref()
        .try_into()
        .map_err(|_| Malformed("directory id"))?;
    Ok(RaftId {
        node: BrokerId(id.node),
        directory: DirectoryId(Uuid(directory)),
    })
}

pub(crate) fn encode_vote(vote: &Vote) -> raft::Vote {
    raft::Vote {
        term: vote.leader_id().term,
        leader: Some(encode_id(&vote.leader_id().voted_for)),
        committed: vote.is_committed(),
    }
}

pub(crate) fn decode_vote(vote: &raft::Vote) -> Result<Vote, Malformed> {
    let voted_for = decode_id(vote.leader.as_ref().ok_or(Malformed("vote"))?)?;
    let leader = LeaderId {
        term: vote.term,
        voted_for,
    };
    Ok(Vote::from_leader_id(leader, vote.committed))
}

pub(crate) fn decode_some_vote(vote: Option<&raft::Vote>) -> Result<Vote, Malformed> {
    decode_vote(vote.ok_or(Malformed("vote"))?)
}

pub(crate) fn encode_log_id(id: &LogId) -> raft::LogId {
    raft::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn decode_log_id(id: &raft::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub(crate) fn encode_membership(membership: &Membership) -> raft::Membership {
    let sets = membership.get_joint_config().iter();
    let members = membership.nodes().map(|(id, place)| raft::Member {
        id: Some(encode_id(id)),
        node: Some(raft::Node {
            host: place.host.clone(),
            port: place.port.into(),
        }),
    });
    raft::Membership {
        voters: sets
            .map(|set| raft::VoterSet {
                ids: set.iter().map(encode_id).collect(),
            })
            .collect(),
        members: members.collect(),
    }
}

pub(crate) fn decode_membership(membership: &raft::Membership) -> Result<Membership, Malformed> {
    let mut sets = Vec::new();
    for set in &membership.voters {
        sets.push(set.ids.iter().map(decode_id).collect::<Result<_, _>>()?);
    }
    let mut members = std::collections::BTreeMap::new();
    for member in &membership.members {
        let id = decode_id(member.id.as_ref().ok_or(Malformed("member"))?)?;
        members.insert(id, decode_place(member.node.as_ref())?);
    }
    if sets.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(sets, members).map_err(|_| Malformed("membership"))
}

pub(crate) fn decode_place(node: Option<&raft::Node>) -> Result<Place, Malformed> {
    let node = node.ok_or(Malformed("node"))?;
    Ok(Place {
        host: node.host.clone(),
        port: u16::try_from(node.port).map_err(|_| Malformed("port"))?,
    })
}

pub(crate) fn encode_entry(entry: &Entry) -> raft::Entry {
    let payload = match &entry.payload {
        Payload::Blank => WirePayload::Blank(true),
        Payload::Normal(Proposal(batch)) => WirePayload::Batch(batch.clone()),
        Payload::Membership(membership) => WirePayload::Membership(encode_membership(membership)),
    };
    raft::Entry {
        log_id: Some(encode_log_id(&entry.log_id)),
        payload: Some(payload),
    }
}

pub(crate) fn decode_entry(entry: raft::Entry) -> Result<Entry, Malformed> {
    let log_id = decode_log_id(&entry.log_id.ok_or(Malformed("entry"))?);
    let payload = match entry.payload.ok_or(Malformed("entry"))? {
        WirePayload::Blank(_) => Payload::Blank,
        WirePayload::Batch(batch) => Payload::Normal(Proposal(batch)),
        WirePayload::Membership(membership) => Payload::Membership(decode_membership(&membership)?),
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn encode_meta(meta: &SnapshotMeta) -> raft::SnapshotMeta {
    raft::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(encode_log_id),
        membership: Some(raft::StoredMembership {
            log_id: meta.last_membership.log_id().as_ref().map(encode_log_id),
            membership: Some(encode_membership(meta.last_membership.membership())),
        }),
    }
}

pub(crate) fn decode_meta(meta: &raft::SnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let stored = meta.membership.as_ref().ok_or(Malformed("snapshot"))?;
    let membership = decode_membership(stored.membership.as_ref().ok_or(Malformed("snapshot"))?)?;
    Ok(SnapshotMeta {
        last_log_id: meta.last.as_ref().map(decode_log_id),
        last_membership: StoredMembership::new(
            stored.log_id.as_ref().map(decode_log_id),
            membership,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn entries_and_snapshots_survive_the_wire() {
        let id = |node| RaftId {
            node: BrokerId(node),
            directory: DirectoryId(Uuid([node as u8; 16])),
        };
        let place = |port| Place {
            host: "localhost".into(),
            port,
        };
        let nodes = BTreeMap::from([(id(1), place(1)), (id(2), place(2)), (id(9), place(9))]);
        let sets = vec![BTreeSet::from([id(1)]), BTreeSet::from([id(1), id(2)])];
        let membership = Membership::new(sets, nodes).unwrap();
        for payload in [
            Payload::Blank,
            Payload::Normal(Proposal(Bytes::from_static(b"batch"))),
            Payload::Membership(membership.clone()),
        ] {
            let entry = Entry {
                log_id: log_id(3, 7),
                payload,
            };
            assert_eq!(decode_entry(encode_entry(&entry)).unwrap(), entry);
        }
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(4, 9)),
            last_membership: StoredMembership::new(Some(log_id(1, 2)), membership),
        };
        assert_eq!(decode_meta(&encode_meta(&meta)).unwrap(), meta);
        let empty = SnapshotMeta::default();
        assert_eq!(decode_meta(&encode_meta(&empty)).unwrap(), empty);
        let vote = Vote::new_committed(5, id(2));
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
    }
}
