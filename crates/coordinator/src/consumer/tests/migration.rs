//! Groups change their protocol while members stay.

use super::script::{Play, check};
use crate::group::MigrationPolicy;

/// A classic group of two members, each with its share; both are restarted one after the other.
const CLASSIC: &str = "topic t 4
    a classic-join t instance=i => waits
    b classic-join t instance=j => waits
    +6000
    a answer => 1
    b answer => 1";

#[track_caller]
fn check_with(policy: MigrationPolicy, script: &str) -> Play {
    let mut play = Play::new();
    play.bench.settings.consumer_migration = policy;
    play.run(script);
    play
}

#[test]
fn an_empty_classic_group_gives_its_place_away() {
    check(
        "topic t 2
         a classic-join t => waits
         +3000
         a answer => 1
         a classic-leave => NONE
         group => none
         b join t => 2 t:0,1
         group => Stable 2 2",
    );
}

#[test]
fn an_empty_consumer_group_gives_its_place_away() {
    check(
        "topic t 2
         b join t => 2 t:0,1
         b leave => -1 .
         group => Empty 3 2
         a classic-join t => waits
         group => none
         +3000
         a answer => 1",
    );
}

#[test]
fn members_keep_what_they_have_when_the_group_is_upgraded() {
    let mut play = check(CLASSIC);
    play.assign_classic(&[("a", "t:0,1"), ("b", "t:2,3")]);
    play.run(
        "a classic-beat => NONE
         c join t => 2 -
         group => Reconciling 2 2
         a classic-beat => REBALANCE_IN_PROGRESS
         b classic-beat => REBALANCE_IN_PROGRESS
         a classic-join t owned=t:0,1 => 2
         a classic-sync => t:0,1
         b classic-join t owned=t:2,3 => 1
         b classic-sync => t:2
         b classic-join t owned=t:2 => 2
         b classic-sync => t:2
         c beat => 2 t:3
         group => Stable 2 2",
    );
}

#[test]
fn a_static_member_may_be_restarted_with_the_other_protocol_and_back() {
    let mut play = check(CLASSIC);
    play.assign_classic(&[("a", "t:0,1"), ("b", "t:2,3")]);
    play.run(
        "c join t instance=i => 1 t:0,1
         group => Stable 1 1
         a classic-beat => FENCED_INSTANCE_ID
         b classic-beat => NONE
         d join t instance=j => 1 t:2,3
         group => Stable 1 1
         e classic-join t instance=i => 1
         e classic-sync => t:0,1
         group => Stable 1 1
         f classic-join t instance=j => 1
         group => none
         f classic-sync => t:2,3
         f classic-beat => NONE
         e classic-beat => NONE
         e classic-sync => t:0,1
         fail over
         e classic-beat => NONE",
    );
}

#[test]
fn the_group_is_classic_again_when_the_last_consumer_leaves() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +1000
         b classic-join t => 3
         b classic-sync => -
         a leave => -1 .
         group => none
         b classic-beat => REBALANCE_IN_PROGRESS
         b classic-join t => 4
         b classic-beat => NONE",
    );
}

#[test]
fn the_group_is_classic_again_when_the_last_consumers_session_ends() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +1000
         b classic-join t timeout=100000 => 3
         b classic-sync => -
         +9000
         b classic-beat => NONE
         +9000
         b classic-beat => NONE
         +9000
         b classic-beat => NONE
         +9000
         b classic-beat => NONE
         +8000
         group => none
         b classic-beat => REBALANCE_IN_PROGRESS
         b classic-join t => 4",
    );
}

#[test]
fn an_append_that_is_lost_leaves_the_group_what_it_was() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +1000
         b classic-join t => 3
         b classic-sync => -
         lose append
         a leave => nothing
         group => Reconciling 3 3
         b classic-beat => NONE
         a own t:0 => 3 t:0
         b classic-beat => REBALANCE_IN_PROGRESS
         a leave => -1 .
         group => none
         b classic-beat => REBALANCE_IN_PROGRESS",
    );
}

#[test]
fn a_group_is_upgraded_only_where_that_is_allowed() {
    let classic = "topic t 2
        a classic-join t => waits
        +3000
        a answer => 1";
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let script = format!("{classic}\n b join t => GROUP_ID_NOT_FOUND\n group => none");
        check_with(policy, &script);
    }
    for policy in [MigrationPolicy::Upgrade, MigrationPolicy::Bidirectional] {
        let script = format!("{classic}\n b join t => 2 t:1\n group => Reconciling 2 2");
        check_with(policy, &script);
    }
}

#[test]
fn a_group_is_downgraded_only_where_that_is_allowed() {
    let mixed = "topic t 2
        a join t => 2 t:0,1
        b classic-join t => 2
        a leave => -1 .";
    check_with(
        MigrationPolicy::Upgrade,
        &format!("{mixed}\n group => Assigning 4 2"),
    );
    check_with(
        MigrationPolicy::Downgrade,
        &format!("{mixed}\n group => none"),
    );
    check_with(
        MigrationPolicy::Disabled,
        "topic t 2
         a join t => 2 t:0,1
         b classic-join t => INCONSISTENT_GROUP_PROTOCOL",
    );
}

#[test]
fn a_group_of_others_is_not_upgraded() {
    let mut play =
        check("topic t 2\n a classic-join t kind=connect => waits\n +3000\n a answer => 1");
    play.run("b join t => GROUP_ID_NOT_FOUND");
}
