//! Settings of the broker and of the group.

use millrace_model::limits::MAX_GROUP_SUBSCRIPTION_BYTES;

use super::bench::GROUP;
use super::script::Play;
use crate::group::{Call, GroupSettings, Response};
use crate::wire::ConsumerGroupHeartbeatRequest;

#[track_caller]
fn check(change: impl FnOnce(&mut crate::group::Settings), script: &str) {
    let mut play = Play::new();
    change(&mut play.bench.settings);
    play.run(script);
}

#[test]
fn a_group_may_have_its_own_session_timeout() {
    let own = GroupSettings {
        consumer_session_timeout_ms: Some(60_000),
        ..GroupSettings::default()
    };
    check(
        |settings| {
            settings.groups.insert(GROUP.to_owned(), own);
        },
        "topic t 1
         a join t => 2 t:0
         +59999
         group => Stable 2 2
         +1
         group => Empty 3 2",
    );
}

#[test]
fn the_brokers_counts_for_others() {
    check(
        |settings| settings.consumer_session_timeout_ms = 50_000,
        "topic t 1
         a join t => 2 t:0
         +49999
         group => Stable 2 2
         +1
         group => Empty 3 2",
    );
}

#[test]
fn a_group_has_so_many_members_and_no_more() {
    check(
        |settings| settings.consumer_max_size = 2,
        "topic t 2
         a join t => 2 t:0,1
         b join t => 2 -
         c join t => GROUP_MAX_SIZE_REACHED
         a join t => 2 t:0,1
         a leave => -1 .
         c join t => 2 -",
    );
}

/// The time of the last assignment is written down, and may be that of another coordinator.
#[test]
fn a_wall_clock_that_was_ahead_stops_no_assignment() {
    check(
        |_| (),
        "topic t 2
         wall 3600000
         a join t => 2 t:0,1
         wall 0
         b join t => 3 -
         group => Reconciling 3 3",
    );
}

#[test]
fn without_an_interval_each_change_is_an_assignment() {
    check(
        |settings| settings.consumer_assignment_interval_ms = 0,
        "topic t 2
         a join t => 2 t:0,1
         b join t => 3 -
         c join t => 4 -
         group => Reconciling 4 4",
    );
}

#[test]
fn the_first_assignor_is_the_default_and_the_members_may_prefer_another() {
    let assignors = || vec!["range".to_owned(), "uniform".to_owned()];
    check(
        |settings| settings.consumer_assignors = assignors(),
        "topic t 3
         topic u 3
         a join t,u => 2 t:0,1,2 u:0,1,2
         +1000
         b join t,u => 3 -
         a own t:0,1 u:0,1 => 3 t:0,1 u:0,1
         +1000
         c join t,u assignor=uniform => 4 -
         a beat => 3 t:0,1
         a own t:0,1 => 4 .",
    );
}

#[test]
fn without_the_protocol_nobody_joins() {
    check(
        |settings| settings.consumer_protocol = false,
        "a join t => UNSUPPORTED_VERSION
         group => none",
    );
}

/// The interval that a member of a group of this setting is told, joining and at rest.
fn intervals(own: Option<i32>) -> (i32, i32) {
    let mut play = Play::new();
    let own = GroupSettings {
        consumer_heartbeat_interval_ms: own,
        ..GroupSettings::default()
    };
    play.bench.settings.groups.insert(GROUP.to_owned(), own);
    play.run("topic t 1\n a join t => 2 t:0\n b join t => 2 -");
    let mut interval = |member: &str, epoch: i32| {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: member.to_owned(),
            member_epoch: epoch,
            ..Default::default()
        };
        let call = Call::ConsumerGroupHeartbeat(request);
        let asked = play.bench.ask(member, 1, call);
        play.bench.pass(1000);
        match play.bench.replies.remove(&asked) {
            Some(Response::ConsumerGroupHeartbeat(response)) => response.heartbeat_interval_ms,
            other => panic!("{other:?}"),
        }
    };
    let waiting = interval("b", 2);
    interval("a", 2);
    interval("b", 2);
    (waiting, interval("b", 3))
}

#[test]
fn who_waits_is_told_to_ask_soon_and_who_does_not_the_groups_interval() {
    assert_eq!(intervals(None), (500, 5_000));
    assert_eq!(intervals(Some(10_000)), (500, 10_000));
    assert_eq!(intervals(Some(100)), (100, 100));
}

#[test]
fn subscriptions_take_so_much_memory_and_no_more() {
    let mut play = Play::new();
    play.run("topic t 1\n a join t => 2 t:0");
    let names = |from: usize| (from..from + 400).map(|number| format!("{number:0>10000}"));
    let mut refused = None;
    for member in 0..10 {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: format!("m{member}"),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(names(member * 400).collect()),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let call = Call::ConsumerGroupHeartbeat(request);
        let asked = play.bench.ask("x", 1, call);
        let Some(Response::ConsumerGroupHeartbeat(response)) = play.bench.replies.remove(&asked)
        else {
            panic!("no answer");
        };
        if response.error_code != 0 {
            refused = Some((member, response.error_code));
            break;
        }
    }
    assert_eq!(refused, Some((4, 81)), "GROUP_MAX_SIZE_REACHED");
    let state = play.bench.state().unwrap();
    assert!(state.derived.subscription_bytes <= MAX_GROUP_SUBSCRIPTION_BYTES);
    play.run("+1000\n a beat => 6 .");
}
