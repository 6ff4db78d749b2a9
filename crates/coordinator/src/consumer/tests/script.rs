//! Scripts: what members do, line by line, and what they are to see.
//!
//! ```text
//! topic t 3                      makes a topic, or gives it more partitions
//! drop t                         deletes it
//! +5000                          time passes
//! wall 5000                      the wall clock is ahead by so much
//! fail over                      another broker takes over
//! lose append                    the next records are not appended, and nobody is answered
//! a join t,u rack=r => 2 t:0-2   epoch, and what the member is told to own: - for nothing,
//!                                . for no word about it
//! a beat => 2 .                  says nothing new
//! a own t:0 => 2 .               says what it owns
//! a sub u => 3 .                 subscribes anew
//! a leave => -1 .                goes; `away` goes for a while
//! group => Stable 3 3            state, epoch, epoch of the assignment
//! a classic-join t owned=t:0 => 3    JoinGroup: generation, or `waits`
//! a answer => 3                  the answer that a member has waited for
//! a classic-sync => t:0-2        SyncGroup: what it has
//! a classic-beat => NONE         Heartbeat; `classic-leave` LeaveGroup
//! ```
//!
//! A name of an error stands for that error in every answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_model::{ErrorCode, TopicId};
use millrace_protocol::{Decode, Message, Reader, Writer};

use super::bench::{Bench, GROUP};
use crate::assignor::Partitions;
use crate::group::{Call, Response, Topics};
use crate::wire::consumer_group_heartbeat_request::TopicPartitions;
use crate::wire::{self, ConsumerGroupHeartbeatRequest, ConsumerProtocolSubscription};

/// Runs a script from nothing.
#[track_caller]
pub(super) fn check(script: &str) -> Play {
    let mut play = Play::new();
    play.run(script);
    play
}

/// A client as far as a coordinator can see it.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    epoch: i32,
    instance: Option<String>,
    waiting: Option<u64>,
    protocol: Option<String>,
}

#[derive(Debug)]
pub(super) struct Play {
    pub bench: Bench,
    clients: BTreeMap<String, Client>,
}

impl Play {
    pub fn new() -> Play {
        Play {
            bench: Bench::new(),
            clients: BTreeMap::new(),
        }
    }

