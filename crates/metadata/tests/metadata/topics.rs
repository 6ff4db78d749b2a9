//! Creating, growing and deleting topics; placing replicas; balancing leaders.

use std::collections::BTreeMap;

use crate::common::*;
use millrace_metadata::decide::*;
use millrace_metadata::*;
use millrace_model::*;

const DEFAULTS: TopicDefaults = TopicDefaults {
    partitions: 2,
    replication_factor: 1,
};

/// A sequence without much pattern, the same in every run.
fn random() -> impl FnMut() -> u64 {
    let mut state = 7u64;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        state.rotate_left(29) ^ (state >> 7)
    }
}

fn topic(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic {
        name: name.into(),
        partitions,
        replication_factor,
        ..NewTopic::default()
    }
}

fn manual(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    NewTopic {
        assignments: assignments
            .iter()
            .map(|(index, brokers)| (*index, ids(brokers)))
            .collect(),
        ..topic(name, -1, -1)
    }
}

fn create(image: &Image, topics: &[NewTopic]) -> Decision<Vec<Result<CreatedTopic, Refusal>>> {
    create_topics(image, &AnyConfig, topics, DEFAULTS, false, &mut random())
}

/// Brokers 1 to 3, of which 3 is fenced, and a topic `a.b`.
fn image() -> Image {
    let image = cluster(&[1, 2, 3]);
    let image = after(&image, fence(&image, &[b(3)]).records);
    with_topic(&image, 1, "a.b", vec![partition(&[1, 2], &[1, 2])])
}

fn check_refused(topic: NewTopic, code: ErrorCode, why: &str) {
    let decision = create(&image(), &[topic]);
    let refusal = decision.reply[0].clone().unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.as_deref()),
        (code, Some(why))
    );
    assert_eq!(decision.records, []);
}

#[test]
fn topics_that_cannot_be_are_refused_in_kafkas_words() {
    use ErrorCode::*;
    check_refused(
        topic("a b", 1, 1),
        InvalidTopicException,
        "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
         alphanumerics, '.', '_' and '-'",
    );
    check_refused(
        topic("a.b", 1, 1),
        TopicAlreadyExists,
        "Topic 'a.b' already exists.",
    );
    check_refused(
        topic("a_b", 1, 1),
        InvalidTopicException,
        "Topic 'a_b' collides with existing topic: a.b",
    );
    check_refused(
        topic("t", 1, 0),
        InvalidReplicationFactor,
        "Replication factor must be larger than 0, or -1 to use the default value.",
    );
    check_refused(
        topic("t", 0, 1),
        InvalidPartitions,
        "Number of partitions was set to an invalid non-positive value.",
    );
    check_refused(
        topic("t", 1, 4),
        InvalidReplicationFactor,
        "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot \
         be reached because only 3 broker(s) are registered or some brokers have all their log \
         directories cordoned.",
    );
    check_refused(
        topic("t", 10_001, 1),
        PolicyViolation,
        "Excessively large number of partitions per request.",
    );
    let null = NewTopic {
        configs: ["x", "y"].map(|name| (name.into(), Option::None)).to_vec(),
        ..topic("t", 1, 1)
    };
    check_refused(
        null,
        InvalidConfig,
        "Null value not supported for topic configs: x,y",
    );
}

#[test]
fn manual_assignments_that_cannot_be_are_refused_in_kafkas_words() {
    use ErrorCode::*;
    let with = |partitions, replication_factor| NewTopic {
        partitions,
        replication_factor,
        ..manual("t", &[(0, &[1])])
    };
    check_refused(
        with(-1, 1),
        InvalidRequest,
        "A manual partition assignment was specified, but replication factor was not set to -1.",
    );
    check_refused(
        with(1, -1),
        InvalidRequest,
        "A manual partition assignment was specified, but numPartitions was not set to -1.",
    );
    let assignment = |assignments: &[(i32, &[i32])], why: &str| {
        check_refused(manual("t", assignments), InvalidReplicaAssignment, why);
    };
    assignment(
        &[(0, &[1]), (0, &[2])],
        "Found multiple manual partition assignments for partition 0",
    );
    assignment(
        &[(0, &[])],
        "The manual partition assignment includes an empty replica list.",
    );
    assignment(
        &[(0, &[1, 7])],
        "The manual partition assignment includes broker 7, but no such broker is registered.",
    );
    assignment(
        &[(0, &[1, 1])],
        "The manual partition assignment includes the broker 1 more than once.",
    );
    assignment(
        &[(0, &[1]), (1, &[1, 2])],
        "The manual partition assignment includes a partition with 2 replica(s), but this is not \
         consistent with previous partitions, which have 1 replica(s).",
    );
    assignment(
        &[(0, &[3])],
        "All brokers specified in the manual partition assignment for partition 0 are fenced or \
         in controlled shutdown.",
    );
    assignment(
        &[(0, &[1]), (2, &[1])],
        "partitions should be a consecutive 0-based integer sequence",
    );
}

