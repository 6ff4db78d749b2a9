//! Both assignors against what Kafka 4.3.1 gives in the same cases, and their own promises over
//! random groups.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millrace_coordinator::assignor::{Assignor, Describe, MemberSpec, Partitions};
use millrace_model::{TopicId, Uuid};
use proptest::prelude::*;
use serde_json::Value;

#[derive(Debug, Default)]
struct Topics(BTreeMap<TopicId, Vec<Vec<String>>>);

impl Describe for Topics {
    fn partition_count(&self, topic: TopicId) -> Option<i32> {
        self.0.get(&topic).map(|partitions| partitions.len() as i32)
    }

    fn racks(&self, topic: TopicId, partition: i32, each: &mut dyn FnMut(&str)) {
        for rack in &self.0[&topic][partition as usize] {
            each(rack);
        }
    }
}

#[derive(Clone, Debug)]
struct Member {
    id: String,
    instance: Option<String>,
    rack: Option<String>,
    topics: Vec<TopicId>,
    owned: Partitions,
}

fn assign(assignor: Assignor, members: &[Member], topics: &Topics) -> Vec<Partitions> {
    let mut distinct: Vec<&[TopicId]> = Vec::new();
    let specs: Vec<MemberSpec<'_>> = members
        .iter()
        .map(|member| {
            let known = distinct.iter().find(|known| **known == member.topics);
            let topics = match known {
                Some(known) => *known,
                None => {
                    distinct.push(&member.topics);
                    &member.topics
                }
            };
            MemberSpec {
                id: &member.id,
                instance: member.instance.as_deref(),
                rack: member.rack.as_deref(),
                topics,
                owned: &member.owned,
            }
        })
        .collect();
    let result = assignor.assign(&specs, topics);
    validate(members, topics, &result);
    result
}

/// Every subscribed partition has one owner, who subscribes to it.
fn validate(members: &[Member], topics: &Topics, result: &[Partitions]) {
    assert_eq!(members.len(), result.len());
    let mut seen = BTreeSet::new();
    for (member, partitions) in members.iter().zip(result) {
        for partition in partitions.iter() {
            assert!(
                member.topics.binary_search(&partition.0).is_ok(),
                "{}",
                member.id
            );
            assert!(seen.insert(partition), "{partition:?} twice");
        }
    }
    let subscribed: BTreeSet<TopicId> = members
        .iter()
        .flat_map(|member| member.topics.iter().copied())
        .collect();
    let partitions = |topic| 0..topics.partition_count(topic).unwrap_or(0);
    let wanted: BTreeSet<(TopicId, i32)> = subscribed
        .iter()
        .flat_map(|topic| partitions(*topic).map(|partition| (*topic, partition)))
        .collect();
    assert_eq!(seen, wanted);
}

fn kept(members: &[Member], result: &[Partitions]) -> usize {
    members
        .iter()
        .zip(result)
        .flat_map(|(member, partitions)| {
            member
                .owned
                .iter()
                .filter(|(topic, partition)| partitions.contains(*topic, *partition))
        })
        .count()
}

