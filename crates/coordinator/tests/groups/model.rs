//! Random interleavings of clients, time, replication and fail-overs, against what must always hold.
//!
//! A log is replicated now and then; answers leave when it is, as from a broker. A fail-over loses any
//! part of what was not replicated. Clients are real enough: the leader shares out the partitions,
//! owners fetch offsets, go on from there and commit. They crash, leave, give up waiting, and come
//! back while their former selves go on as zombies. In the end the faults stop, and the group must
//! come to rest with every partition owned.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millrace_coordinator::ReplyTo;
use millrace_coordinator::group::{Call, Record, Response};
use millrace_model::{ErrorCode, Timestamp};
use millrace_protocol::messages as wire;
use proptest::prelude::*;

use wire::group_metadata_value::GroupMetadataValue;
use wire::heartbeat_request::HeartbeatRequest;
use wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use wire::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};

use crate::bench::{Bench, Event};

const PARTITIONS: i32 = 6;
const CLIENTS: usize = 5;
const SESSION_MS: i32 = 6_000;
/// Static members are kept while they are away; long enough for others to go on without them.
const STATIC_SESSION_MS: i32 = 25_000;

#[derive(Clone, Debug)]
enum Action {
    /// Everyone takes a step and hears of it; the owners commit.
    Round,
    /// A client does what its state asks for next: join, sync, fetch, or a heartbeat.
    Step(usize),
    Commit(usize),
    /// It does nothing for so many rounds, unless it is made to.
    Doze(usize, u32),
    /// It stops waiting for an answer, and asks again at its next step.
    GiveUp(usize),
    /// It starts anew; its former self becomes a zombie.
    Crash(usize),
    Leave(usize),
    /// A zombie commits what it had got to.
    Haunt(usize),
    Replicate,
    Pass(i64),
    /// So many of ten parts of what is not replicated survive.
    FailOver(usize),
    AppendFails,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => Just(Action::Round),
        10 => (0..CLIENTS).prop_map(Action::Step),
        4 => (0..CLIENTS).prop_map(Action::Commit),
        2 => (0..CLIENTS, 1u32..200).prop_map(|(client, rounds)| Action::Doze(client, rounds)),
        1 => (0..CLIENTS).prop_map(Action::GiveUp),
        1 => (0..CLIENTS).prop_map(Action::Crash),
        1 => (0..CLIENTS).prop_map(Action::Leave),
        2 => (0usize..4).prop_map(Action::Haunt),
        8 => Just(Action::Replicate),
        4 => (1i64..4_000).prop_map(Action::Pass),
        1 => (0usize..=10).prop_map(Action::FailOver),
        1 => Just(Action::AppendFails),
    ]
}

/// What a client is at; each waits for nothing, or for one answer.
#[derive(Clone, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Outside,
    Joined {
        assignments: Vec<(String, String)>,
    },
    Assigned,
    Working,
}

#[derive(Clone, Debug, Default)]
struct Client {
    instance: Option<String>,
    id: String,
    generation: i32,
    stage: Stage,
    waits: Option<ReplyTo>,
    /// Rounds that it sleeps through.
    dozes: u32,
    /// The partitions it owns, and the offset it has got to in each.
    positions: BTreeMap<i32, i64>,
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    zombies: Vec<Client>,
    replicated: usize,
    /// Answers decided, with the log end they wait for.
    held: Vec<(usize, ReplyTo, Response)>,
    /// Commits under way: what they say.
    commits: BTreeMap<ReplyTo, Vec<(i32, i64)>>,
    /// Offsets as the leader has them.
    committed: BTreeMap<i32, i64>,
    /// Offsets whose commit has been acknowledged.
    acked: BTreeMap<i32, i64>,
    /// Who was told to own what, by generation and partition: the client, or the static instance.
    owners: BTreeMap<(i32, i32), String>,
}

impl World {
    fn new() -> World {
        let mut bench = Bench::new();
        bench.validates = false;
        bench.settings.initial_rebalance_delay_ms = 100;
        let client = |index: usize| Client {
            instance: (index >= 3).then(|| format!("static-{index}")),
            ..Client::default()
        };
        World {
            bench,
            clients: (0..CLIENTS).map(client).collect(),
            zombies: Vec::new(),
            replicated: 0,
            held: Vec::new(),
            commits: BTreeMap::new(),
            committed: BTreeMap::new(),
            acked: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Round => self.round(),
            Action::Step(client) => self.step(*client),
            Action::Commit(client) => self.commit(*client),
            Action::Doze(client, rounds) => self.clients[*client].dozes = *rounds,
            Action::GiveUp(client) => self.clients[*client].waits = None,
            Action::Crash(client) => self.crash(*client),
            Action::Leave(client) => self.leave(*client),
            Action::Haunt(which) => self.haunt(*which),
            Action::Replicate => self.replicate(),
            Action::Pass(ms) => {
                let events = self.bench.pass(Timestamp(self.bench.now.get() + ms));
                self.take_in(events);
            }
            Action::FailOver(parts) => self.fail_over(*parts),
            Action::AppendFails => self.bench.append_fails = true,
        }
        self.check_offsets();
    }

