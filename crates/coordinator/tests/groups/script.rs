//! Tests as text: commands begin with `>`, and what they lead to stands below them, a line each.
//!
//! Clients have names. A client remembers its member id and generation from the answers, as a real
//! one does; `id=` and `gen=` say something else in its name.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_coordinator::ReplyTo;
use millrace_coordinator::group::{Call, Notice, Response};
use millrace_model::Timestamp;
use millrace_protocol::messages as wire;

use wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use wire::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use crate::bench::{Bench, Event, START};
use crate::render::{self, Names};

/// Runs a script and compares all it leads to.
#[track_caller]
pub fn check(script: &str) {
    check_on(&mut Player::new(), script);
}

/// As [`check`], on a player that may have been prepared.
#[track_caller]
pub fn check_on(player: &mut Player, script: &str) {
    let mut actual = Vec::new();
    let lines: Vec<&str> = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    for line in &lines {
        if let Some(command) = line.strip_prefix('>') {
            actual.push((*line).to_owned());
            actual.extend(player.run(command.trim()));
        }
    }
    let expected = lines.join("\n");
    let actual = actual.join("\n");
    assert!(
        expected == actual,
        "expected:\n{expected}\n\nactual:\n{actual}\n"
    );
}

pub struct Player {
    pub bench: Bench,
    names: Names,
    clients: BTreeMap<String, Client>,
    waiting: BTreeMap<ReplyTo, (String, &'static str)>,
}

#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    generation: i32,
}

/// The words of a command, and its options.
struct Words<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn new(command: &'a str) -> Words<'a> {
        let (mut words, mut options) = (Vec::new(), BTreeMap::new());
        for word in command.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if !name.contains('-') => {
                    options.insert(name, value);
                }
                _ => words.push(word),
            }
        }
        Words { words, options }
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.options
            .get(name)
            .copied()
            .unwrap_or(default)
            .to_owned()
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        let parse = |text: &&str| text.parse().ok().expect("a number");
        self.options.get(name).map_or(default, parse)
    }

    fn instance(&self) -> Option<String> {
        self.options.get("instance").map(|text| (*text).to_owned())
    }
}

