//! Clients that mean harm, or are merely broken: right codes, bounded memory, others undisturbed.

use bytes::Bytes;
use millrace_coordinator::Shard;
use millrace_coordinator::group::{Call, Response};
use millrace_model::Timestamp;
use millrace_model::limits::{
    MAX_GROUP_SUBSCRIPTION_BYTES, MAX_PENDING_MEMBERS, MAX_SWEEP_RECORDS,
};
use millrace_protocol::messages as wire;

use wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use crate::bench::{Bench, Event, START};
use crate::render;

fn join(group: &str, metadata: Bytes) -> Call {
    Call::JoinGroup(JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".to_owned(),
            metadata,
            ..Default::default()
        }],
        ..Default::default()
    })
}

fn commit(group: &str, topic: &str, partitions: i32) -> Call {
    let partitions = (0..partitions).map(|partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 1,
        ..Default::default()
    });
    Call::OffsetCommit(OffsetCommitRequest {
        group_id: group.to_owned(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// A bench that does not load its whole log after every one of thousands of steps.
fn unwatched() -> Bench {
    let mut bench = Bench::new();
    bench.validates = false;
    bench
}

/// The codes of all answers to a join.
fn codes(events: &[Event]) -> Vec<&'static str> {
    let codes = events.iter().filter_map(|event| match event {
        Event::Replied(_, Response::JoinGroup(answer)) => Some(render::code(answer.error_code)),
        _ => None,
    });
    codes.collect()
}

#[test]
fn a_client_that_never_uses_its_member_ids_is_given_no_more() {
    let mut bench = unwatched();
    let mut refused = 0;
    for _ in 0..MAX_PENDING_MEMBERS + 100 {
        let (_, events) = bench.ask(9, "loop", join("g", Bytes::new()));
        match codes(&events)[..] {
            ["MEMBER_ID_REQUIRED"] => assert_eq!(refused, 0),
            ["GROUP_MAX_SIZE_REACHED"] => refused += 1,
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 100);
    // Others do not notice, and once the sessions are over nothing is left but the group's record.
    let (_, events) = bench.ask(9, "other", join("h", Bytes::new()));
    assert_eq!(codes(&events), ["MEMBER_ID_REQUIRED"]);
    bench.pass(Timestamp(START.get() + 30_000));
    let next = bench
        .shard
        .next_deadline()
        .expect("the look at old offsets");
    assert_eq!(next, Timestamp(START.get() + 600_000));
    bench.pass(next);
    assert_eq!(bench.shard.states().classic_empty, 0);
    assert_eq!(bench.log.len(), 4, "two groups came and went");
}

#[test]
fn members_that_join_and_vanish_leave_nothing() {
    let mut bench = unwatched();
    for round in 0..50 {
        for _ in 0..20 {
            bench.ask(3, "loop", join("g", Bytes::from_static(b"x")));
        }
        bench.pass(Timestamp(START.get() + (round + 1) * 400_000));
        let states = bench.shard.states();
        let groups = states.classic_empty
            + states.classic_stable
            + states.classic_preparing_rebalance
            + states.classic_completing_rebalance;
        assert!(groups <= 1, "{states:?}");
    }
    bench.pass(Timestamp(START.get() + 50 * 400_000 + 1_200_000));
    assert_eq!(bench.shard.states(), Default::default());
}

#[test]
fn huge_subscriptions_fill_a_group_and_no_more() {
    let mut bench = unwatched();
    let huge = Bytes::from(vec![b'x'; MAX_GROUP_SUBSCRIPTION_BYTES / 4]);
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        let (_, events) = bench.ask(3, "huge", join("g", huge.clone()));
        outcomes.extend(codes(&events));
    }
    // Three wait for the others; the names of strategies count too.
    assert_eq!(outcomes, ["GROUP_MAX_SIZE_REACHED"; 3]);
    let (_, events) = bench.ask(3, "small", join("g", Bytes::from_static(b"x")));
    assert!(
        codes(&events).is_empty(),
        "there is room for reasonable members"
    );
    let too_much = Bytes::from(vec![b'x'; MAX_GROUP_SUBSCRIPTION_BYTES + 1]);
    let (_, events) = bench.ask(3, "huger", join("h", too_much));
    assert_eq!(codes(&events), ["GROUP_MAX_SIZE_REACHED"]);
    assert_eq!(
        bench.log.len(),
        1,
        "nothing is remembered of the group that nobody could join"
    );
}

#[test]
fn a_subscription_does_not_keep_the_frame_it_came_in() {
    let mut bench = unwatched();
    let frame = Bytes::from(vec![b'x'; 1_000_000]);
    bench.ask(3, "a", join("g", frame.slice(10..20)));
    assert!(frame.is_unique(), "the member's subscription is a copy");
}

#[test]
fn a_commit_that_repeats_long_names_is_refused_before_it_is_built() {
    let mut bench = unwatched();
    let group = "g".repeat(30_000);
    let (_, events) = bench.ask(8, "a", commit(&group, "t", 100_000));
    let [Event::Replied(_, Response::OffsetCommit(answer))] = &events[..] else {
        panic!("one answer and no records");
    };
    let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    for partition in codes {
        assert_eq!(
            render::code(partition.error_code),
            "INVALID_COMMIT_OFFSET_SIZE"
        );
    }
}

#[test]
fn thousands_of_old_offsets_go_in_slices_and_others_have_their_turn() {
    let mut bench = unwatched();
    let partitions = 5_000;
    bench.ask(8, "a", commit("big", "t", partitions));
    bench.ask(8, "a", commit("small", "t", 1));
    bench.now = Timestamp(START.get() + bench.settings.offsets_retention_ms);
    let mut ticks = 0;
    while bench.shard.states().offsets > 0 {
        let before = bench.log.len();
        bench.now = bench
            .now
            .max(bench.shard.next_deadline().expect("unfinished"));
        bench.pass(bench.now);
        let written = bench.log.len() - before;
        assert!(
            written <= MAX_SWEEP_RECORDS + 1,
            "{written} records in one slice"
        );
        ticks += 1;
        let (_, events) = bench.ask(9, "other", join("other", Bytes::new()));
        assert_eq!(codes(&events), ["MEMBER_ID_REQUIRED"]);
    }
    assert!(ticks >= 6, "{ticks} slices");
    assert_eq!(bench.shard.counters().offset_expirations, 5_001);
}

#[test]
fn a_deleted_topic_goes_in_slices_too() {
    use millrace_coordinator::group::Notice;
    let mut bench = unwatched();
    bench.topics.create("t", 5_000);
    bench.ask(8, "a", commit("g", "t", 5_000));
    let deleted = bench.topics.delete("t").expect("just made");
    let first = bench.notice(Notice::TopicsDeleted(vec![deleted]));
    assert_eq!(first.len(), MAX_SWEEP_RECORDS);
    bench.pass(Timestamp(START.get() + 1_000));
    assert_eq!(bench.shard.states().offsets, 0);
}

#[test]
fn a_group_of_two_thousand_members_gets_through_a_rebalance() {
    let mut bench = unwatched();
    bench.settings.initial_rebalance_delay_ms = 1_000;
    let members = 2_000;
    for _ in 0..members {
        bench.ask(3, "many", join("g", Bytes::from_static(b"x")));
    }
    let events = bench.pass(Timestamp(START.get() + 2_000));
    assert_eq!(codes(&events).len(), members);
    assert_eq!(bench.shard.states().classic_completing_rebalance, 1);
}