    fn round(&mut self) {
        for client in &mut self.clients {
            client.dozes = client.dozes.saturating_sub(1);
        }
        let awake = |world: &World, client: &usize| world.clients[*client].dozes == 0;
        for client in (0..CLIENTS)
            .filter(|client| awake(self, client))
            .collect::<Vec<_>>()
        {
            self.step(client);
        }
        self.replicate();
        for client in (0..CLIENTS)
            .filter(|client| awake(self, client))
            .collect::<Vec<_>>()
        {
            self.commit(client);
        }
        self.replicate();
        self.act(&Action::Pass(100));
    }

    fn ask(&mut self, client: usize, call: Call) {
        let (from, events) = self.bench.ask(9, &format!("client-{client}"), call);
        self.clients[client].waits = Some(from);
        self.take_in(events);
    }

    fn step(&mut self, index: usize) {
        let client = &self.clients[index];
        if client.waits.is_some() {
            return;
        }
        let call = match &client.stage {
            Stage::Outside => join(client),
            Stage::Joined { assignments } => sync(client, assignments),
            Stage::Assigned => fetch(client),
            Stage::Working => Call::Heartbeat(HeartbeatRequest {
                group_id: "g".to_owned(),
                generation_id: client.generation,
                member_id: client.id.clone(),
                group_instance_id: client.instance.clone(),
                ..Default::default()
            }),
        };
        self.ask(index, call);
    }

    fn commit(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.stage != Stage::Working || client.waits.is_some() {
            return;
        }
        client
            .positions
            .values_mut()
            .for_each(|position| *position += 1);
        let call = commit(client);
        let positions = client.positions.clone().into_iter().collect();
        let (from, events) = self.bench.ask(9, "committer", call);
        self.clients[index].waits = Some(from);
        self.commits.insert(from, positions);
        self.take_in(events);
    }

    fn haunt(&mut self, which: usize) {
        let Some(zombie) = self.zombies.iter().rev().nth(which) else {
            return;
        };
        let positions = zombie.positions.clone().into_iter().collect();
        let (from, events) = self.bench.ask(9, "zombie", commit(zombie));
        self.commits.insert(from, positions);
        self.take_in(events);
    }

    fn crash(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let instance = client.instance.clone();
        let fresh = Client {
            instance,
            ..Client::default()
        };
        let former = std::mem::replace(client, fresh);
        if former.stage == Stage::Working {
            self.zombies.push(former);
        }
    }

    fn leave(&mut self, index: usize) {
        let client = std::mem::take(&mut self.clients[index]);
        self.clients[index].instance = client.instance.clone();
        if client.id.is_empty() {
            return;
        }
        let call = Call::LeaveGroup(LeaveGroupRequest {
            group_id: "g".to_owned(),
            members: vec![MemberIdentity {
                member_id: client.id,
                group_instance_id: client.instance,
                ..Default::default()
            }],
            ..Default::default()
        });
        let (_, events) = self.bench.ask(5, "leaver", call);
        self.take_in(events);
    }

    /// Notes what is to be told once it is replicated, and checks what is remembered.
    fn take_in(&mut self, events: Vec<Event>) {
        let end = self.bench.log.len();
        let mut failed = Vec::new();
        for event in events {
            match event {
                Event::Replied(to, response) => self.held.push((end, to, response)),
                Event::Failed(callers) => failed = callers,
                Event::Recorded(Record::GroupMetadata(_, Some(value))) => check_record(&value),
                Event::Recorded(_) => {}
            }
        }
        for to in failed {
            self.commits.remove(&to);
            if let Some(client) = self.waiting(to) {
                client.waits = None;
                client.stage = Stage::Outside;
            }
        }
    }

    fn waiting(&mut self, to: ReplyTo) -> Option<&mut Client> {
        self.clients
            .iter_mut()
            .find(|client| client.waits == Some(to))
    }

