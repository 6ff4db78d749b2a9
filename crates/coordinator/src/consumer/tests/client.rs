//! A client that does as the protocol says, for the model.

use std::collections::BTreeSet;

use bytes::Bytes;
use millrace_model::{ErrorCode, TopicId};
use millrace_protocol::{Decode, Message, Reader, Writer};

use super::bench::{Bench, GROUP, Shown};
use crate::assignor::Partitions;
use crate::group::{Call, Response, Topics};
use crate::regex::TopicExpression;
use crate::wire::consumer_group_heartbeat_request::TopicPartitions;
use crate::wire::{self, ConsumerGroupHeartbeatRequest, ConsumerProtocolSubscription};

/// What a client subscribes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Subscription {
    pub names: Vec<String>,
    pub expression: Option<&'static str>,
}

impl Subscription {
    /// The topics it stands for.
    pub fn topics(&self, shown: &Shown) -> BTreeSet<String> {
        let expression = self
            .expression
            .map(|text| TopicExpression::parse(text).unwrap());
        let mut topics = BTreeSet::new();
        shown.each(&mut |name, _| {
            let name = name.to_string();
            if self.names.contains(&name) || expression.as_ref().is_some_and(|e| e.matches(&name)) {
                topics.insert(name);
            }
        });
        topics
    }
}

/// Whether an answer reaches the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Heard {
    Answer,
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Client {
    pub id: String,
    pub instance: Option<String>,
    pub is_classic: bool,
    pub subscription: Subscription,
    /// What it consumes.
    pub owned: BTreeSet<(TopicId, i32)>,
    /// What it was last told to consume.
    told: BTreeSet<(TopicId, i32)>,
    epoch: i32,
    is_member: bool,
    /// Whether its next heartbeat says everything: after something has changed or got lost.
    says_all: bool,
    /// Whether it knows its id from the coordinator, as a classic member has to.
    has_id: bool,
}

impl Client {
    pub fn new(id: String, instance: Option<String>, subscription: Subscription) -> Client {
        Client {
            id,
            instance,
            is_classic: false,
            subscription,
            owned: BTreeSet::new(),
            told: BTreeSet::new(),
            epoch: 0,
            is_member: false,
            says_all: true,
            has_id: false,
        }
    }

    pub fn subscribe(&mut self, subscription: Subscription) {
        self.subscription = subscription;
        if self.is_classic {
            self.subscription.expression = None;
            // A classic consumer joins anew to say so.
            self.is_member = false;
        }
        self.says_all = true;
    }

    /// Goes; a static member will be back.
    pub fn leave(&mut self, bench: &mut Bench) {
        self.owned.clear();
        self.told.clear();
        if self.is_member && !self.is_classic {
            let epoch = if self.instance.is_some() { -2 } else { -1 };
            let request = ConsumerGroupHeartbeatRequest {
                member_epoch: epoch,
                ..self.request()
            };
            let asked = bench.ask(&self.id, 1, Call::ConsumerGroupHeartbeat(request));
            bench.replies.remove(&asked);
        } else if self.is_classic && self.has_id && self.instance.is_none() {
            let member = wire::leave_group_request::MemberIdentity {
                member_id: self.id.clone(),
                ..Default::default()
            };
            let request = wire::LeaveGroupRequest {
                group_id: GROUP.to_owned(),
                members: vec![member],
                ..Default::default()
            };
            let asked = bench.ask(&self.id, 5, Call::LeaveGroup(request));
            bench.replies.remove(&asked);
        }
        self.lose_everything();
    }

    /// It is no member, and joins again when it next speaks.
    fn lose_everything(&mut self) {
        self.owned.clear();
        self.told.clear();
        self.epoch = 0;
        self.is_member = false;
        self.says_all = true;
    }