impl Player {
    pub fn new() -> Player {
        let mut bench = Bench::new();
        for topic in ["t", "u"] {
            bench.topics.create(topic, 4);
        }
        Player {
            bench,
            names: Names::default(),
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    fn run(&mut self, command: &str) -> Vec<String> {
        let words = Words::new(command);
        let who = words.words.get(1).copied().unwrap_or_default();
        let events = match words.words[0] {
            "at" => self
                .bench
                .pass(Timestamp(START.get() + who.parse::<i64>().expect("a time"))),
            "fail-over" => {
                let waiting = std::mem::take(&mut self.waiting);
                let mut lines: Vec<String> = waiting
                    .into_values()
                    .map(|(client, verb)| format!("{client} {verb}: NOT_COORDINATOR"))
                    .collect();
                let events = self.bench.fail_over();
                lines.extend(self.show(events));
                return lines;
            }
            "append-fails" => {
                self.bench.append_fails = true;
                Vec::new()
            }
            "set-clock" => {
                self.bench.wall_ahead_ms = who.parse().expect("milliseconds");
                Vec::new()
            }
            "create" => {
                self.bench.topics.create(who, words.number("partitions", 4));
                Vec::new()
            }
            "drop" => {
                let dropped = self.bench.topics.delete(who).expect("a topic");
                self.bench.notice(Notice::TopicsDeleted(vec![dropped]))
            }
            "set" => {
                self.set(&words);
                Vec::new()
            }
            "end" => {
                let producer = who.parse().expect("a producer id");
                self.bench
                    .end_transaction(producer, words.words[2] == "commit");
                Vec::new()
            }
            verb => self.call(verb, who, &words),
        };
        self.show(events)
    }

    fn set(&mut self, words: &Words<'_>) {
        let settings = &mut self.bench.settings;
        settings.max_size = words.number("max_size", settings.max_size);
        let delay_ms = settings.initial_rebalance_delay_ms;
        settings.initial_rebalance_delay_ms = words.number("delay", delay_ms);
        let retention_ms = settings.offsets_retention_ms;
        settings.offsets_retention_ms = words.number("retention_ms", retention_ms);
        settings.max_batch_bytes = words.number("batch", settings.max_batch_bytes);
        settings.offset_metadata_max_bytes =
            words.number("metadata", settings.offset_metadata_max_bytes);
    }

    fn call(&mut self, verb: &str, who: &str, words: &Words<'_>) -> Vec<Event> {
        let who = match verb {
            "fetch" | "forget" | "describe" | "list" | "delete" => "",
            _ => who,
        };
        let client = self.clients.entry(who.to_owned()).or_default().clone();
        let group = words.text("group", "g");
        let group = if group == "none" {
            String::new()
        } else {
            group
        };
        let id = words.text("id", &client.id).replace("none", "");
        let generation = words.number("gen", client.generation);
        let (verb, version, call) = match verb {
            "join" => ("join", 9, Call::JoinGroup(join(words, group, id))),
            "sync" => (
                "sync",
                5,
                Call::SyncGroup(self.sync(words, group, id, generation)),
            ),
            "heartbeat" => {
                let request = wire::heartbeat_request::HeartbeatRequest {
                    group_id: group,
                    generation_id: generation,
                    member_id: id,
                    group_instance_id: words.instance(),
                    ..Default::default()
                };
                ("heartbeat", 4, Call::Heartbeat(request))
            }
            "leave" => ("leave", 5, Call::LeaveGroup(self.leave(words, group))),
            "commit" => (
                "commit",
                9,
                Call::OffsetCommit(commit(words, group, id, generation, self)),
            ),
            "txn" => ("txn", 3, Call::TxnOffsetCommit(txn(words, group))),
            "fetch" => ("fetch", 9, self.fetch(words, group)),
            "forget" => ("forget", 0, Call::OffsetDelete(forget(words, group))),
            "describe" => ("describe", 6, Call::DescribeGroups(vec![group])),
            "list" => ("list", 5, Call::ListGroups(list(words))),
            "delete" => {
                let groups = words.words[1..].iter().map(|group| (*group).to_owned());
                ("delete", 2, Call::DeleteGroups(groups.collect()))
            }
            other => panic!("no such command: {other}"),
        };
        let version = words.number("v", version);
        let (from, events) = self.bench.ask(version, who, call);
        self.waiting.insert(from, (who.to_owned(), verb));
        events
    }

    fn sync(
        &self,
        words: &Words<'_>,
        group: String,
        id: String,
        generation: i32,
    ) -> SyncGroupRequest {
        let assign = words.text("assign", "");
        let assignments = assign.split(',').filter_map(|part| part.split_once(':'));
        let assignments = assignments.map(|(client, text)| SyncGroupRequestAssignment {
            member_id: self.clients[client].id.clone(),
            assignment: Bytes::copy_from_slice(text.as_bytes()),
            ..Default::default()
        });
        let version: i16 = words.number("v", 5);
        let named = |name, default| (version >= 5).then(|| words.text(name, default));
        SyncGroupRequest {
            group_id: group,
            generation_id: generation,
            member_id: id,
            group_instance_id: words.instance(),
            protocol_type: named("type", "consumer").filter(|text| text != "null"),
            protocol_name: named("protocol", "range").filter(|text| text != "null"),
            assignments: assignments.collect(),
            ..Default::default()
        }
    }

    fn leave(&self, words: &Words<'_>, group: String) -> LeaveGroupRequest {
        let id_of = |client: &str| match self.clients.get(client) {
            Some(client) if !client.id.is_empty() => client.id.clone(),
            _ => client.to_owned(),
        };
        let mut members: Vec<MemberIdentity> = words.words[1..]
            .iter()
            .map(|client| MemberIdentity {
                member_id: id_of(client),
                ..Default::default()
            })
            .collect();
        if let Some(instance) = words.instance() {
            for member in &mut members {
                member.group_instance_id = Some(instance.clone());
                member.member_id = words.text("id", &member.member_id).replace("none", "");
            }
        }
        match words.number::<i16>("v", 5) < 3 {
            true => LeaveGroupRequest {
                group_id: group,
                member_id: members.remove(0).member_id,
                ..Default::default()
            },
            false => LeaveGroupRequest {
                group_id: group,
                members,
                ..Default::default()
            },
        }
    }

    fn fetch(&self, words: &Words<'_>, group: String) -> Call {
        let mut topics: Vec<OffsetFetchRequestTopics> = Vec::new();
        for word in words.words[1..].iter().filter(|word| word.contains('-')) {
            let (topic, index) = partition(word);
            topics.push(OffsetFetchRequestTopics {
                name: topic.clone(),
                topic_id: match words.words.contains(&"by-id") {
                    true => self.topic_id(&topic),
                    false => millrace_model::Uuid::ZERO,
                },
                partition_indexes: vec![index],
                ..Default::default()
            });
        }
        topics.retain(|topic| topic.name != "by");
        let all = words.words.contains(&"all");
        Call::OffsetFetch {
            group: OffsetFetchRequestGroup {
                group_id: group,
                topics: (!all).then_some(topics),
                ..Default::default()
            },
            require_stable: words.words.contains(&"stable"),
        }
    }

    fn topic_id(&self, topic: &str) -> millrace_model::Uuid {
        use millrace_coordinator::group::Topics;
        self.bench
            .topics
            .by_name(topic)
            .map(|topic| topic.id.0)
            .unwrap_or_default()
    }

    fn show(&mut self, events: Vec<Event>) -> Vec<String> {
        let mut lines = Vec::new();
        // Ids are learnt first: a record may name a member before the member knows its id.
        for event in &events {
            if let Event::Replied(to, Response::JoinGroup(answer)) = event
                && let Some((client, _)) = self.waiting.get(to)
                && matches!(answer.error_code, 0 | 79)
            {
                self.names.learn(client, &answer.member_id);
                let client = self.clients.get_mut(client).expect("has asked");
                client.id = answer.member_id.clone();
                client.generation = answer.generation_id;
            }
        }
        for event in events {
            match event {
                Event::Recorded(record) => lines.push(render::record(&record, &self.names)),
                Event::Replied(to, response) => {
                    let (client, verb) = self.waiting.remove(&to).expect("answered once");
                    let answer = render::response(&response, &self.names);
                    let head = format!("{client} {verb}:");
                    lines.push(format!("{} {answer}", head.trim_start()).trim().to_owned());
                }
                Event::Failed(callers) => {
                    for to in callers {
                        let (client, verb) = self.waiting.remove(&to).expect("answered once");
                        lines.push(format!("{client} {verb}: append failed").trim().to_owned());
                    }
                }
            }
        }
        lines
    }
}

fn join(words: &Words<'_>, group: String, id: String) -> JoinGroupRequest {
    let protocols = words.text("p", "range:x");
    let protocols = protocols.split(',').filter_map(|part| part.split_once(':'));
    let protocols = protocols.map(|(name, metadata)| JoinGroupRequestProtocol {
        name: name.to_owned(),
        metadata: subscription(metadata),
        ..Default::default()
    });
    JoinGroupRequest {
        group_id: group,
        session_timeout_ms: words.number("session", 10_000),
        rebalance_timeout_ms: words.number("rebalance", 60_000),
        member_id: id,
        group_instance_id: words.instance(),
        protocol_type: words.text("type", "consumer"),
        protocols: protocols.collect(),
        ..Default::default()
    }
}

/// `@t` is a real subscription to topic `t`; anything else is not.
fn subscription(text: &str) -> Bytes {
    use millrace_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
    use millrace_protocol::{Message, Writer};
    let Some(topics) = text.strip_prefix('@') else {
        return Bytes::copy_from_slice(text.as_bytes());
    };
    let mut writer = Writer::new();
    writer.i16(1);
    let subscription = ConsumerProtocolSubscription {
        topics: topics.split('+').map(str::to_owned).collect(),
        ..Default::default()
    };
    subscription.encode(&mut writer, 1).expect("encodes");
    writer.into_bytes()
}

/// `t-0`, or `t-0=5`.
fn partition(word: &str) -> (String, i32) {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let (topic, index) = name.rsplit_once('-').expect("topic-partition");
    (topic.to_owned(), index.parse().unwrap_or(-1))
}

/// Offset and metadata of `t-0=5(meta)`.
fn offset(word: &str) -> (i64, Option<String>) {
    let (_, value) = word.split_once('=').expect("an offset");
    match value.split_once('(') {
        Some((offset, metadata)) => {
            let metadata = metadata.trim_end_matches(')').to_owned();
            (offset.parse().expect("a number"), Some(metadata))
        }
        None => (value.parse().expect("a number"), None),
    }
}

fn commit(
    words: &Words<'_>,
    group: String,
    id: String,
    generation: i32,
    player: &Player,
) -> OffsetCommitRequest {
    let is_member = !id.is_empty();
    let topics = words
        .words
        .iter()
        .filter(|word| word.contains('='))
        .map(|word| {
            let (topic, index) = partition(word);
            let (offset, metadata) = offset(word);
            OffsetCommitRequestTopic {
                topic_id: player.topic_id(&topic),
                name: topic,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: index,
                    committed_offset: offset,
                    committed_leader_epoch: words.number("epoch", -1),
                    committed_metadata: metadata,
                    ..Default::default()
                }],
                ..Default::default()
            }
        });
    OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: match is_member {
            true => generation,
            false => words.number("gen", -1),
        },
        member_id: id,
        group_instance_id: words.instance(),
        retention_time_ms: words.number("retention", -1),
        topics: topics.collect(),
        ..Default::default()
    }
}