#[test]
fn topics_of_one_request_see_each_other() {
    let image = image();
    let mut wanted = vec![topic("x.y", -1, -1), topic("x_y", 1, 1), topic("m", 1, 9)];
    wanted.push(manual("m", &[(1, &[3, 2]), (0, &[2, 3])]));
    wanted[0]
        .configs
        .push(("cleanup.policy".into(), Some("compact".into())));
    let decision = create(&image, &wanted);
    let replies: Vec<_> = decision
        .reply
        .iter()
        .map(|r| r.as_ref().err().map(|e| e.code))
        .collect();
    let (collides, few) = (
        ErrorCode::InvalidTopicException,
        ErrorCode::InvalidReplicationFactor,
    );
    assert_eq!(replies, [None, Some(collides), Some(few), None]);
    let created = decision.reply[0].clone().unwrap();
    assert_eq!((created.partitions, created.replication_factor), (2, 1));
    let image = after(&image, decision.records);
    assert_eq!(image.topic_named("x.y").unwrap().id, created.id);
    let resource = Resource::topic(&created.name);
    assert_eq!(image.config(&resource, "cleanup.policy"), Some("compact"));
    // A fenced replica is no member of the ISR; the first that serves leads.
    let manual = image.topic_named("m").unwrap().id;
    let partitions: Vec<_> = image
        .partitions_of(manual)
        .map(|(_, p)| p.clone())
        .collect();
    assert_eq!(
        (&partitions[1].replicas, &partitions[1].isr),
        (&ids(&[3, 2]), &ids(&[2]))
    );
    assert_eq!(partitions[1].leader, Some(b(2)));
    let only = create_topics(
        &image,
        &AnyConfig,
        &[topic("v", 1, 1)],
        DEFAULTS,
        true,
        &mut random(),
    );
    assert!(only.records.is_empty() && only.reply[0].is_ok());
}

#[test]
fn partitions_are_added_and_topics_deleted() {
    let image = image();
    let check = |count, assignments: Option<&[&[i32]]>, why: &str| {
        let asked = MorePartitions {
            topic: "a.b".into(),
            count,
            assignments: assignments.map(|all| all.iter().map(|one| ids(one)).collect()),
        };
        let decision = create_partitions(&image, &[asked], false, &mut random());
        match &decision.reply[0] {
            Ok(()) => assert_eq!(why, ""),
            Err(refusal) => assert_eq!(refusal.message.as_deref(), Some(why)),
        }
        after(&image, decision.records)
            .topic_named("a.b")
            .unwrap()
            .partitions
    };
    check(1, None, "Topic already has 1 partition(s).");
    check(
        0,
        None,
        "The topic a.b currently has 1 partition(s); 0 would not be an increase.",
    );
    check(
        3,
        Some(&[&[1, 2]]),
        "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
    );
    check(
        2,
        Some(&[&[1]]),
        "The manual partition assignment includes a partition with 1 replica(s), but this is not \
         consistent with previous partitions, which have 2 replica(s).",
    );
    assert_eq!(check(2, Some(&[&[3, 1]]), ""), 2);
    assert_eq!(check(5, None, ""), 5);
    let decision = delete_topics(&image, &[topic_id(1), topic_id(1)]);
    assert_eq!(decision.reply[0], Ok(()));
    assert_eq!(
        decision.reply[1].clone().unwrap_err().code,
        ErrorCode::UnknownTopicId
    );
    let image = after(&image, decision.records);
    assert_eq!((image.topic_count(), image.partition_count()), (0, 0));
}

/// A cluster of brokers in these racks, numbered from 1.
fn racks(racks: &[&str]) -> Image {
    let mut records = vec![];
    for (place, rack) in racks.iter().enumerate() {
        let id = place as i32 + 1;
        records.push(Record::RegisterBroker(Broker {
            rack: Some((*rack).to_owned()),
            ..broker(id, i64::from(id))
        }));
    }
    after(&Image::default(), records)
}

