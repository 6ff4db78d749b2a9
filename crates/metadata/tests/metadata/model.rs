//! A model of one partition: the real decisions, with brokers that lag, crash, lose what was not
//! synced, and ask on the strength of what they knew some time ago.
//!
//! The data are numbers: `committed` counts what was ever below a high watermark, and `held` how
//! much of it each replica has. The invariants are those of the rules of replication: whoever is in
//! ISR or ELR holds everything committed, an epoch has one leader, epochs never decrease, a clean
//! leader lacks nothing, and nobody waits for a leader while one could be had.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use crate::common::*;
use millrace_metadata::decide::*;
use millrace_metadata::*;
use millrace_model::*;

/// One thing that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The broker's image becomes the newest.
    Learn(i32),
    /// The broker's session ends at the controller; it may not know.
    Fence(i32),
    /// The broker beats, with the image it has.
    Beat(i32),
    /// The broker beats, and wants to stop.
    ShutDown(i32),
    /// The broker starts again.
    Restart(i32, Stop),
    /// Who believes to lead commits one more record, if its followers acknowledge.
    Commit(i32),
    /// Who believes to lead asks for a follower in the ISR.
    AskIn(i32, i32),
    /// Who believes to lead asks for a follower out of the ISR.
    AskOut(i32, i32),
    /// Who believes to lead saw everybody make its log durable, and says so.
    Confirm(i32),
    /// One of the last two requests arrives, perhaps again.
    Deliver(usize),
    /// An operator changes `min.insync.replicas`.
    MinInsync(usize),
    /// An operator changes what an acknowledgement means.
    Durability(Durability),
    /// An operator allows unclean elections, or not.
    Unclean(bool),
    /// An operator orders any leader.
    Order,
    /// An operator wants the preferred leader.
    Prefer,
    /// An operator moves the partition to these brokers.
    Move(i32, i32),
    /// An operator cancels a move.
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Clean,
    /// What was not synced is lost.
    PowerCut,
    /// The disk is new.
    Wiped,
}

/// What is true of one broker, whatever the controller knows.
#[derive(Clone, Debug)]
struct Node {
    epoch: BrokerEpoch,
    incarnation: u128,
    directory: DirectoryId,
    /// The image it has applied.
    view: Image,
    /// How much of what is committed it holds; and of that, how much survives a power cut.
    held: u32,
    durable: u32,
    /// As leader: what it asked to add, until its image has a greater partition epoch.
    adding: Option<(BrokerId, PartitionEpoch)>,
}

#[derive(Clone, Debug)]
struct World {
    image: Image,
    nodes: BTreeMap<i32, Node>,
    committed: u32,
    /// The last requests, the newest first; they may arrive late, twice, or never.
    wire: VecDeque<IsrRequest>,
    /// Who led each epoch.
    leaders: BTreeMap<i32, BrokerId>,
    /// Unclean elections are allowed or were ordered in this step.
    may_lose: bool,
    next_id: u128,
    /// The last unclean election; what older leaders still commit is lost, as was to be expected.
    unclean_epoch: LeaderEpoch,
}

const T: &str = "t";

fn id() -> PartitionId {
    pid(1, 0)
}

impl World {
    /// `brokers` brokers, the first `replicas` of which hold the partition, by the given settings.
    fn new(brokers: i32, replicas: i32, min_insync: usize) -> World {
        let all: Vec<i32> = (1..=brokers).collect();
        let members: Vec<i32> = (1..=replicas).collect();
        let image = with_topic(&cluster(&all), 1, T, vec![partition(&members, &members)]);
        let mut world = World {
            nodes: BTreeMap::new(),
            committed: 0,
            wire: VecDeque::new(),
            leaders: BTreeMap::new(),
            may_lose: false,
            next_id: 1 << 64,
            unclean_epoch: LeaderEpoch(0),
            image,
        };
        for broker in all {
            let registered = world.image.broker(b(broker)).unwrap();
            let node = Node {
                epoch: registered.epoch,
                incarnation: u128::from_be_bytes(registered.incarnation.0.0),
                directory: dir(broker),
                view: world.image.clone(),
                held: 0,
                durable: 0,
                adding: None,
            };
            world.nodes.insert(broker, node);
        }
        world.step(Step::MinInsync(min_insync));
        let learn: Vec<Step> = world.nodes.keys().map(|n| Step::Learn(*n)).collect();
        learn.into_iter().for_each(|step| world.step(step));
        world
    }