    fn replicate(&mut self) {
        self.replicated = self.bench.log.len();
        for (_, to, response) in std::mem::take(&mut self.held) {
            if let Response::OffsetCommit(answer) = &response
                && let Some(positions) = self.commits.remove(&to)
                && answer
                    .topics
                    .iter()
                    .all(|topic| topic.partitions[0].error_code == 0)
            {
                for (partition, offset) in positions {
                    let acked = self.acked.entry(partition).or_default();
                    *acked = offset.max(*acked);
                }
            }
            let World {
                clients, owners, ..
            } = self;
            let client = clients
                .iter_mut()
                .enumerate()
                .find(|(_, it)| it.waits == Some(to));
            if let Some((index, client)) = client {
                client.waits = None;
                hear(index, client, response, owners);
            }
        }
    }

    fn fail_over(&mut self, parts: usize) {
        let loose = self.bench.log.len() - self.replicated;
        self.bench
            .log
            .truncate(self.replicated + loose * parts / 10);
        self.replicated = self.bench.log.len();
        self.held.clear();
        self.commits.clear();
        for client in &mut self.clients {
            // Whoever waited asks the new coordinator; a member tries to stay one.
            if client.waits.take().is_some() && client.stage != Stage::Working {
                client.stage = Stage::Outside;
            }
        }
        let events = self.bench.fail_over();
        self.take_in(events);
        self.bench.validate();
        self.committed.clear();
    }

    /// What was acknowledged is there, and no offset goes back under one leader.
    fn check_offsets(&mut self) {
        let offsets = self.bench.shard.offsets();
        let committed: BTreeMap<i32, i64> = offsets
            .map(|(_, _, partition, offset)| (partition, offset.offset.get()))
            .collect();
        let kept = |partition: &i32| committed.get(partition).copied().unwrap_or(-1);
        for (partition, acked) in &self.acked {
            let kept = kept(partition);
            assert!(
                kept >= *acked,
                "partition {partition}: {acked} acknowledged, {kept} kept"
            );
        }
        for (partition, before) in &self.committed {
            let kept = kept(partition);
            assert!(
                kept >= *before,
                "partition {partition}: {before} rewound to {kept}"
            );
        }
        self.committed = committed;
    }

    /// Without further faults everyone works, and everything is owned once.
    fn settle(&mut self) {
        self.bench.append_fails = false;
        for _ in 0..400 {
            for client in 0..CLIENTS {
                self.step(client);
            }
            self.act(&Action::Replicate);
            self.act(&Action::Pass(250));
        }
        let states = self.bench.shard.states();
        assert_eq!(states.classic_stable, 1, "{states:?} {:#?}", self.clients);
        let mut owned = BTreeSet::new();
        for client in &self.clients {
            assert_eq!(
                client.generation, self.clients[0].generation,
                "{:#?}",
                self.clients
            );
            for partition in client.positions.keys() {
                assert!(owned.insert(*partition), "{partition} is owned twice");
            }
        }
        assert_eq!(owned, (0..PARTITIONS).collect());
    }
}

/// A client hears an answer.
fn hear(
    index: usize,
    client: &mut Client,
    response: Response,
    owners: &mut BTreeMap<(i32, i32), String>,
) {
    match response {
        Response::JoinGroup(answer) => match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {
                client.id = answer.member_id.clone();
                client.generation = answer.generation_id;
                client.positions.clear();
                client.stage = Stage::Joined {
                    assignments: share_out(&answer),
                };
            }
            Some(ErrorCode::MemberIdRequired) => client.id = answer.member_id,
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => client.id.clear(),
            Some(ErrorCode::RebalanceInProgress) => {}
            other => panic!("a join is answered {other:?}"),
        },
        Response::SyncGroup(answer) => match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {
                let assignment = std::str::from_utf8(&answer.assignment).expect("a text");
                client.positions = owned(assignment, client.generation);
                client.stage = Stage::Assigned;
                let name = client
                    .instance
                    .clone()
                    .unwrap_or_else(|| format!("{index}"));
                for partition in client.positions.keys() {
                    let owner = owners.entry((client.generation, *partition));
                    let owner = owner.or_insert_with(|| name.clone());
                    assert_eq!(*owner, name, "two owners of {partition} in a generation");
                }
            }
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => client.restart(),
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {
                client.stage = Stage::Outside;
            }
            other => panic!("a sync is answered {other:?}"),
        },
        Response::OffsetFetch(answer) => {
            for topic in &answer.topics {
                for partition in &topic.partitions {
                    let offset = partition.committed_offset.max(0);
                    client.positions.insert(partition.partition_index, offset);
                }
            }
            client.stage = Stage::Working;
        }
        Response::Heartbeat(answer) => client.heed(answer.error_code),
        Response::OffsetCommit(answer) => {
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let code = partitions.map(|partition| partition.error_code).max();
            client.heed(code.unwrap_or(0));
        }
        other => panic!("nobody asked for {other:?}"),
    }
}