fn spread(counts: impl IntoIterator<Item = usize>) -> usize {
    let counts: Vec<usize> = counts.into_iter().collect();
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

#[test]
fn replicas_are_spread_over_racks_and_even_in_leaders() {
    let image = racks(&["a", "a", "b", "b", "c", "c"]);
    let image = after(&image, create(&image, &[topic("t", 30, 3)]).records);
    for (_, p) in image.partitions() {
        let rack = |broker: &BrokerId| image.broker(*broker).unwrap().rack.clone();
        let distinct: std::collections::BTreeSet<_> = p.replicas.iter().map(rack).collect();
        assert_eq!(distinct.len(), 3, "{p:?}");
    }
    let loads: Vec<Load> = image.brokers().map(|node| image.load(node.id)).collect();
    assert!(spread(loads.iter().map(|l| l.preferred)) <= 1, "{loads:?}");
    assert!(spread(loads.iter().map(|l| l.replicas)) <= 3, "{loads:?}");
}

#[test]
fn topics_of_one_partition_are_even_too() {
    let mut image = cluster(&[1, 2, 3]);
    for number in 0..30 {
        image = after(
            &image,
            create(&image, &[topic(&format!("t{number}"), 1, 2)]).records,
        );
    }
    let loads: Vec<Load> = image.brokers().map(|node| image.load(node.id)).collect();
    assert!(spread(loads.iter().map(|l| l.leaders)) <= 1, "{loads:?}");
    assert!(spread(loads.iter().map(|l| l.replicas)) <= 2, "{loads:?}");
}

#[test]
fn the_leaderships_of_a_dead_broker_are_spread_over_the_others() {
    let image = cluster(&[1, 2, 3, 4]);
    let image = after(&image, create(&image, &[topic("t", 48, 3)]).records);
    let image = after(&image, fence(&image, &[b(1)]).records);
    let leaders: BTreeMap<_, _> = [2, 3, 4].map(|id| (id, image.load(b(id)).leaders)).into();
    assert!(spread(leaders.values().copied()) <= 2, "{leaders:?}");
    // It comes back in sync with nothing; balance waits for that.
    let mut image = after(
        &image,
        vec![Record::UnfenceBroker {
            id: b(1),
            epoch: BrokerEpoch(1),
        }],
    );
    assert_eq!(balance(&image, 10).records, []);
    let lost: Vec<_> = image
        .hosted_by(b(1))
        .map(|(id, p)| (id, p.clone()))
        .collect();
    let back = lost.into_iter().map(|(id, p)| {
        Record::PartitionChange(PartitionChange {
            isr: Some(p.replicas.clone()),
            ..PartitionChange::of(id, &p)
        })
    });
    let back: Vec<_> = back.collect();
    image = after(&image, back);
    assert_eq!(
        balance(&image, 100).records,
        [],
        "not out of balance enough"
    );
    let decision = balance(&image, 10);
    assert_eq!((decision.records.len(), decision.reply), (12, false));
    let image = after(&image, decision.records);
    assert_eq!(image.load(b(1)).missed, 0);
}

#[test]
fn a_thousand_partitions_fail_over_in_one_batch() {
    let mut image = cluster(&[1, 2, 3]);
    let topics: Vec<_> = (0..20).map(|n| topic(&format!("t{n}"), 50, 3)).collect();
    image = after(&image, create(&image, &topics).records);
    let decision = fence(&image, &[b(2)]);
    assert_eq!(decision.records.len(), 1001);
    let next = after(&image, decision.records);
    assert_eq!(next.load(b(2)).leaders, 0);
    assert_eq!(Delta::between(&image, &next).partitions.len(), 1000);
}

#[test]
fn elections_answer_for_each_partition() {
    let image = image();
    let check = |kind, name: &str, index, code| {
        let decision = elect(&image, kind, Some(&[(name.to_owned(), vec![index])]));
        let result = decision.reply[0]
            .result
            .clone()
            .map_err(|refusal| refusal.code);
        assert_eq!(result, Err(code));
        assert_eq!(decision.records, []);
    };
    use ElectionKind::*;
    check(Preferred, "no", 0, ErrorCode::UnknownTopicOrPartition);
    check(Preferred, "a.b", 3, ErrorCode::UnknownTopicOrPartition);
    check(Preferred, "a.b", 0, ErrorCode::ElectionNotNeeded);
    check(Unclean, "a.b", 0, ErrorCode::ElectionNotNeeded);
    assert_eq!(elect(&image, Preferred, None).reply, []);
    let image = after(&image, fence(&image, &[b(1)]).records);
    let decision = elect(&image, Preferred, None);
    let refusal = decision.reply[0].result.clone().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::PreferredLeaderNotAvailable);
    let image = after(&image, fence(&image, &[b(2)]).records);
    let decision = elect(&image, Unclean, None);
    let refusal = decision.reply[0].result.clone().unwrap_err();
    assert_eq!(refusal.code, ErrorCode::EligibleLeadersNotAvailable);
}