    /// Begins by the setting that Kafka has.
    fn trust_page_cache(&mut self, trust: bool) {
        if trust {
            self.step(Step::Durability(Durability::PageCache));
            let learn: Vec<Step> = self.nodes.keys().map(|n| Step::Learn(*n)).collect();
            learn.into_iter().for_each(|step| self.step(step));
        }
    }

    fn partition(&self) -> &Partition {
        self.image.partition(id()).unwrap()
    }

    fn view(&self, node: i32) -> &Partition {
        self.nodes[&node].view.partition(id()).unwrap()
    }

    /// Everything that may happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Order, Step::Prefer, Step::Cancel];
        steps.extend((0..self.wire.len()).map(Step::Deliver));
        for node in self.nodes.keys().copied() {
            steps.extend([Step::Learn(node), Step::Fence(node), Step::Beat(node)]);
            steps.push(Step::ShutDown(node));
            steps.extend([Stop::Clean, Stop::PowerCut].map(|stop| Step::Restart(node, stop)));
            steps.push(Step::Restart(node, Stop::Wiped));
            if self.believes_to_lead(node) {
                steps.extend([Step::Commit(node), Step::Confirm(node)]);
                for other in self.nodes.keys().copied().filter(|other| *other != node) {
                    steps.extend([Step::AskIn(node, other), Step::AskOut(node, other)]);
                }
            }
        }
        steps.extend([1, 2, 3].map(Step::MinInsync));
        steps.extend([Durability::Fsync, Durability::PageCache].map(Step::Durability));
        steps.extend([true, false].map(Step::Unclean));
        steps.extend([(1, 2), (2, 3), (3, 1)].map(|(a, b)| Step::Move(a, b)));
        steps
    }

    fn step(&mut self, step: Step) {
        let before = self.image.clone();
        self.may_lose = self
            .image
            .unclean_election_allowed(&TopicName::new(T).unwrap());
        self.act(step);
        self.follow_elections(&before, step);
        self.check(&before, step);
    }

    /// A step of a path, which is told if it goes wrong.
    fn step_of(&mut self, step: Step, path: &[Step]) {
        let run = std::panic::AssertUnwindSafe(|| self.step(step));
        if let Err(why) = std::panic::catch_unwind(run) {
            eprintln!("steps: {path:?}");
            std::panic::resume_unwind(why);
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Learn(node) => self.learn(node),
            Step::Fence(node) => {
                let decision = fence(&self.image, &[b(node)]);
                self.apply(decision.records);
            }
            Step::Beat(node) => self.beat(node, false),
            Step::ShutDown(node) => self.beat(node, true),
            Step::Restart(node, stop) => self.restart(node, stop),
            Step::Commit(node) => self.commit(node),
            Step::AskIn(node, other) => self.ask_in(node, other),
            Step::AskOut(node, other) => self.ask_out(node, other),
            Step::Confirm(node) => self.confirm(node),
            Step::Deliver(place) => {
                let request = self.wire[place].clone();
                let decision = alter_partitions(&self.image, &request);
                self.apply(decision.records);
            }
            Step::MinInsync(value) => self.set("min.insync.replicas", value.to_string()),
            Step::Durability(value) => self.set("millrace.durability", value.to_string()),
            Step::Unclean(value) => {
                self.may_lose |= value;
                self.set("unclean.leader.election.enable", value.to_string());
            }
            Step::Order => {
                self.may_lose = true;
                let decision = elect(&self.image, ElectionKind::Unclean, None);
                self.apply(decision.records);
            }
            Step::Prefer => {
                let decision = elect(&self.image, ElectionKind::Preferred, None);
                self.apply(decision.records);
            }
            Step::Move(first, second) => self.reassign(Some(ids(&[first, second]))),
            Step::Cancel => self.reassign(None),
        }
    }

    fn apply(&mut self, records: Vec<Record>) {
        self.image = after(&self.image, records);
    }

    fn set(&mut self, name: &str, value: String) {
        let change = (
            Resource::topic(&TopicName::new(T).unwrap()),
            vec![(name.to_owned(), ConfigOp::Set(value))],
        );
        let decision = alter_configs(&self.image, &AnyConfig, &[change], false);
        assert_eq!(decision.reply[0].1, Ok(()));
        self.apply(decision.records);
    }

    fn reassign(&mut self, replicas: Option<Vec<BrokerId>>) {
        let asked = Reassignment {
            topic: T.into(),
            index: 0,
            replicas,
            may_change_factor: true,
        };
        let decision = reassign(&self.image, &[asked]);
        self.apply(decision.records);
    }

    fn beat(&mut self, node: i32, wants_shutdown: bool) {
        let beat = Heartbeat {
            id: b(node),
            epoch: self.nodes[&node].epoch,
            image_version: self.nodes[&node].view.version(),
            interval: Duration::from_millis(100),
            wants_fence: false,
            wants_shutdown,
            offline_directories: vec![],
            short_directories: match (self.image.version().get() / 3) % 4 == node as u64 {
                true => vec![self.nodes[&node].directory],
                false => vec![],
            },
            slow_directories: match (self.image.version().get() / 7) % 5 == node as u64 {
                true => vec![self.nodes[&node].directory],
                false => vec![],
            },
        };
        let mut sessions = Sessions::new(Duration::from_secs(1));
        let decision = heartbeat(&self.image, &mut sessions, &beat, Duration::ZERO);
        self.apply(decision.records);
    }

    /// The process ends, loses what it loses, and registers anew.
    fn restart(&mut self, number: i32, stop: Stop) {
        self.next_id += 1;
        let fresh = self.next_id;
        let node = self.nodes.get_mut(&number).unwrap();
        match stop {
            Stop::Clean => node.durable = node.held,
            Stop::PowerCut => node.held = node.durable,
            Stop::Wiped => {
                (node.held, node.durable) = (0, 0);
                node.directory = DirectoryId(uuid(fresh));
            }
        }
        node.incarnation = fresh;
        node.adding = None;
        let registration = Registration {
            id: b(number),
            cluster_id: "test".into(),
            incarnation: Incarnation(uuid(fresh)),
            listeners: vec![],
            rack: None,
            features: FeatureRange::supported(),
            directories: vec![node.directory],
            has_offline_directories: false,
            clean_shutdown_epoch: (stop == Stop::Clean).then_some(node.epoch),
        };
        let sessions = Sessions::new(Duration::from_secs(1));
        let decision = register_broker(&self.image, &sessions, &registration, Duration::ZERO);
        let epoch = decision.reply.clone().unwrap();
        self.apply(decision.records);
        self.nodes.get_mut(&number).unwrap().epoch = epoch;
    }

    fn learn(&mut self, node: i32) {
        let image = self.image.clone();
        let known = self.nodes.get_mut(&node).unwrap();
        known.view = image;
        let state = known.view.partition(id()).unwrap();
        if known
            .adding
            .is_some_and(|(_, epoch)| state.partition_epoch > epoch)
        {
            known.adding = None;
        }
    }

    /// Rule 1: its image gives it the leadership and shows its own current epoch.
    fn believes_to_lead(&self, node: i32) -> bool {
        self.view(node).leader == Some(b(node)) && self.knows(node, node)
    }

    /// Whether `node`'s image shows the run of `other` that there is (rule 2).
    fn knows(&self, node: i32, other: i32) -> bool {
        let known = self.nodes[&node].view.broker(b(other));
        known.is_some_and(|k| k.epoch == self.nodes[&other].epoch)
    }

    /// Whether `follower` acknowledges to `leader` (rules 2 and 6).
    fn follows(&self, leader: i32, follower: i32) -> bool {
        leader == follower
            || (self.knows(leader, follower)
                && self.knows(follower, follower)
                && self.view(follower).leader_epoch == self.view(leader).leader_epoch)
    }

    /// Rule 3.
    fn commit(&mut self, leader: i32) {
        let state = self.view(leader).clone();
        let view = &self.nodes[&leader].view;
        let min_insync = view.min_insync(&TopicName::new(T).unwrap(), &state);
        let mut members: BTreeSet<i32> = state.isr.iter().map(|m| m.get()).collect();
        members.extend(self.nodes[&leader].adding.map(|(broker, _)| broker.get()));
        let all = members.iter().all(|member| self.follows(leader, *member));
        let lost = state.leader_epoch < self.unclean_epoch;
        if !all || lost || state.isr.len() < min_insync {
            return;
        }
        self.committed += 1;
        members
            .into_iter()
            .for_each(|member| self.acknowledge(member));
    }

    fn send(&mut self, request: IsrRequest) {
        self.wire.push_front(request);
        self.wire.truncate(2);
    }

    /// Rule 8: a replica acknowledges what is durable by the setting that it knows.
    fn acknowledge(&mut self, member: i32) {
        let name = TopicName::new(T).unwrap();
        let node = self.nodes.get_mut(&member).unwrap();
        node.held = self.committed;
        if node.view.configured_durability(&name) == Durability::Fsync {
            node.durable = node.held;
        }
    }

    fn request(&self, leader: i32, isr: &[BrokerId], confirms_fsync: bool) -> IsrRequest {
        let node = &self.nodes[&leader];
        let state = self.view(leader);
        let member = |broker: &BrokerId| IsrMember {
            broker: *broker,
            epoch: node
                .view
                .broker(*broker)
                .map_or(BrokerEpoch(-1), |b| b.epoch),
        };
        IsrRequest {
            broker: b(leader),
            broker_epoch: node.epoch,
            changes: vec![IsrChange {
                id: id(),
                leader_epoch: state.leader_epoch,
                partition_epoch: state.partition_epoch,
                isr: isr.iter().map(member).collect(),
                recovery: Recovery::Recovered,
                confirms_fsync,
            }],
        }
    }

    /// Rule 5: a follower that has caught up, while no other request is in flight.
    fn ask_in(&mut self, leader: i32, follower: i32) {
        let state = self.view(leader).clone();
        let there = state.isr.contains(&b(follower)) || !state.replicas.contains(&b(follower));
        // Who is to be caught up must be able to get everything from its leader.
        let whole =
            self.nodes[&leader].held == self.committed && state.leader_epoch >= self.unclean_epoch;
        if there || !whole || !self.follows(leader, follower) {
            return;
        }
        if self.nodes[&leader].adding.is_some() {
            return;
        }
        self.acknowledge(follower);
        let isr = [&state.isr[..], &[b(follower)]].concat();
        self.send(self.request(leader, &isr, false));
        self.nodes.get_mut(&leader).unwrap().adding = Some((b(follower), state.partition_epoch));
    }

    fn ask_out(&mut self, leader: i32, follower: i32) {
        let mut isr = self.view(leader).isr.clone();
        isr.retain(|member| *member != b(follower));
        if self.nodes[&leader].adding.is_none() {
            self.send(self.request(leader, &isr, false));
        }
    }

    /// Every member of the ISR has acknowledged in this epoch what the log held when it began.
    fn confirm(&mut self, leader: i32) {
        let state = self.view(leader).clone();
        let members: Vec<i32> = state.isr.iter().map(|member| member.get()).collect();
        let all = members.iter().all(|member| self.follows(leader, *member));
        let lost = state.leader_epoch < self.unclean_epoch;
        if !all || lost || self.nodes[&leader].adding.is_some() {
            return;
        }
        members
            .into_iter()
            .for_each(|member| self.acknowledge(member));
        self.send(self.request(leader, &state.isr, true));
    }

    /// After an unclean election what the leader holds is what there is.
    fn follow_elections(&mut self, before: &Image, step: Step) {
        let state = self.partition().clone();
        let was = before.partition(id()).unwrap();
        let Some(leader) = state
            .leader
            .filter(|_| state.leader_epoch != was.leader_epoch)
        else {
            return;
        };
        let held = self.nodes[&leader.get()].held;
        let known = was.isr.contains(&leader) || was.elr.contains(&leader);
        let unclean = !known && !matches!(step, Step::Deliver(_));
        assert!(
            unclean || held >= self.committed,
            "a clean leader lacks nothing: {state:?}"
        );
        if unclean {
            let last = was.last_known_elr == [leader];
            assert!(
                self.may_lose || last,
                "an unclean election must be allowed: {state:?}"
            );
            assert_eq!(state.recovery, Recovery::Recovering);
            assert_eq!((state.isr.len(), state.elr.len()), (1, 0));
            self.committed = held;
            self.unclean_epoch = state.leader_epoch;
            for node in self.nodes.values_mut() {
                node.held = node.held.min(held);
                node.durable = node.durable.min(held);
            }
        }
    }

    fn check(&mut self, before: &Image, step: Step) {
        let state = self.partition().clone();
        let was = before.partition(id()).unwrap();
        for member in state.isr.iter().chain(&state.elr) {
            let held = self.nodes[&member.get()].held;
            assert!(
                held >= self.committed,
                "{step:?}: {member} lacks records: {state:?}"
            );
            let durable = self.nodes[&member.get()].durable;
            let fsync = state.durability == Durability::Fsync;
            assert!(
                !fsync || durable >= self.committed,
                "{step:?}: {member} may lose: {state:?}"
            );
        }
        if let Some(leader) = state.leader {
            let first = *self
                .leaders
                .entry(state.leader_epoch.get())
                .or_insert(leader);
            assert_eq!(first, leader, "{step:?}: an epoch has one leader");
        }
        assert!(state.leader_epoch >= was.leader_epoch);
        assert!(state.leader == was.leader || state.leader_epoch > was.leader_epoch);
        assert_eq!(
            state == **was,
            state.partition_epoch == was.partition_epoch,
            "{step:?}"
        );
        let can = |m: &&BrokerId| self.image.is_active(**m) && self.serves(**m, &state);
        let waiting = state.isr.iter().chain(&state.elr).find(can);
        if state.leader.is_none() {
            assert_eq!(
                waiting, None,
                "{step:?}: nobody leads, although one could: {state:?}"
            );
        }
        let may_empty = matches!(step, Step::Restart(..));
        assert!(
            may_empty || !state.isr.is_empty() || was.isr.is_empty(),
            "{step:?}"
        );
        if matches!(step, Step::Restart(node, _) if was.leader == Some(b(node))) {
            assert!(state.leader_epoch > was.leader_epoch, "rule 13");
        }
    }

    fn serves(&self, broker: BrokerId, state: &Partition) -> bool {
        let directory = state.directory(broker).unwrap();
        self.image.broker(broker).unwrap().has_online(directory)
    }

    /// What tells this world from others, whatever its epochs are.
    fn key(&self) -> String {
        let epochs = (
            self.partition().leader_epoch,
            self.partition().partition_epoch,
        );
        let name = TopicName::new(T).unwrap();
        let state = |p: &Partition| {
            format!(
                "{} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
                epochs.0.get() - p.leader_epoch.get(),
                epochs.1.get() - p.partition_epoch.get(),
                p.leader,
                p.isr,
                p.elr,
                p.last_known_elr,
                p.replicas,
                p.adding,
                p.removing,
                p.recovery,
                p.durability,
            )
        };
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|(number, node)| {
                let now = self.image.broker(b(*number)).unwrap();
                let knows: Vec<bool> = self.nodes.keys().map(|o| self.knows(*number, *o)).collect();
                format!(
                    "{} {} {} {knows:?} {} {} {:?} {} {:?}",
                    now.fenced,
                    now.shutting_down,
                    self.serves_recorded(*number),
                    self.committed.saturating_sub(node.held).min(2),
                    self.committed.saturating_sub(node.durable).min(2),
                    node.adding.map(|(b, e)| (b, epochs.1.get() - e.get())),
                    state(node.view.partition(id()).unwrap()),
                    (
                        node.view.configured_min_insync(&name),
                        node.view.configured_durability(&name),
                        node.view.version() >= now.registered_at,
                    ),
                )
            })
            .collect();
        let wire = self.wire.iter();
        let wire = wire.map(|request| {
            let change = &request.changes[0];
            let current = |m: &IsrMember| self.nodes[&m.broker.get()].epoch == m.epoch;
            let members: Vec<_> = change.isr.iter().map(|m| (m.broker, current(m))).collect();
            let asker = self.nodes[&request.broker.get()].epoch == request.broker_epoch;
            (
                members,
                asker,
                change.confirms_fsync,
                epochs.0.get() - change.leader_epoch.get(),
                epochs.1.get() - change.partition_epoch.get(),
            )
        });
        let wire: Vec<_> = wire.collect();
        format!(
            "{} | {nodes:?} | {wire:?} | {} {} {:?}",
            state(self.partition()),
            self.image.configured_min_insync(&name),
            self.image.unclean_election_allowed(&name),
            self.image.configured_durability(&name),
        )
    }

    fn serves_recorded(&self, node: i32) -> bool {
        let directory = self.partition().directory(b(node));
        directory == Some(self.nodes[&node].directory)
    }
}

