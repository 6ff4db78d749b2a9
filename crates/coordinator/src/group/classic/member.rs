//! A member of a classic group (Kafka class `ClassicGroupMember`).

use std::time::Duration;

use crate::wire;
use bytes::Bytes;
use millrace_model::Timestamp;

use wire::describe_groups_response::DescribedGroupMember;
use wire::group_metadata_value::MemberMetadata;
use wire::join_group_request::JoinGroupRequestProtocol;

use crate::group::{InstanceId, MemberId};
use crate::shard::ReplyTo;

/// What a member can do, what it has been told, and what it waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub id: MemberId,
    pub instance: Option<InstanceId>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Protocols,
    pub assignment: Bytes,
    /// Who waits for the end of the join phase.
    pub joining: Option<ReplyTo>,
    /// Who waits for the leader's assignment.
    pub syncing: Option<ReplyTo>,
    /// Whether it has never heard of its member id, so that it cannot send heartbeats.
    pub is_new: bool,
}

/// The assignment strategies a member knows, best first, each with the member's subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Protocols(pub Vec<(String, Bytes)>);

impl Protocols {
    /// Copies what a request asks for: the request's bytes share its whole frame. A name that comes
    /// twice counts once, as the first (Kafka has a set here).
    pub fn from_request(protocols: &[JoinGroupRequestProtocol]) -> Protocols {
        let mut list: Vec<(String, Bytes)> = Vec::new();
        for protocol in protocols {
            if !list.iter().any(|(name, _)| *name == protocol.name) {
                let metadata = Bytes::copy_from_slice(&protocol.metadata);
                list.push((protocol.name.clone(), metadata));
            }
        }
        Protocols(list)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The subscription that goes with this strategy.
    pub fn metadata(&self, name: &str) -> Option<&Bytes> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, metadata)| metadata)
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        let sizes = self.0.iter().map(|(name, bytes)| name.len() + bytes.len());
        sizes.sum()
    }
}

impl Member {
    /// A member as the log has it: of its strategies only the chosen one is known.
    pub fn from_record(recorded: &MemberMetadata, protocol: Option<&str>) -> Member {
        let protocols = protocol.map(|name| (name.to_owned(), recorded.subscription.clone()));
        let rebalance_timeout_ms = match recorded.rebalance_timeout {
            -1 => recorded.session_timeout,
            known => known,
        };
        Member {
            id: recorded.member_id.as_str().into(),
            instance: recorded.group_instance_id.as_deref().map(InstanceId::from),
            client_id: recorded.client_id.clone(),
            client_host: recorded.client_host.clone(),
            rebalance_timeout_ms,
            session_timeout_ms: recorded.session_timeout,
            protocols: Protocols(protocols.into_iter().collect()),
            assignment: recorded.assignment.clone(),
            joining: None,
            syncing: None,
            is_new: false,
        }
    }

    /// As the log is to have it.
    pub fn to_record(&self, protocol: &str, assignment: Bytes) -> MemberMetadata {
        let subscription = self.protocols.metadata(protocol);
        MemberMetadata {
            member_id: self.id.to_string(),
            group_instance_id: self.instance.as_deref().map(str::to_owned),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout: self.rebalance_timeout_ms,
            session_timeout: self.session_timeout_ms,
            subscription: subscription.cloned().unwrap_or_default(),
            assignment,
            ..Default::default()
        }
    }

    /// As DescribeGroups shows it; with subscription and assignment where there is a strategy.
    pub fn describe(&self, protocol: Option<&str>) -> DescribedGroupMember {
        let metadata = protocol.and_then(|name| self.protocols.metadata(name));
        DescribedGroupMember {
            member_id: self.id.to_string(),
            group_instance_id: self.instance.as_deref().map(str::to_owned),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            member_metadata: metadata.cloned().unwrap_or_default(),
            member_assignment: match protocol {
                Some(_) => self.assignment.clone(),
                None => Bytes::new(),
            },
            ..Default::default()
        }
    }

    /// When its session ends if nothing is heard from it from now on.
    pub fn session_due(&self, now: Timestamp) -> Timestamp {
        let span = u64::try_from(self.session_timeout_ms).unwrap_or(0);
        now.after(Duration::from_millis(span))
    }

    /// The first of its strategies that is among these.
    pub fn vote<'a>(&'a self, candidates: &[&str]) -> Option<&'a str> {
        self.protocols
            .names()
            .find(|name| candidates.contains(name))
    }
}