impl Client {
    fn restart(&mut self) {
        self.id.clear();
        self.positions.clear();
        self.stage = Stage::Outside;
    }

    fn heed(&mut self, code: i16) {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {
                self.stage = Stage::Outside;
            }
            Some(ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId) => self.restart(),
            other => panic!("a member is answered {other:?}"),
        }
    }
}

/// The leader gives each member its part, with the generation it belongs to.
fn share_out(answer: &wire::join_group_response::JoinGroupResponse) -> Vec<(String, String)> {
    let count = answer.members.len();
    let of = |(place, member): (usize, &wire::join_group_response::JoinGroupResponseMember)| {
        let own = (0..PARTITIONS).filter(|partition| *partition as usize % count == place);
        let own: Vec<String> = own.map(|partition| partition.to_string()).collect();
        let assignment = format!("{};{}", answer.generation_id, own.join(","));
        (member.member_id.clone(), assignment)
    };
    answer.members.iter().enumerate().map(of).collect()
}

/// The partitions of an assignment, which must be of this generation.
fn owned(assignment: &str, generation: i32) -> BTreeMap<i32, i64> {
    let (of, partitions) = assignment.split_once(';').unwrap_or(("", ""));
    if !of.is_empty() {
        assert_eq!(
            of,
            generation.to_string(),
            "an assignment of another generation"
        );
    }
    let partitions = partitions.split(',').filter(|text| !text.is_empty());
    partitions
        .map(|text| (text.parse().expect("a number"), 0))
        .collect()
}

/// What the log says of a generation holds together.
fn check_record(value: &GroupMetadataValue) {
    let mut all = BTreeSet::new();
    for member in &value.members {
        let assignment = std::str::from_utf8(&member.assignment).expect("a text");
        for partition in owned(assignment, value.generation).keys() {
            assert!(
                all.insert(*partition),
                "{partition} is assigned twice: {value:#?}"
            );
        }
    }
    assert!(
        value.members.is_empty() || all.len() == PARTITIONS as usize,
        "{value:#?}"
    );
}

fn join(client: &Client) -> Call {
    Call::JoinGroup(JoinGroupRequest {
        group_id: "g".to_owned(),
        session_timeout_ms: match client.instance {
            Some(_) => STATIC_SESSION_MS,
            None => SESSION_MS,
        },
        rebalance_timeout_ms: 2_000,
        member_id: client.id.clone(),
        group_instance_id: client.instance.clone(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"x"),
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn sync(client: &Client, assignments: &[(String, String)]) -> Call {
    let assignments = assignments
        .iter()
        .map(|(member, text)| SyncGroupRequestAssignment {
            member_id: member.clone(),
            assignment: Bytes::copy_from_slice(text.as_bytes()),
            ..Default::default()
        });
    Call::SyncGroup(SyncGroupRequest {
        group_id: "g".to_owned(),
        generation_id: client.generation,
        member_id: client.id.clone(),
        group_instance_id: client.instance.clone(),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: assignments.collect(),
        ..Default::default()
    })
}

fn fetch(client: &Client) -> Call {
    Call::OffsetFetch {
        group: OffsetFetchRequestGroup {
            group_id: "g".to_owned(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".to_owned(),
                partition_indexes: client.positions.keys().copied().collect(),
                ..Default::default()
            }]),
            ..Default::default()
        },
        require_stable: true,
    }
}

fn commit(client: &Client) -> Call {
    let topics = client
        .positions
        .iter()
        .map(|(partition, offset)| OffsetCommitRequestTopic {
            name: "t".to_owned(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                ..Default::default()
            }],
            ..Default::default()
        });
    Call::OffsetCommit(OffsetCommitRequest {
        group_id: "g".to_owned(),
        generation_id_or_member_epoch: client.generation,
        member_id: client.id.clone(),
        group_instance_id: client.instance.clone(),
        topics: topics.collect(),
        ..Default::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_owned_twice_and_no_acknowledged_offset_is_lost(
        actions in prop::collection::vec(action(), 1..200)
    ) {
        let mut world = World::new();
        for (count, action) in actions.iter().enumerate() {
            world.act(action);
            if count % 16 == 0 {
                world.bench.validate();
            }
        }
        world.settle();
        world.bench.validate();
    }
}