fn txn(words: &Words<'_>, group: String) -> TxnOffsetCommitRequest {
    let topics = words
        .words
        .iter()
        .filter(|word| word.contains('='))
        .map(|word| {
            let (topic, index) = partition(word);
            let (offset, metadata) = offset(word);
            TxnOffsetCommitRequestTopic {
                name: topic,
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: index,
                    committed_offset: offset,
                    committed_metadata: metadata,
                    ..Default::default()
                }],
                ..Default::default()
            }
        });
    TxnOffsetCommitRequest {
        transactional_id: "tx".to_owned(),
        group_id: group,
        producer_id: words.words[1].parse().expect("a producer id"),
        generation_id: words.number("gen", -1),
        member_id: words.text("id", ""),
        topics: topics.collect(),
        ..Default::default()
    }
}

fn forget(words: &Words<'_>, group: String) -> OffsetDeleteRequest {
    let topics = words.words[1..].iter().map(|word| {
        let (topic, index) = partition(word);
        OffsetDeleteRequestTopic {
            name: topic,
            partitions: vec![OffsetDeleteRequestPartition {
                partition_index: index,
            }],
        }
    });
    OffsetDeleteRequest {
        group_id: group,
        topics: topics.collect(),
    }
}

fn list(words: &Words<'_>) -> wire::list_groups_request::ListGroupsRequest {
    let filter = |name| {
        let texts = words.text(name, "");
        let texts = texts.split(',').filter(|text| !text.is_empty());
        texts.map(str::to_owned).collect()
    };
    wire::list_groups_request::ListGroupsRequest {
        states_filter: filter("states"),
        types_filter: filter("types"),
        ..Default::default()
    }
}