fn near(members: &[Member], topics: &Topics, result: &[Partitions]) -> usize {
    let mut count = 0;
    for (member, partitions) in members.iter().zip(result) {
        for (topic, partition) in partitions.iter() {
            let mut is_near = false;
            topics.racks(topic, partition, &mut |rack| {
                is_near |= Some(rack) == member.rack.as_deref();
            });
            count += usize::from(is_near);
        }
    }
    count
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn partitions(value: &Value, ids: &BTreeMap<String, TopicId>) -> Partitions {
    let topics = value.as_object().expect("an object of topics");
    Partitions::from_unsorted(topics.iter().map(|(name, numbers)| {
        let numbers = numbers.as_array().expect("an array of partitions");
        let numbers = numbers.iter().map(|number| number.as_i64().unwrap() as i32);
        (ids[name], numbers.collect())
    }))
}

/// Reads the case's topics and members.
fn case(line: &Value) -> (Topics, BTreeMap<String, TopicId>, Vec<Member>) {
    let mut topics = Topics::default();
    let mut ids = BTreeMap::new();
    for topic in line["topics"].as_array().unwrap() {
        let id: TopicId = topic["id"].as_str().unwrap().parse().unwrap();
        ids.insert(text(&topic["name"]).unwrap(), id);
        let count = topic["partitions"].as_i64().unwrap();
        if count < 0 {
            continue;
        }
        let racks = (0..count as usize).map(|partition| {
            let racks = topic["racks"][partition].as_array();
            racks.map_or_else(Vec::new, |racks| racks.iter().filter_map(text).collect())
        });
        topics.0.insert(id, racks.collect());
    }
    let members = line["members"].as_array().unwrap().iter().map(|member| {
        let subscribed = member["subscribed"].as_array().unwrap().iter();
        let subscribed: BTreeSet<TopicId> =
            subscribed.map(|name| ids[name.as_str().unwrap()]).collect();
        Member {
            id: text(&member["id"]).unwrap(),
            instance: text(&member["instanceId"]),
            rack: text(&member["rackId"]),
            topics: subscribed.into_iter().collect(),
            owned: partitions(&member["owned"], &ids),
        }
    });
    let members = members.collect();
    (topics, ids, members)
}

#[test]
fn as_good_as_kafka() {
    for line in include_str!("data/assignors.jsonl").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = format!("{} {}", line["assignor"], line["case"]);
        let (topics, ids, members) = case(&line);
        let assignor = Assignor::named(line["assignor"].as_str().unwrap()).unwrap();
        let ours = assign(assignor, &members, &topics);
        // Where Kafka's fails (a topic that does not exist), ours passes it over.
        let Some(smallest) = line["smallest"].as_u64() else {
            continue;
        };
        let sizes: Vec<u64> = ours.iter().map(|member| member.count() as u64).collect();
        let our_smallest = sizes.iter().min().copied().unwrap_or(0);
        let our_largest = sizes.iter().max().copied().unwrap_or(0);
        assert!(our_smallest >= smallest, "{name}: {ours:?}");
        assert!(
            our_largest <= line["largest"].as_u64().unwrap(),
            "{name}: {ours:?}"
        );
        let as_even = our_smallest == smallest;
        let our_kept = kept(&members, &ours) as u64;
        assert!(
            !as_even || our_kept >= line["kept"].as_u64().unwrap(),
            "{name}: kept {our_kept} {ours:?}"
        );
        if assignor == Assignor::Range {
            for (member, ours) in members.iter().zip(&ours) {
                let theirs = line["result"].get(&member.id);
                let theirs = theirs.map_or_else(Partitions::default, |p| partitions(p, &ids));
                assert_eq!(*ours, theirs, "{name}: {}", member.id);
            }
        }
    }
}

/// `members` is "id@rack topic,topic owned" with owned as "topic:1,2".
#[track_caller]
fn check_near(racks: &[&[&str]], members: &[(&str, &str)], near_ones: usize) {
    let id = TopicId(Uuid::ONE);
    let racks = racks
        .iter()
        .map(|racks| racks.iter().map(|rack| (*rack).to_owned()).collect());
    let topics = Topics(BTreeMap::from([(id, racks.collect())]));
    let members: Vec<Member> = members
        .iter()
        .map(|(name, rack)| Member {
            id: (*name).to_owned(),
            instance: None,
            rack: (!rack.is_empty()).then(|| (*rack).to_owned()),
            topics: vec![id],
            owned: Partitions::default(),
        })
        .collect();
    let result = assign(Assignor::Uniform, &members, &topics);
    assert_eq!(near(&members, &topics, &result), near_ones, "{result:?}");
    let sizes: Vec<usize> = result.iter().map(Partitions::count).collect();
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
}

#[test]
fn uniform_prefers_near_racks() {
    let ring: &[&[&str]] = &[
        &["a", "b"],
        &["b", "c"],
        &["a", "c"],
        &["a", "b"],
        &["b", "c"],
        &["a", "c"],
    ];
    check_near(ring, &[("A", "a"), ("B", "b"), ("C", "c")], 6);
    check_near(ring, &[("A", "c"), ("B", "b"), ("C", "a")], 6);
    check_near(ring, &[("A", "a"), ("B", ""), ("C", "x")], 2);
    let single: &[&[&str]] = &[&["a"], &["a"], &["b"], &["b"], &["c"], &["c"]];
    check_near(single, &[("A", "c"), ("B", "a"), ("C", "b")], 6);
    check_near(&[&["x"], &["x"], &["y"]], &[("A", "a"), ("B", "b")], 0);
}

