//! The rebalance under way in a classic group: a state machine that answers by data.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire;
use bytes::Bytes;
use millrace_model::{ErrorCode, Timestamp};

use wire::group_metadata_value::GroupMetadataValue;
use wire::join_group_response::JoinGroupResponseMember;
use wire::{JoinGroupResponse, SyncGroupResponse};

use super::member::{Member, Protocols};
use super::{CONSUMER, Phase, Recorded, subscribed_topics};
use crate::group::{InstanceId, MemberId, Response};
use crate::shard::ReplyTo;

/// A classic group with members, or with members that are expected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Live {
    pub phase: Phase,
    pub since: Option<Timestamp>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Member>,
    pub statics: BTreeMap<InstanceId, MemberId>,
    /// Member ids that were given out and have not been used yet.
    pub pending: BTreeSet<MemberId>,
    /// Members that have not fetched this generation's assignment.
    pub unsynced: BTreeSet<MemberId>,
    /// The topics its members subscribe to, where they are known.
    pub subscribed: Option<BTreeSet<String>>,
    /// What the members' subscriptions take of memory.
    pub subscription_bytes: usize,
    /// How many members wait for the end of the join phase.
    joined: usize,
    /// How many members know a strategy.
    supporters: BTreeMap<String, usize>,
}

impl Live {
    /// A group as the log has it; without a record a new one.
    pub fn new(recorded: Option<&Recorded>, now: Timestamp) -> Live {
        let Some(recorded) = recorded else {
            return Live::empty(now);
        };
        let value = &recorded.0;
        let mut live = Live {
            generation: value.generation,
            protocol_type: recorded.protocol_type().map(str::to_owned),
            protocol: value.protocol.clone(),
            leader: value.leader.as_deref().map(MemberId::from),
            since: recorded.since(),
            ..Live::empty(now)
        };
        for member in &value.members {
            live.insert(Member::from_record(member, value.protocol.as_deref()));
        }
        if !live.members.is_empty() {
            live.phase = Phase::Stable;
        }
        live.subscribed = live.read_subscriptions();
        live
    }

    fn empty(now: Timestamp) -> Live {
        Live {
            phase: Phase::Empty,
            since: Some(now),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            subscribed: None,
            subscription_bytes: 0,
            joined: 0,
            supporters: BTreeMap::new(),
        }
    }

    /// Moves on; an illegal change is a bug here, not in a client.
    pub fn move_to(&mut self, phase: Phase, now: Timestamp) {
        assert!(
            phase.may_follow(self.phase),
            "a classic group cannot go from {:?} to {phase:?}",
            self.phase
        );
        self.phase = phase;
        self.since = Some(now);
    }

    /// Adds a member that joins; the first one decides what kind of group this is.
    pub fn add(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.pending.remove(&member.id);
        self.insert(member);
    }

    fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.joined += usize::from(member.joining.is_some());
        self.count_in(&member.protocols);
        self.members.insert(member.id.clone(), member);
    }

    fn count_in(&mut self, protocols: &Protocols) {
        self.subscription_bytes += protocols.bytes();
        for name in protocols.names() {
            *self.supporters.entry(name.to_owned()).or_default() += 1;
        }
    }

    fn count_out(&mut self, protocols: &Protocols) {
        self.subscription_bytes -= protocols.bytes();
        for name in protocols.names() {
            let supporters = self.supporters.get_mut(name).expect("counted in");
            *supporters -= 1;
            if *supporters == 0 {
                self.supporters.remove(name);
            }
        }
    }

    /// Takes a member out, or a member id that was given out; another one leads, if it led.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending.remove(id);
        self.unsynced.remove(id);
        let member = self.members.remove(id)?;
        self.joined -= usize::from(member.joining.is_some());
        self.count_out(&member.protocols);
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member a new id, and says who waited for the old one.
    pub fn rename(&mut self, old: &str, new: MemberId) -> Vec<(ReplyTo, Response)> {
        let mut replies = Vec::new();
        let joining = self.end_joining(old);
        let mut member = self.members.remove(old).expect("statics name members");
        if let Some(to) = joining {
            let fenced = JoinGroupResponse {
                member_id: old.to_owned(),
                error_code: ErrorCode::FencedInstanceId.code(),
                ..Default::default()
            };
            replies.push((to, Response::JoinGroup(fenced)));
        }
        if let Some(to) = member.syncing.take() {
            replies.push(sync_reply(to, ErrorCode::FencedInstanceId));
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(new.clone());
        }
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new.clone());
        }
        member.id = new.clone();
        self.members.insert(new, member);
        replies
    }

    /// Takes over what a member asks for as it joins again. Says who waited for it before: a request
    /// that the same member has given up.
    pub fn update(
        &mut self,
        id: &str,
        request: &wire::JoinGroupRequest,
        from: ReplyTo,
    ) -> Option<ReplyTo> {
        let protocols = Protocols::from_request(&request.protocols);
        self.count_in(&protocols);
        let member = self.members.get_mut(id).expect("the caller has looked");
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        let before = std::mem::replace(&mut member.protocols, protocols);
        let given_up = member.joining.replace(from);
        self.count_out(&before);
        self.joined += usize::from(given_up.is_none());
        given_up
    }

    /// Who waited for the end of the join phase in this member's name.
    pub fn end_joining(&mut self, id: &str) -> Option<ReplyTo> {
        let waiting = self.members.get_mut(id)?.joining.take();
        self.joined -= usize::from(waiting.is_some());
        waiting
    }

    pub fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether this member may speak (Kafka method `ClassicGroup.validateMember`).
    pub fn validate(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if **known != *id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Whether a member of this kind, with these strategies, fits in.
    pub fn supports<'a>(
        &self,
        protocol_type: &str,
        mut names: impl Iterator<Item = &'a str>,
    ) -> bool {
        let supporters = |name: &str| self.supporters.get(name).copied().unwrap_or(0);
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && names.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.any(|name| supporters(name) == self.members.len())
    }

    /// The strategy that everyone knows and most like best; among equals the first by name.
    pub fn select_protocol(&self) -> Option<String> {
        let common = self.supporters.iter();
        let common = common.filter(|(_, supporters)| **supporters == self.members.len());
        let candidates: Vec<&str> = common.map(|(name, _)| name.as_str()).collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for vote in self
            .members
            .values()
            .filter_map(|member| member.vote(&candidates))
        {
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().max()?;
        let chosen = votes.iter().find(|(_, count)| *count == most);
        chosen.map(|(name, _)| (*name).to_owned())
    }

    /// The topics of this generation's subscriptions.
    pub fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let members = self.members.values();
        subscribed_topics(members.filter_map(|member| member.protocols.metadata(protocol)))
    }

    /// How many members have joined.
    pub fn joined(&self) -> usize {
        self.joined
    }

    /// Whether all members have joined, and all who were given a member id.
    pub fn has_all_joined(&self) -> bool {
        self.pending.is_empty() && self.joined == self.members.len()
    }

    /// The longest time that a member needs to join again.
    pub fn rebalance_timeout_ms(&self) -> i32 {
        let timeouts = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).max(0)
    }

    /// What a member that has joined is told of its generation; the leader learns of everyone.
    pub fn join_answer(&self, id: &str) -> JoinGroupResponse {
        let members = match self.is_leader(id) {
            true => self
                .members
                .values()
                .map(|member| self.listed(member))
                .collect(),
            false => Vec::new(),
        };
        JoinGroupResponse {
            members,
            member_id: id.to_owned(),
            generation_id: self.generation,
            protocol_name: self.protocol.clone(),
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            ..Default::default()
        }
    }

    fn listed(&self, member: &Member) -> JoinGroupResponseMember {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        JoinGroupResponseMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance.as_deref().map(str::to_owned),
            metadata: member
                .protocols
                .metadata(protocol)
                .cloned()
                .unwrap_or_default(),
            ..Default::default()
        }
    }

    /// What a member is told once there is an assignment.
    pub fn sync_answer(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment,
            ..Default::default()
        }
    }

    /// The group as the log is to have it, with each member's assignment.
    pub fn to_record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupMetadataValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values();
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            current_state_timestamp: self.since.unwrap_or(Timestamp::NONE).get(),
            members: members
                .map(|member| member.to_record(protocol, assignment(member)))
                .collect(),
            ..Default::default()
        }
    }

    /// The log has this of the group now: an assignment that was waited for is in force. Says
    /// whether there is nothing left that the record does not say as well.
    pub fn applied(&mut self, recorded: &Recorded) -> bool {
        let value = &recorded.0;
        if value.generation != self.generation {
            return false;
        }
        if self.phase == Phase::CompletingRebalance {
            for assigned in &value.members {
                if let Some(member) = self.members.get_mut(assigned.member_id.as_str()) {
                    member.assignment = assigned.assignment.clone();
                }
            }
            let since = recorded.since().unwrap_or(Timestamp::NONE);
            self.move_to(Phase::Stable, since);
        }
        self.phase == Phase::Empty && self.members.is_empty() && self.pending.is_empty()
    }
}

/// A refusal to someone who waits for an assignment.
pub(crate) fn sync_reply(to: ReplyTo, code: ErrorCode) -> (ReplyTo, Response) {
    let refused = SyncGroupResponse {
        error_code: code.code(),
        ..Default::default()
    };
    (to, Response::SyncGroup(refused))
}
