//! Many members, large subscriptions, clients that come and vanish: bounded work and memory.

use super::bench::{Bench, GROUP};
use crate::group::{Call, Response};
use crate::shard::Shard;
use crate::wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

fn join(bench: &mut Bench, member: &str, names: &[String]) -> ConsumerGroupHeartbeatResponse {
    beat(
        bench,
        ConsumerGroupHeartbeatRequest {
            member_id: member.to_owned(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(names.to_vec()),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        },
    )
}

fn beat(
    bench: &mut Bench,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: GROUP.to_owned(),
        ..request
    };
    let asked = bench.ask("hostile", 1, Call::ConsumerGroupHeartbeat(request));
    match bench.replies.remove(&asked) {
        Some(Response::ConsumerGroupHeartbeat(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_that_subscribe_alike_share_their_subscription() {
    let mut bench = Bench::new();
    bench.is_checked = false;
    let names: Vec<String> = (0..1000)
        .map(|number| format!("topic-{number:0>200}"))
        .collect();
    for member in 0..300 {
        assert_eq!(
            join(&mut bench, &format!("m{member}"), &names).error_code,
            0
        );
    }
    let state = bench.state().unwrap();
    state.validate();
    assert_eq!(state.derived.lists.len(), 1);
    assert!(state.derived.subscription_bytes < 1_000 * 256 + 300 * 50);
}

/// A member that joins and vanishes, again and again, is forgotten when its session ends, and
/// nothing is left of it.
#[test]
fn nothing_is_left_of_members_that_vanish() {
    let mut bench = Bench::new();
    bench.topics.make("t", 4);
    for member in 0..200 {
        assert_eq!(
            join(&mut bench, &format!("m{member}"), &["t".to_owned()]).error_code,
            0
        );
        bench.pass(100);
    }
    assert!(bench.state().unwrap().members.len() <= 200);
    bench.pass(60_000);
    let state = bench.state().unwrap();
    assert!(state.is_empty() && state.target.is_empty() && state.derived.topics.is_empty());
    // What is left is the sweep over old offsets, which looks every ten minutes.
    let deadline = bench.groups.next_deadline().unwrap();
    assert!(deadline.get() > bench.now + 60_000, "no timers are left");
    assert!(
        format!("{:?}", bench.groups).len() < 5_000,
        "{:?}",
        bench.groups
    );
}

#[test]
fn other_groups_are_undisturbed_by_a_group_that_is_full() {
    let mut bench = Bench::new();
    bench.settings.consumer_max_size = 3;
    bench.topics.make("t", 4);
    for member in 0..10 {
        let code = join(&mut bench, &format!("m{member}"), &["t".to_owned()]).error_code;
        assert_eq!(code == 0, member < 3, "{member}");
    }
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "other".to_owned(),
        member_id: "m".to_owned(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".to_owned()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let asked = bench.ask("other", 1, Call::ConsumerGroupHeartbeat(request));
    let Some(Response::ConsumerGroupHeartbeat(response)) = bench.replies.remove(&asked) else {
        panic!("no answer");
    };
    assert_eq!(response.error_code, 0);
}

#[test]
fn what_members_say_of_themselves_is_bounded_too() {
    let mut bench = Bench::new();
    bench.is_checked = false;
    let mut joined = 0;
    while joined < 1000 {
        let request = ConsumerGroupHeartbeatRequest {
            member_id: format!("m{joined}"),
            rebalance_timeout_ms: 60_000,
            // A text of the protocol has at most 32,767 bytes.
            rack_id: Some("r".repeat(32_000)),
            subscribed_topic_names: Some(Vec::new()),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        if beat(&mut bench, request).error_code != 0 {
            break;
        }
        joined += 1;
    }
    assert_eq!(joined, 524);
    bench.state().unwrap().validate();
    // Who is there may stay, say less, and go.
    let request = ConsumerGroupHeartbeatRequest {
        member_id: "m0".to_owned(),
        member_epoch: 1,
        rack_id: Some("r".to_owned()),
        ..Default::default()
    };
    assert_eq!(beat(&mut bench, request).error_code, 0);
    assert_eq!(join(&mut bench, "m524", &[]).error_code, 0);
}

#[test]
fn odd_numbers_are_numbers() {
    let mut bench = Bench::new();
    bench.topics.make("t", 2);
    assert_eq!(join(&mut bench, "m", &["t".to_owned()]).error_code, 0);
    for (epoch, timeout, partitions) in [
        (i32::MAX, i32::MAX, vec![i32::MIN, -1, i32::MAX]),
        (i32::MIN, i32::MIN, Vec::new()),
        (2, i32::MIN, vec![-5, 7, 7, 7]),
        (1, 0, vec![0]),
        (2, i32::MAX, vec![i32::MAX; 1000]),
    ] {
        let owned = crate::wire::consumer_group_heartbeat_request::TopicPartitions {
            topic_id: millrace_model::Uuid([7; 16]),
            partitions,
            ..Default::default()
        };
        beat(
            &mut bench,
            ConsumerGroupHeartbeatRequest {
                member_id: "m".to_owned(),
                member_epoch: epoch,
                rebalance_timeout_ms: timeout,
                topic_partitions: Some(vec![owned.clone(), owned]),
                ..Default::default()
            },
        );
    }
    bench.state().unwrap().validate();
}

/// A thousand members and ten thousand partitions: each member's way to its share.
#[test]
fn a_large_group_gets_to_its_shares() {
    let mut bench = Bench::new();
    bench.is_checked = false;
    for topic in 0..100 {
        bench.topics.make(&format!("topic-{topic}"), 100);
    }
    let names: Vec<String> = (0..100).map(|topic| format!("topic-{topic}")).collect();
    let mut epochs = Vec::new();
    for member in 0..1000 {
        let answer = join(&mut bench, &format!("m{member:0>4}"), &names);
        epochs.push(answer.member_epoch);
        if member == 499 {
            bench.pass(1_001);
        }
    }
    bench.pass(1_001);
    let mut owned: Vec<Option<Vec<_>>> = vec![None; 1000];
    for _ in 0..4 {
        for member in 0..1000 {
            let request = ConsumerGroupHeartbeatRequest {
                member_id: format!("m{member:0>4}"),
                member_epoch: epochs[member],
                topic_partitions: owned[member].take(),
                ..Default::default()
            };
            let answer = beat(&mut bench, request);
            assert_eq!(answer.error_code, 0, "{member}");
            epochs[member] = answer.member_epoch;
            owned[member] = answer.assignment.map(|told| {
                use crate::wire::consumer_group_heartbeat_request::TopicPartitions;
                let told = told.topic_partitions.into_iter();
                told.map(|topic| TopicPartitions {
                    topic_id: topic.topic_id,
                    partitions: topic.partitions,
                    ..Default::default()
                })
                .collect()
            });
        }
    }
    let state = bench.state().unwrap();
    state.validate();
    assert_eq!(state.state_name(), "Stable");
    let sizes = state
        .members
        .values()
        .map(|member| member.assigned.0.values().map(Vec::len).sum::<usize>());
    assert!(sizes.into_iter().all(|size| size == 10));
}
