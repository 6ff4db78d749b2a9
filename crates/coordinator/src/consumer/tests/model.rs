//! Random members, faults and topics against what is always to hold:
//!
//! - no partition is owned by two members at once, as the members themselves see it;
//! - epochs never go back;
//! - the log, cut anywhere or compacted, gives the state that was there;
//! - when the faults stop, every partition soon has an owner who subscribes to it, and nothing moves.
//!
//! Clients do as the protocol says: they give up before they say so, and own what they are told. A
//! member that the group has fenced does not count: it hears of it in its next heartbeat.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::TopicId;
use proptest::prelude::*;

use super::bench::{Bench, GROUP};
use super::client::{Client, Heard, Subscription};
use crate::consumer::State;
use crate::group::{MigrationPolicy, Topics};

/// Clients, of which the last two are static ones.
const CLIENTS: usize = 7;
/// Topics that come and go.
const TOPICS: [&str; 4] = ["a-one", "a-two", "b-one", "b-two"];

#[derive(Clone, Debug)]
enum Step {
    /// A client does what it has to and sends a heartbeat; joins if it is not a member.
    Beat(usize),
    /// The same, and the answer gets lost.
    BeatUnheard(usize),
    /// A heartbeat of a client that is too busy to give anything up.
    BeatBusy(usize),
    Subscribe(usize, Subscription),
    /// Goes for good, or, if it is static, for a while.
    Leave(usize),
    /// Is gone without a word; a new one comes in its place.
    Vanish(usize),
    /// Is restarted with the other protocol.
    Switch(usize),
    Pass(i64),
    Make(usize, i32),
    Drop(usize),
    FailOver,
    LoseAppend,
    /// The leader dies after so many of the next records.
    Tear(usize),
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let expression = prop_oneof![
        4 => Just(None),
        1 => Just(Some("a-.*")),
        1 => Just(Some(".*-two")),
    ];
    let names = prop::collection::btree_set(0..TOPICS.len(), 0..=TOPICS.len());
    (names, expression).prop_map(|(names, expression)| Subscription {
        names: names
            .into_iter()
            .map(|name| TOPICS[name].to_owned())
            .collect(),
        expression,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS;
    prop_oneof![
        30 => who.clone().prop_map(Step::Beat),
        5 => who.clone().prop_map(Step::BeatUnheard),
        5 => who.clone().prop_map(Step::BeatBusy),
        6 => (who.clone(), subscription()).prop_map(|(who, what)| Step::Subscribe(who, what)),
        4 => who.clone().prop_map(Step::Leave),
        3 => who.clone().prop_map(Step::Vanish),
        3 => who.prop_map(Step::Switch),
        10 => prop_oneof![4 => 0..1500i64, 2 => 1500..15_000i64, 1 => 15_000..60_000i64]
            .prop_map(Step::Pass),
        6 => (0..TOPICS.len(), 1..6).prop_map(|(topic, count)| Step::Make(topic, count)),
        2 => (0..TOPICS.len()).prop_map(Step::Drop),
        3 => Just(Step::FailOver),
        4 => Just(Step::LoseAppend),
        2 => (0..20usize).prop_map(Step::Tear),
    ]
}

struct World {
    bench: Bench,
    clients: Vec<Client>,
    partitions: BTreeMap<usize, i32>,
    /// Clients so far: a new one has a new id.
    made: usize,
    epochs: Epochs,
    /// What the group was like after so many records.
    history: Vec<(usize, Option<State>)>,
}

#[derive(Default)]
struct Epochs {
    group: i32,
    assignment: i32,
    members: BTreeMap<String, i32>,
}

impl World {
    fn new(subscriptions: Vec<Subscription>) -> World {
        let mut bench = Bench::new();
        // Once members of the classic protocol are alone, the group would not be one of ours.
        bench.settings.consumer_migration = MigrationPolicy::Upgrade;
        let mut world = World {
            bench,
            clients: Vec::new(),
            partitions: BTreeMap::new(),
            made: 0,
            epochs: Epochs::default(),
            history: Vec::new(),
        };
        for (place, subscription) in subscriptions.into_iter().enumerate() {
            let client = world.client(place, subscription);
            world.clients.push(client);
        }
        world
    }

    fn client(&mut self, place: usize, subscription: Subscription) -> Client {
        self.made += 1;
        let instance = (place + 2 >= CLIENTS).then(|| format!("instance-{place}"));
        Client::new(format!("member-{}", self.made), instance, subscription)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Beat(who) => self.beat(who, true, Heard::Answer),
            Step::BeatUnheard(who) => self.beat(who, true, Heard::Nothing),
            Step::BeatBusy(who) => self.beat(who, false, Heard::Answer),
            Step::Subscribe(who, what) => self.clients[who].subscribe(what),
            Step::Leave(who) => self.clients[who].leave(&mut self.bench),
            Step::Vanish(who) => {
                let subscription = self.clients[who].subscription.clone();
                self.clients[who] = self.client(who, subscription);
            }
            Step::Switch(who) => {
                let old = self.clients[who].clone();
                let mut new = self.client(who, old.subscription.clone());
                // Without anyone of the consumer protocol there is no group to be in.
                new.is_classic = !old.is_classic && who % 2 == 0;
                if new.is_classic {
                    new.subscription.expression = None;
                }
                self.clients[who].leave(&mut self.bench);
                self.clients[who] = new;
            }
            Step::Pass(ms) => self.bench.pass(ms),
            Step::Make(topic, count) => {
                let known = self.partitions.entry(topic).or_default();
                *known = count.max(*known);
                self.bench.topics.make(TOPICS[topic], *known);
            }
            Step::Drop(topic) => {
                self.partitions.remove(&topic);
                self.bench.topics.drop(TOPICS[topic]);
            }
            Step::FailOver => self.bench.fail_over(),
            Step::LoseAppend => self.bench.loses_append = true,
            Step::Tear(place) => self.bench.tears_at = Some(place),
        }
        self.check();
    }

    fn beat(&mut self, who: usize, gives_up: bool, heard: Heard) {
        let is_there = self.bench.state().is_some_and(|state| !state.is_empty());
        let client = &mut self.clients[who];
        if client.is_classic && !is_there {
            return;
        }
        client.beat(&mut self.bench, gives_up, heard);
    }

    fn check(&mut self) {
        let state = self.bench.state();
        let records = self.bench.log.len();
        if self
            .history
            .last()
            .is_none_or(|(known, _)| *known < records)
        {
            self.history.push((records, state.cloned()));
        }
        let Some(state) = state else {
            return;
        };
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for client in &self.clients {
            if !state.members.contains_key(client.id.as_str()) {
                continue;
            }
            for partition in &client.owned {
                let other = owners.insert(*partition, &client.id);
                assert_eq!(other, None, "{partition:?} also belongs to {}", client.id);
                // What was of a topic that is gone is nobody's, whoever still thinks of it.
                let is_gone = self.bench.topics.name_of(partition.0).is_none();
                assert!(
                    is_gone || state.is_held(partition.0, partition.1),
                    "{partition:?} of {} is free",
                    client.id
                );
            }
        }
        assert!(
            state.epoch >= self.epochs.group,
            "the group's epoch goes back"
        );
        assert!(state.assignment_epoch >= self.epochs.assignment);
        self.epochs.group = state.epoch;
        self.epochs.assignment = state.assignment_epoch;
        for (id, member) in &state.members {
            let known = self.epochs.members.entry(id.to_string()).or_default();
            // 0 for a new incarnation, -2 for one that is away.
            assert!(
                member.epoch <= 0 || member.epoch >= *known,
                "the epoch of {id} goes back"
            );
            *known = member.epoch.max(*known);
        }
    }

    /// Lets the faults stop, and the group come to rest.
    fn settle(&mut self) {
        self.bench.loses_append = false;
        self.bench.tears_at = None;
        let mut quiet = 0;
        for _ in 0..200 {
            let before = (self.bench.log.len(), self.clients.clone());
            for who in 0..CLIENTS {
                self.beat(who, true, Heard::Answer);
                if self.bench.log.len() > before.0 {
                    self.check();
                }
            }
            self.bench.pass(1_100);
            let is_as_before = before.0 == self.bench.log.len() && before.1 == self.clients;
            quiet = if is_as_before { quiet + 1 } else { 0 };
            // Longer than a session, and than the time between two passes over the topics.
            if quiet == 50 {
                return;
            }
        }
        panic!("the group does not come to rest: {:?}", self.bench.state());
    }

    fn check_settled(&self) {
        let Some(state) = self.bench.state().filter(|state| !state.is_empty()) else {
            assert!(self.clients.iter().all(|client| client.is_classic));
            return;
        };
        assert_eq!(state.state_name(), "Stable");
        assert_eq!(state.members.len(), CLIENTS);
        let mut subscribed = BTreeSet::new();
        for client in &self.clients {
            for name in client.subscription.topics(&self.bench.topics) {
                let topic = self
                    .bench
                    .topics
                    .by_name(&name)
                    .expect("named by what there is");
                subscribed.extend((0..topic.partitions).map(|partition| (topic.id, partition)));
            }
        }
        let owned: BTreeSet<(TopicId, i32)> = self
            .clients
            .iter()
            .flat_map(|client| client.owned.iter().copied())
            .collect();
        assert_eq!(
            owned, subscribed,
            "every partition has an owner, and no other is owned"
        );
        for client in &self.clients {
            let topics = client.subscription.topics(&self.bench.topics);
            for (topic, _) in &client.owned {
                let name = self
                    .bench
                    .topics
                    .name_of(*topic)
                    .expect("it is there")
                    .to_string();
                assert!(
                    topics.contains(&name),
                    "{} does not subscribe to {name}",
                    client.id
                );
            }
        }
    }

    fn check_log(&mut self) {
        let mut groups = crate::Groups::default();
        let mut applied = 0;
        for (records, state) in &self.history {
            assert!(*records >= applied);
            for offset in applied..*records {
                self.bench.apply_to(&mut groups, offset);
            }
            applied = *records;
            assert_eq!(groups.state().consumer(GROUP), state.as_ref());
        }
        let compacted = self.bench.compacted();
        assert_eq!(compacted.state().consumer(GROUP), self.bench.state());
        self.bench.fail_over();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::bench::from_environment("PROPTEST_CASES", 60),
        max_shrink_iters: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_breaks_a_group(
        subscriptions in prop::collection::vec(subscription(), CLIENTS..=CLIENTS),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(subscriptions);
        for topic in 0..2 {
            world.step(Step::Make(topic, 3));
        }
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check_settled();
        world.check_log();
    }
}