/// Goes through everything that can happen within `depth` steps, as far as `most` states allow.
fn explore(
    start: World,
    depth: usize,
    most: usize,
    allowed: impl Fn(Step) -> bool,
) -> (usize, usize) {
    let mut seen = BTreeSet::from([start.key()]);
    let mut queue = VecDeque::from([(start, Vec::new())]);
    let mut deepest = 0;
    while let Some((world, path)) = queue.pop_front() {
        deepest = deepest.max(path.len());
        if path.len() == depth {
            continue;
        }
        for step in world.steps().into_iter().filter(|step| allowed(*step)) {
            let mut next = world.clone();
            let mut path: Vec<Step> = path.clone();
            path.push(step);
            next.step_of(step, &path);
            if seen.len() < most && seen.insert(next.key()) {
                queue.push_back((next, path));
            }
        }
    }
    (seen.len(), deepest)
}

/// Walks a path, every step of which must be possible.
fn walk(mut world: World, path: &[Step]) {
    for (place, step) in path.iter().enumerate() {
        assert!(world.steps().contains(step), "{step:?} of {path:?}");
        world.step_of(*step, &path[..=place]);
    }
}

/// Each of these paths breaks an invariant when one rule is left out.
#[test]
fn known_dangers_are_met() {
    use Step::*;
    use millrace_model::Durability::Fsync;
    let trusting = |min_insync| {
        let mut world = World::new(2, 2, min_insync);
        world.trust_page_cache(true);
        world
    };
    let apart = [AskOut(1, 2), Deliver(0), Learn(1), Commit(1), Learn(2)];
    // A request arrives again after the state it was made for has passed (rule 10, PE).
    let again = [
        AskIn(1, 2),
        Deliver(0),
        Learn(1),
        AskOut(1, 2),
        Deliver(0),
        Learn(1),
    ];
    let stale = [&apart[..], &again, &[Commit(1), Deliver(1)]].concat();
    walk(World::new(2, 2, 1), &stale);
    // A follower loses what it had caught up with before it is in the ISR (rule 10, B).
    let restarted = [
        AskIn(1, 2),
        Restart(2, Stop::PowerCut),
        Learn(2),
        Beat(2),
        Deliver(0),
    ];
    walk(trusting(1), &[&apart[..], &restarted].concat());
    // The minimum falls, so that the high watermark moves without the ELR (rule 12).
    walk(
        World::new(2, 2, 2),
        &[Fence(2), MinInsync(1), Learn(1), Commit(1)],
    );
    // A follower acknowledges by the setting of yesterday (a new epoch when it changes to fsync).
    let confirmed = [Durability(Fsync), Learn(1), Confirm(1)];
    walk(trusting(1), &[&[Commit(1)], &confirmed[..]].concat());
    let late = [
        Commit(1),
        Durability(Fsync),
        Learn(1),
        Learn(2),
        Confirm(1),
        Deliver(0),
    ];
    walk(trusting(1), &late);
    // The ELR trusted its page cache, and nobody has asked it since.
    let eligible = [
        Commit(1),
        Fence(2),
        Durability(Fsync),
        Learn(1),
        Confirm(1),
        Deliver(0),
    ];
    walk(trusting(2), &eligible);
}