    /// Does what it has been told, if it gets to it, and speaks.
    pub fn beat(&mut self, bench: &mut Bench, gives_up: bool, heard: Heard) {
        if gives_up {
            let told = self.told.clone();
            self.owned.retain(|partition| told.contains(partition));
        }
        match self.is_classic {
            true => self.beat_classic(bench, gives_up, heard),
            false => self.beat_consumer(bench, gives_up, heard),
        }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            ..Default::default()
        }
    }

    fn beat_consumer(&mut self, bench: &mut Bench, gives_up: bool, heard: Heard) {
        let mut request = self.request();
        if self.says_all || !self.is_member {
            request.rebalance_timeout_ms = 20_000;
            request.subscribed_topic_names = Some(self.subscription.names.clone());
            let expression = self.subscription.expression.unwrap_or_default();
            request.subscribed_topic_regex = Some(expression.to_owned());
        }
        if !self.is_member {
            request.member_epoch = 0;
            self.owned.clear();
        }
        if self.says_all || gives_up {
            let owned = by_topic(&self.owned);
            let owned = owned
                .0
                .into_iter()
                .map(|(topic, partitions)| TopicPartitions {
                    topic_id: topic.0,
                    partitions,
                    ..Default::default()
                });
            request.topic_partitions = Some(owned.collect());
        }
        let asked = bench.ask(&self.id, 1, Call::ConsumerGroupHeartbeat(request));
        let answer = bench
            .replies
            .remove(&asked)
            .filter(|_| heard == Heard::Answer);
        let Some(Response::ConsumerGroupHeartbeat(answer)) = answer else {
            self.says_all = true;
            return;
        };
        match ErrorCode::from_code(answer.error_code).unwrap() {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::GroupIdNotFound
            | ErrorCode::UnreleasedInstanceId
            | ErrorCode::FencedInstanceId => return self.lose_everything(),
            other => panic!("{other} for {}", self.id),
        }
        self.says_all = false;
        self.is_member = true;
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.told = topics
                .flat_map(|topic| {
                    let id = TopicId(topic.topic_id);
                    topic
                        .partitions
                        .into_iter()
                        .map(move |partition| (id, partition))
                })
                .collect();
        }
        // What it is to give up it still has until it gets to it; what it gets it has at once.
        self.owned.extend(self.told.iter().copied());
    }

    fn beat_classic(&mut self, bench: &mut Bench, gives_up: bool, heard: Heard) {
        if self.is_member && !self.says_all && self.owned == self.told {
            let request = wire::HeartbeatRequest {
                group_id: GROUP.to_owned(),
                generation_id: self.epoch,
                member_id: self.id.clone(),
                group_instance_id: self.instance.clone(),
                ..Default::default()
            };
            let asked = bench.ask(&self.id, 4, Call::Heartbeat(request));
            let Some(Response::Heartbeat(answer)) = bench.replies.remove(&asked) else {
                return;
            };
            return match ErrorCode::from_code(answer.error_code).unwrap() {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress => self.says_all = true,
                _ => self.forget_id(),
            };
        }
        if gives_up {
            self.join(bench, heard);
        }
    }

    fn forget_id(&mut self) {
        self.has_id = false;
        self.lose_everything();
    }

    /// JoinGroup, and SyncGroup at once; then it gives up what it has to before it joins again.
    fn join(&mut self, bench: &mut Bench, heard: Heard) {
        for _ in 0..2 {
            let request = self.join_request(bench);
            let asked = bench.ask(&self.id, 9, Call::JoinGroup(request));
            let answer = bench
                .replies
                .remove(&asked)
                .filter(|_| heard == Heard::Answer);
            let Some(Response::JoinGroup(answer)) = answer else {
                self.says_all = true;
                return;
            };
            if !answer.member_id.is_empty() {
                self.id.clone_from(&answer.member_id);
            }
            match ErrorCode::from_code(answer.error_code).unwrap() {
                ErrorCode::None => {
                    self.has_id = true;
                    self.epoch = answer.generation_id;
                    return self.sync(bench);
                }
                ErrorCode::MemberIdRequired => self.has_id = true,
                _ => return self.forget_id(),
            }
        }
    }

    fn join_request(&self, bench: &Bench) -> wire::JoinGroupRequest {
        let protocol = wire::join_group_request::JoinGroupRequestProtocol {
            name: "cooperative-sticky".to_owned(),
            metadata: self.embedded_subscription(bench),
            ..Default::default()
        };
        wire::JoinGroupRequest {
            group_id: GROUP.to_owned(),
            session_timeout_ms: 20_000,
            rebalance_timeout_ms: 20_000,
            member_id: if self.has_id {
                self.id.clone()
            } else {
                String::new()
            },
            group_instance_id: self.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol],
            ..Default::default()
        }
    }

    fn embedded_subscription(&self, bench: &Bench) -> Bytes {
        use wire::consumer_protocol_subscription::TopicPartition;
        let owned = by_topic(&self.owned);
        let owned = owned.0.into_iter().filter_map(|(topic, partitions)| {
            Some(TopicPartition {
                topic: bench.topics.name_of(topic)?.to_string(),
                partitions,
            })
        });
        let subscription = ConsumerProtocolSubscription {
            topics: self.subscription.names.clone(),
            owned_partitions: owned.collect(),
            ..Default::default()
        };
        let version = ConsumerProtocolSubscription::VERSIONS.1;
        let mut writer = Writer::new();
        writer.i16(version);
        subscription.encode(&mut writer, version).unwrap();
        writer.into_bytes()
    }

    fn sync(&mut self, bench: &mut Bench) {
        let request = wire::SyncGroupRequest {
            group_id: GROUP.to_owned(),
            generation_id: self.epoch,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("cooperative-sticky".to_owned()),
            ..Default::default()
        };
        let asked = bench.ask(&self.id, 5, Call::SyncGroup(request));
        let Some(Response::SyncGroup(answer)) = bench.replies.remove(&asked) else {
            return;
        };
        match ErrorCode::from_code(answer.error_code).unwrap() {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => {
                self.says_all = true;
                return;
            }
            _ => return self.forget_id(),
        }
        let mut reader = Reader::new(&answer.assignment);
        let version = reader.i16().unwrap();
        let read = wire::ConsumerProtocolAssignment::decode(&mut reader, version).unwrap();
        self.told.clear();
        for each in read.assigned_partitions {
            let topic = bench.topics.by_name(&each.topic).unwrap().id;
            self.told.extend(
                each.partitions
                    .into_iter()
                    .map(|partition| (topic, partition)),
            );
        }
        self.is_member = true;
        self.says_all = false;
        self.owned.extend(self.told.iter().copied());
        // The cooperative protocol: who has to give up joins again to say so.
        if self.owned != self.told {
            self.owned = self.told.clone();
            self.says_all = true;
        }
    }
}

fn by_topic(partitions: &BTreeSet<(TopicId, i32)>) -> Partitions {
    let single = partitions
        .iter()
        .map(|(topic, partition)| (*topic, vec![*partition]));
    Partitions::from_unsorted(single)
}