fn topic(number: usize) -> TopicId {
    TopicId(Uuid((number as u128 + 1).to_be_bytes()))
}

prop_compose! {
    fn group()(
        counts in prop::collection::vec(0usize..9, 1..6),
        subscriptions in prop::collection::vec(prop::collection::btree_set(0usize..6, 0..4), 1..7),
        alike in any::<bool>(),
        racks in prop::collection::vec(prop::option::of(0usize..3), 7),
    ) -> (Topics, Vec<Member>) {
        let topics = counts.iter().enumerate().map(|(number, count)| {
            let racks = (0..*count).map(|p| vec![format!("r{}", p % 3)]).collect();
            (topic(number), racks)
        });
        let members = subscriptions.iter().enumerate().map(|(number, subscribed)| {
            let subscribed = if alike { &subscriptions[0] } else { subscribed };
            Member {
                id: format!("m{number}"),
                instance: (number % 3 == 2).then(|| format!("i{}", 9 - number)),
                rack: racks[number].map(|rack| format!("r{rack}")),
                topics: subscribed.iter().map(|number| topic(*number)).collect(),
                owned: Partitions::default(),
            }
        });
        (Topics(topics.collect()), members.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_second_assignment_moves_nothing((topics, mut members) in group(), range in any::<bool>()) {
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        let first = assign(assignor, &members, &topics);
        for (member, owned) in members.iter_mut().zip(&first) {
            member.owned = owned.clone();
        }
        prop_assert_eq!(&assign(assignor, &members, &topics), &first);
    }

    #[test]
    fn members_that_subscribe_alike_get_even_numbers_and_keep_what_they_can(
        (topics, mut members) in group(), leaving in 0usize..7,
    ) {
        let subscription = members[0].topics.clone();
        for member in &mut members {
            member.topics = subscription.clone();
        }
        let first = assign(Assignor::Uniform, &members, &topics);
        for (member, owned) in members.iter_mut().zip(&first) {
            member.owned = owned.clone();
        }
        if members.len() > 1 {
            members.remove(leaving % members.len());
        }
        let owned: usize = members.iter().map(|member| member.owned.count()).sum();
        let second = assign(Assignor::Uniform, &members, &topics);
        let sizes: Vec<usize> = second.iter().map(Partitions::count).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        prop_assert_eq!(kept(&members, &second), owned, "who stays keeps everything");
    }

    #[test]
    fn no_move_between_two_members_would_even_out_more((topics, members) in group()) {
        let result = assign(Assignor::Uniform, &members, &topics);
        for (giver, gives) in members.iter().zip(&result) {
            for (taker, takes) in members.iter().zip(&result) {
                let common = gives.0.keys().any(|topic| taker.topics.contains(topic));
                prop_assert!(
                    !common || gives.count() <= takes.count() + 1,
                    "{} could give {} something", giver.id, taker.id
                );
            }
        }
    }
}

/// 1,000 members, 10,000 partitions of 100 topics: unassigned, as it is, and with a member more.
#[test]
fn large_groups_are_assigned_quickly() {
    let topics = Topics(
        (0..100)
            .map(|number| (topic(number), vec![vec!["r".to_owned()]; 100]))
            .collect(),
    );
    for distinct in [1, 10] {
        let mut members: Vec<Member> = (0..1000)
            .map(|number| Member {
                id: format!("m{number:04}"),
                instance: None,
                rack: Some("r".to_owned()),
                topics: (0..100 - number % distinct).map(topic).collect(),
                owned: Partitions::default(),
            })
            .collect();
        for _ in 0..3 {
            let start = Instant::now();
            let result = assign(Assignor::Uniform, &members, &topics);
            // Includes the check itself, unoptimised; what counts is that nothing is quadratic.
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{:?}",
                start.elapsed()
            );
            println!("{distinct} subscriptions: {:?}", start.elapsed());
            for (member, owned) in members.iter_mut().zip(result) {
                member.owned = owned;
            }
            let mut newcomer = members[0].clone();
            newcomer.id = format!("n{}", members.len());
            newcomer.owned = Partitions::default();
            members.push(newcomer);
        }
    }
}