#[test]
fn two_replicas_explored() {
    let (states, _) = explore(World::new(2, 2, 2), 4, 2_000, |_| true);
    assert!(states > 500, "{states}");
}

/// A few states of each shape; before the rules change, `MODEL_STATES=300000` explores for minutes.
#[test]
fn explored_widely() {
    let most = from_environment("MODEL_STATES", 500);
    for (brokers, replicas, min_insync) in [(2, 2, 1), (2, 2, 2), (3, 3, 2), (3, 2, 2)] {
        for page_cache in [false, true] {
            let mut start = World::new(brokers, replicas, min_insync);
            start.trust_page_cache(page_cache);
            let (states, depth) = explore(start.clone(), 40, most, is_everyday);
            let durability = |s: Step| matches!(s, Step::Durability(_) | Step::Confirm(_));
            let trusts = |s: Step| is_everyday(s) || durability(s);
            let (trusting, trust_depth) = explore(start.clone(), 40, most, trusts);
            let (all, all_depth) = explore(start, 40, most, |_| true);
            eprintln!(
                "{brokers} brokers, {replicas} replicas, minimum {min_insync}: {states} states to \
                 depth {depth}, {trusting} to {trust_depth} with changes of durability, {all} to \
                 {all_depth} with everything"
            );
        }
    }
}

