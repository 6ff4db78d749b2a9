//! Members of the classic protocol in a consumer group.

use super::script::check;

/// In a consumer group that began as a classic one: `a` has everything, `b` has joined.
#[track_caller]
fn check_mixed(script: &str) {
    let mut play = check(
        "topic t 4
         a classic-join t => waits
         +3000
         a answer => 1",
    );
    play.assign_classic(&[("a", "t:0-3")]);
    play.run("b join t => 2 -\n group => Reconciling 2 2");
    play.run(script);
}

#[test]
fn they_hear_of_a_target_by_heartbeat_and_join_again() {
    check_mixed(
        "a classic-beat => REBALANCE_IN_PROGRESS
         a classic-join t owned=t:0,1,2,3 => 1
         a classic-sync => t:0,1
         b beat => 2 .
         a classic-beat => REBALANCE_IN_PROGRESS
         a classic-join t owned=t:0,1 => 2
         a classic-sync => t:0,1
         a classic-beat => NONE
         b beat => 2 t:2,3
         group => Stable 2 2
         fail over
         a classic-beat => NONE
         +9999
         a classic-beat => NONE
         b beat => 2 .
         +10000
         group => Assigning 3 2",
    );
}

#[test]
fn they_wait_for_what_others_have_to_give_up() {
    check_mixed(
        "a classic-join t owned=t:0,1 => 2
         a classic-sync => t:0,1
         b beat => 2 t:2,3
         +1000
         c classic-join t => 3
         c classic-sync => -
         c classic-beat => NONE
         b beat => 2 t:2
         c classic-beat => NONE
         b own t:2 => 3 .
         c classic-beat => REBALANCE_IN_PROGRESS
         c classic-join t => 3
         c classic-sync => t:3",
    );
}

#[test]
fn one_that_does_not_join_again_is_out() {
    check(
        "topic t 2
         a classic-join t timeout=20000 => waits
         +3000
         a answer => 1
         b join t => 2 t:1
         a classic-beat => REBALANCE_IN_PROGRESS
         +9000
         a classic-beat => REBALANCE_IN_PROGRESS
         +9000
         a classic-beat => REBALANCE_IN_PROGRESS
         +2000
         a classic-beat => UNKNOWN_MEMBER_ID
         b beat => 3 t:0,1",
    );
}

#[test]
fn one_that_does_not_fetch_its_assignment_is_out() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         b classic-join t timeout=5000 => 2
         group => Assigning 3 2
         +4999
         b classic-beat => NONE
         +1
         group => Assigning 4 2",
    );
}

#[test]
fn a_wrong_generation_or_member_is_refused() {
    check_mixed(
        "a classic-beat epoch=7 => ILLEGAL_GENERATION
         a classic-sync epoch=7 => ILLEGAL_GENERATION
         b classic-beat => UNKNOWN_MEMBER_ID
         x classic-beat => UNKNOWN_MEMBER_ID
         x classic-leave => UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn they_leave_by_leave_group() {
    check_mixed(
        "a classic-leave => NONE
         group => Assigning 3 2
         +1000
         b beat => 3 t:0,1,2,3
         a classic-leave => UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_dynamic_member_may_come_by_either_protocol() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +1000
         b classic-join t => 3
         b classic-sync => -
         a own t:0 => 3 t:0
         b classic-beat => REBALANCE_IN_PROGRESS
         b classic-join t => 3
         b classic-sync => t:1
         b classic-beat => NONE
         group => Stable 3 3",
    );
}