    #[track_caller]
    pub fn run(&mut self, script: &str) {
        for line in script
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let (what, expected) = match line.split_once("=>") {
                Some((what, expected)) => (what.trim(), Some(expected.trim())),
                None => (line, None),
            };
            let seen = self.step(what);
            if let Some(expected) = expected {
                assert_eq!(seen, expected, "\n  {line}\n{:?}", self.bench.state());
            }
        }
        for records in 0..=self.bench.log.len() {
            self.bench.replayed(records);
        }
        let compacted = self.bench.compacted();
        let state = compacted.state().consumer(GROUP);
        assert_eq!(state, self.bench.state(), "compaction changes nothing");
    }

    fn step(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["topic", name, partitions] => {
                self.bench.topics.make(name, partitions.parse().unwrap());
            }
            ["place", name, racks] => {
                let racks: Vec<&str> = racks.split(',').collect();
                self.bench.topics.place(name, &racks);
            }
            ["drop", name] => self.bench.topics.drop(name),
            ["fail", "over"] => self.bench.fail_over(),
            ["lose", "append"] => self.bench.loses_append = true,
            ["group"] => return self.group(),
            ["wall", ahead] => self.bench.wall_ahead = ahead.parse().unwrap(),
            [time] if time.starts_with('+') => self.bench.pass(time[1..].parse().unwrap()),
            [who, verb, rest @ ..] => return self.act(who, verb, rest),
            other => panic!("what is {other:?}?"),
        }
        String::new()
    }

    fn group(&self) -> String {
        let Some(state) = self.bench.state() else {
            return "none".to_owned();
        };
        format!(
            "{} {} {}",
            state.state_name(),
            state.epoch,
            state.assignment_epoch
        )
    }

    fn act(&mut self, who: &str, verb: &str, rest: &[&str]) -> String {
        let client = self
            .clients
            .entry(who.to_owned())
            .or_insert_with(|| Client {
                id: who.to_owned(),
                ..Client::default()
            });
        let options = Options::read(rest);
        if let Some(instance) = &options.instance {
            client.instance = Some(instance.clone());
        }
        if let Some(id) = &options.id {
            client.id = id.clone();
        }
        if let Some(epoch) = options.epoch {
            client.epoch = epoch;
        }
        match verb {
            "classic-join" => self.classic_join(who, &options),
            "answer" => self.answered(who),
            "classic-sync" => self.classic_sync(who),
            "classic-beat" => self.classic_beat(who),
            "classic-leave" => self.classic_leave(who),
            "commit" => self.commit(who, &options),
            _ => self.heartbeat(who, verb, &options),
        }
    }

    fn heartbeat(&mut self, who: &str, verb: &str, options: &Options) -> String {
        let client = &self.clients[who];
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: client.id.clone(),
            member_epoch: client.epoch,
            instance_id: client.instance.clone(),
            rack_id: options.rack.clone(),
            rebalance_timeout_ms: options.timeout.unwrap_or(-1),
            server_assignor: options.assignor.clone(),
            subscribed_topic_regex: options.regex.clone(),
            ..Default::default()
        };
        match verb {
            "join" => {
                request.member_epoch = options.epoch.unwrap_or(0);
                request.rebalance_timeout_ms = options.timeout.unwrap_or(60_000);
                request.subscribed_topic_names = Some(options.topics.clone());
                request.topic_partitions = Some(Vec::new());
            }
            "sub" => request.subscribed_topic_names = Some(options.topics.clone()),
            "own" => request.topic_partitions = Some(self.owned(options)),
            "leave" => request.member_epoch = -1,
            "away" => request.member_epoch = -2,
            "beat" => {}
            other => panic!("what is {other}?"),
        }
        let call = Call::ConsumerGroupHeartbeat(request);
        let asked = self.bench.ask(who, 1, call);
        let Some(response) = self.bench.replies.remove(&asked) else {
            return "nothing".to_owned();
        };
        let Response::ConsumerGroupHeartbeat(response) = response else {
            panic!("{response:?}")
        };
        if response.error_code != 0 {
            return name(response.error_code);
        }
        let client = self.clients.get_mut(who).unwrap();
        if response.member_epoch >= 0 {
            client.epoch = response.member_epoch;
        }
        if let Some(id) = response.member_id {
            client.id = id;
        }
        let assignment = response.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.into_iter();
            topics.map(|topic| (TopicId(topic.topic_id), topic.partitions))
        });
        let told = assignment.map_or_else(|| ".".to_owned(), |assignment| self.show(assignment));
        format!("{} {told}", response.member_epoch)
    }

    fn owned(&self, options: &Options) -> Vec<TopicPartitions> {
        let owned = options.partitions.iter().filter_map(|(topic, partitions)| {
            Some(TopicPartitions {
                topic_id: self.bench.topics.by_name(topic)?.id.0,
                partitions: partitions.clone(),
                ..Default::default()
            })
        });
        owned.collect()
    }

    /// Partitions as a script writes them.
    fn show(&self, partitions: impl Iterator<Item = (TopicId, Vec<i32>)>) -> String {
        let sorted = Partitions::from_unsorted(partitions);
        let mut words: Vec<String> = sorted
            .0
            .iter()
            .map(|(topic, partitions)| {
                let name = self.bench.topics.name_of(*topic);
                let name = name.map_or_else(|| "?".to_owned(), |name| name.to_string());
                let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
                format!("{name}:{}", numbers.join(","))
            })
            .collect();
        words.sort();
        match words.is_empty() {
            true => "-".to_owned(),
            false => words.join(" "),
        }
    }

    fn classic_join(&mut self, who: &str, options: &Options) -> String {
        let mut answer = self.try_classic_join(who, options);
        if answer == "MEMBER_ID_REQUIRED" {
            answer = self.try_classic_join(who, options);
        }
        answer
    }

    fn try_classic_join(&mut self, who: &str, options: &Options) -> String {
        let client = &self.clients[who];
        // A script's client has no id before it has been given one.
        let member_id = if client.id == who {
            String::new()
        } else {
            client.id.clone()
        };
        let protocol = wire::join_group_request::JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: subscription(options),
            ..Default::default()
        };
        let request = wire::JoinGroupRequest {
            group_id: GROUP.to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: options.timeout.unwrap_or(60_000),
            member_id,
            group_instance_id: client.instance.clone(),
            protocol_type: options
                .kind
                .clone()
                .unwrap_or_else(|| "consumer".to_owned()),
            protocols: vec![protocol],
            ..Default::default()
        };
        let asked = self.bench.ask(who, 9, Call::JoinGroup(request));
        self.clients.get_mut(who).unwrap().waiting = Some(asked);
        self.answered(who)
    }

    fn answered(&mut self, who: &str) -> String {
        let client = self.clients.get_mut(who).unwrap();
        let Some(response) = client.waiting.and_then(|to| self.bench.replies.remove(&to)) else {
            return "waits".to_owned();
        };
        let Response::JoinGroup(response) = response else {
            panic!("{response:?}")
        };
        if !response.member_id.is_empty() {
            client.id = response.member_id;
        }
        if response.error_code != 0 {
            return name(response.error_code);
        }
        client.epoch = response.generation_id;
        client.protocol = response.protocol_name;
        response.generation_id.to_string()
    }

    fn classic_sync(&mut self, who: &str) -> String {
        let request = self.sync_request(who);
        let asked = self.bench.ask(who, 5, Call::SyncGroup(request));
        let Some(Response::SyncGroup(response)) = self.bench.replies.remove(&asked) else {
            return "waits".to_owned();
        };
        if response.error_code != 0 {
            return name(response.error_code);
        }
        if response.assignment.is_empty() {
            return "-".to_owned();
        }
        let mut reader = Reader::new(&response.assignment);
        let version = reader.i16().unwrap();
        let read = wire::ConsumerProtocolAssignment::decode(&mut reader, version).unwrap();
        let topics = &self.bench.topics;
        let assigned = read.assigned_partitions.into_iter();
        let assigned =
            assigned.map(|each| (topics.by_name(&each.topic).unwrap().id, each.partitions));
        self.show(assigned)
    }

    fn classic_beat(&mut self, who: &str) -> String {
        let client = &self.clients[who];
        let request = wire::HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation_id: client.epoch,
            member_id: client.id.clone(),
            group_instance_id: client.instance.clone(),
            ..Default::default()
        };
        let asked = self.bench.ask(who, 4, Call::Heartbeat(request));
        match self.bench.replies.remove(&asked) {
            Some(Response::Heartbeat(response)) => name(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    fn classic_leave(&mut self, who: &str) -> String {
        let client = &self.clients[who];
        let member = wire::leave_group_request::MemberIdentity {
            member_id: client.id.clone(),
            group_instance_id: client.instance.clone(),
            ..Default::default()
        };
        let request = wire::LeaveGroupRequest {
            group_id: GROUP.to_owned(),
            members: vec![member],
            ..Default::default()
        };
        let asked = self.bench.ask(who, 5, Call::LeaveGroup(request));
        match self.bench.replies.remove(&asked) {
            Some(Response::LeaveGroup(response)) => name(response.members[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    /// The leader of a classic group gives out these shares; everyone fetches theirs.
    pub fn assign_classic(&mut self, shares: &[(&str, &str)]) {
        let version = ConsumerProtocolSubscription::VERSIONS.1;
        let assignments = shares.iter().map(|(who, share)| {
            let (topic, partitions) = read_partitions(share);
            let assignment = wire::ConsumerProtocolAssignment {
                assigned_partitions: vec![wire::consumer_protocol_assignment::TopicPartition {
                    topic,
                    partitions,
                }],
                ..Default::default()
            };
            let mut writer = Writer::new();
            writer.i16(version);
            assignment.encode(&mut writer, version).unwrap();
            wire::sync_group_request::SyncGroupRequestAssignment {
                member_id: self.clients[*who].id.clone(),
                assignment: writer.into_bytes(),
                ..Default::default()
            }
        });
        let assignments: Vec<_> = assignments.collect();
        for (who, _) in shares {
            let request = wire::SyncGroupRequest {
                assignments: assignments.clone(),
                ..self.sync_request(who)
            };
            self.bench.ask(who, 5, Call::SyncGroup(request));
        }
        self.bench.replies.clear();
    }

    fn sync_request(&self, who: &str) -> wire::SyncGroupRequest {
        let client = &self.clients[who];
        wire::SyncGroupRequest {
            group_id: GROUP.to_owned(),
            generation_id: client.epoch,
            member_id: client.id.clone(),
            group_instance_id: client.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: client.protocol.clone(),
            ..Default::default()
        }
    }

    /// Commits offset 1 of a partition: `commit t:0 epoch=2`.
    fn commit(&mut self, who: &str, options: &Options) -> String {
        use wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let client = &self.clients[who];
        let topics =
            options
                .partitions
                .iter()
                .map(|(topic, partitions)| OffsetCommitRequestTopic {
                    name: topic.clone(),
                    topic_id: self.bench.topics.by_name(topic).unwrap().id.0,
                    partitions: partitions
                        .iter()
                        .map(|partition| OffsetCommitRequestPartition {
                            partition_index: *partition,
                            committed_offset: 1,
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                });
        let request = wire::OffsetCommitRequest {
            group_id: GROUP.to_owned(),
            generation_id_or_member_epoch: client.epoch,
            member_id: client.id.clone(),
            topics: topics.collect(),
            ..Default::default()
        };
        let asked = self.bench.ask(who, 9, Call::OffsetCommit(request));
        match self.bench.replies.remove(&asked) {
            Some(Response::OffsetCommit(response)) => {
                name(response.topics[0].partitions[0].error_code)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A subscription as a Java consumer writes it.
fn subscription(options: &Options) -> Bytes {
    use wire::consumer_protocol_subscription::TopicPartition;
    let owned = options
        .partitions
        .iter()
        .map(|(topic, partitions)| TopicPartition {
            topic: topic.clone(),
            partitions: partitions.clone(),
        });
    let subscription = ConsumerProtocolSubscription {
        topics: options.topics.clone(),
        owned_partitions: owned.collect(),
        rack_id: options.rack.clone(),
        ..Default::default()
    };
    let version = ConsumerProtocolSubscription::VERSIONS.1;
    let mut writer = Writer::new();
    writer.i16(version);
    subscription.encode(&mut writer, version).unwrap();
    writer.into_bytes()
}

fn name(code: i16) -> String {
    ErrorCode::from_code(code).unwrap().name().to_owned()
}

/// What stands behind a verb.
#[derive(Debug, Default)]
struct Options {
    topics: Vec<String>,
    partitions: Vec<(String, Vec<i32>)>,
    rack: Option<String>,
    instance: Option<String>,
    assignor: Option<String>,
    regex: Option<String>,
    id: Option<String>,
    kind: Option<String>,
    timeout: Option<i32>,
    epoch: Option<i32>,
}

impl Options {
    fn read(words: &[&str]) -> Options {
        let mut options = Options::default();
        for word in words {
            match word.split_once('=') {
                Some(("rack", rack)) => options.rack = Some(rack.to_owned()),
                Some(("instance", instance)) => options.instance = Some(instance.to_owned()),
                Some(("assignor", assignor)) => options.assignor = Some(assignor.to_owned()),
                Some(("regex", regex)) => options.regex = Some(regex.to_owned()),
                Some(("kind", kind)) => options.kind = Some(kind.to_owned()),
                Some(("id", id)) => options.id = Some(id.to_owned()),
                Some(("timeout", ms)) => options.timeout = Some(ms.parse().unwrap()),
                Some(("epoch", epoch)) => options.epoch = Some(epoch.parse().unwrap()),
                Some(("owned", partitions)) => options.partitions.push(read_partitions(partitions)),
                Some(other) => panic!("what is {other:?}?"),
                None if word.contains(':') => options.partitions.push(read_partitions(word)),
                None if *word == "-" => {}
                None => options.topics.extend(word.split(',').map(str::to_owned)),
            }
        }
        options
    }
}

/// `t:0,1` or `t:0-2`.
fn read_partitions(word: &str) -> (String, Vec<i32>) {
    let (topic, numbers) = word.split_once(':').unwrap();
    let numbers = numbers.split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<i32>().unwrap()..=last.parse().unwrap()
    });
    (topic.to_owned(), numbers.collect())
}