fn wander(brokers: i32, replicas: i32, min_insync: usize, page_cache: bool, choices: &[u32]) {
    let mut world = World::new(brokers, replicas, min_insync);
    world.trust_page_cache(page_cache);
    let mut path = Vec::new();
    for choice in choices {
        let steps = world.steps();
        // Rare events are rare, so that something is built up for them to break.
        let everyday: Vec<Step> = steps.iter().copied().filter(|s| is_everyday(*s)).collect();
        let pool = if choice % 8 == 0 { steps } else { everyday };
        path.push(pool[(*choice / 8) as usize % pool.len()]);
        world.step_of(path[path.len() - 1], &path);
    }
}

fn is_everyday(step: Step) -> bool {
    matches!(
        step,
        Step::Learn(_)
            | Step::Beat(_)
            | Step::Commit(_)
            | Step::AskIn(..)
            | Step::AskOut(..)
            | Step::Deliver(_)
            | Step::Fence(_)
            | Step::Restart(_, Stop::PowerCut)
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_environment("PROPTEST_CASES", 100) as u32, max_shrink_iters: 4000, failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rules_hold_on_random_walks(
        replicas in 1..=3i32,
        min_insync in 1..=3usize,
        page_cache: bool,
        choices in prop::collection::vec(any::<u32>(), 1..200),
    ) {
        wander(3, replicas, min_insync, page_cache, &choices);
    }
}

/// A number from the environment, for long runs.
fn from_environment(name: &str, usual: usize) -> usize {
    let asked = std::env::var(name).ok();
    asked
        .and_then(|number| number.parse().ok())
        .unwrap_or(usual)
}
