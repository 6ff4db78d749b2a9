//! From the first member to a stable group, and from one generation to the next.

use crate::script::check;

#[test]
fn the_first_member_is_asked_to_come_again_and_leads_after_the_initial_delay() {
    check(
        "> join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > join a
         > describe
         describe: g: NONE PreparingRebalance [consumer] [] a(-)-=-
         > at 2999
         > at 3000
         a join: a gen=1 range leader=a a=x
         > describe
         describe: g: NONE CompletingRebalance [consumer] [] a(-)-=-
         > sync a assign=a:p0
         record g gen=1 [consumer] range leader=a a:x=p0
         a sync: NONE p0
         > describe
         describe: g: NONE Stable [consumer] [range] a(-)x=p0
         > heartbeat a
         a heartbeat: NONE
         > list
         list: g Stable [consumer] classic",
    );
}

#[test]
fn members_that_come_meanwhile_make_the_initial_delay_longer() {
    check(
        "> join a v=3
         record g gen=0 [] - leader=-
         > at 2000
         > join b v=3
         > at 3000
         > at 5999
         > at 6000
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a",
    );
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    check(
        "> join a v=3 rebalance=7000
         record g gen=0 [] - leader=-
         > at 2500
         > join b v=3 rebalance=7000
         > at 5500
         > join c v=3 rebalance=7000
         > at 6999
         > join d v=3 rebalance=7000
         > at 7000
         a join: a gen=1 range leader=a a=x b=x c=x d=x
         b join: b gen=1 range leader=a
         c join: c gen=1 range leader=a
         d join: d gen=1 range leader=a
         > at 9999
         > at 10000",
    );
}

#[test]
fn without_a_delay_the_first_generation_is_there_at_once() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x",
    );
}

#[test]
fn a_second_member_calls_the_first_to_join_again() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b
         b join: MEMBER_ID_REQUIRED b
         > join b
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS
         > join a
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a
         > sync b
         > heartbeat b
         b heartbeat: NONE
         > sync a assign=a:p0,b:p1
         record g gen=2 [consumer] range leader=a a:x=p0 b:x=p1
         a sync: NONE p0
         b sync: NONE p1
         > sync b
         b sync: NONE p1
         > heartbeat b gen=1
         b heartbeat: ILLEGAL_GENERATION",
    );
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    check(
        "> set delay=0
         > join a v=3 session=300000
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b v=3
         > at 59999
         > at 60000
         b join: b gen=2 range leader=b b=x
         > heartbeat a
         a heartbeat: UNKNOWN_MEMBER_ID
         > sync b assign=b:all
         record g gen=2 [consumer] range leader=b b:x=all
         b sync: NONE all",
    );
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_of_the_same_generation() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync b
         > join b
         b join: b gen=1 range leader=a
         > sync a assign=a:p0,b:p1
         record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1
         a sync: NONE p0
         b sync: NONE p1
         > sync b
         b sync: NONE p1
         > join b
         b join: b gen=1 range leader=a
         > join b p=range:y
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS",
    );
}

#[test]
fn a_leader_that_joins_again_rebalances_a_stable_group() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join a
         a join: a gen=2 range leader=a a=x
         > sync a assign=a:more
         record g gen=2 [consumer] range leader=a a:x=more
         a sync: NONE more
         > describe
         describe: g: NONE Stable [consumer] [range] a(-)x=more",
    );
}

#[test]
fn a_join_that_comes_twice_is_answered_twice() {
    check(
        "> join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > join a
         > join a
         a join: REBALANCE_IN_PROGRESS a
         > at 3000
         a join: a gen=1 range leader=a a=x",
    );
}

#[test]
fn those_who_wait_for_the_assignment_are_sent_to_join_when_another_comes() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync b
         > join c v=3
         b sync: REBALANCE_IN_PROGRESS -
         > join a
         > join b
         a join: a gen=2 range leader=a a=x b=x c=x
         b join: b gen=2 range leader=a
         c join: c gen=2 range leader=a
         > sync a assign=a:0,b:1,c:2
         record g gen=2 [consumer] range leader=a a:x=0 b:x=1 c:x=2
         a sync: NONE 0
         > sync b
         b sync: NONE 1
         > sync c
         c sync: NONE 2",
    );
}

#[test]
fn the_strategy_that_all_know_and_most_prefer_is_chosen() {
    check(
        "> join a v=3 p=range:x,sticky:x
         record g gen=0 [] - leader=-
         > join b v=3 p=sticky:y,range:y
         > join c v=3 p=sticky:z,range:z
         > join d v=3 p=other:z
         d join: INCONSISTENT_GROUP_PROTOCOL -
         > at 10000
         a join: a gen=1 sticky leader=a a=x b=y c=z
         b join: b gen=1 sticky leader=a
         c join: c gen=1 sticky leader=a",
    );
    check(
        "> join a v=3 p=range:x,sticky:x
         record g gen=0 [] - leader=-
         > join b v=3 p=sticky:y
         > at 10000
         a join: a gen=1 sticky leader=a a=x b=y
         b join: b gen=1 sticky leader=a",
    );
}

#[test]
fn a_member_of_another_kind_does_not_fit_in() {
    check(
        "> join a v=3
         record g gen=0 [] - leader=-
         > join b v=3 type=connect
         b join: INCONSISTENT_GROUP_PROTOCOL -
         > join c v=3 type=consumer p=
         c join: INCONSISTENT_GROUP_PROTOCOL -
         > join d v=3 group=h type=
         d join: INCONSISTENT_GROUP_PROTOCOL -
         > list
         list: g PreparingRebalance [consumer] classic
         > at 10000
         a join: a gen=1 range leader=a a=x",
    );
}

#[test]
fn malformed_requests_are_refused() {
    check(
        "> join a group=none
         a join: INVALID_GROUP_ID -
         > join a session=5999
         a join: INVALID_SESSION_TIMEOUT -
         > join a session=1800001
         a join: INVALID_SESSION_TIMEOUT -
         > join a id=a-stranger
         a join: UNKNOWN_MEMBER_ID a-stranger
         > sync a id=a-stranger
         a sync: UNKNOWN_MEMBER_ID -
         > heartbeat a id=a-stranger
         a heartbeat: UNKNOWN_MEMBER_ID
         > heartbeat a group=none
         a heartbeat: INVALID_GROUP_ID
         > list
         list:",
    );
}

#[test]
fn sync_is_refused_to_strangers_and_old_generations() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a gen=0
         a sync: ILLEGAL_GENERATION -
         > sync a id=a-stranger
         a sync: UNKNOWN_MEMBER_ID -
         > sync a protocol=sticky
         a sync: INCONSISTENT_GROUP_PROTOCOL -
         > sync a type=connect
         a sync: INCONSISTENT_GROUP_PROTOCOL -
         > sync a type=null
         a sync: INCONSISTENT_GROUP_PROTOCOL -
         > sync a v=4 assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > sync a gen=2
         a sync: ILLEGAL_GENERATION -
         > heartbeat a gen=2
         a heartbeat: ILLEGAL_GENERATION
         > heartbeat a id=a-stranger
         a heartbeat: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn members_without_an_assignment_in_time_are_out() {
    check(
        "> set delay=0
         > join a v=3 rebalance=5000
         record g gen=0 [] - leader=-
         > join b v=3 rebalance=5000
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync a assign=a:p0,b:p1
         record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1
         a sync: NONE p0
         > at 4999
         > at 5000
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS
         > join a
         a join: a gen=2 range leader=a a=x
         > heartbeat b
         b heartbeat: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn a_member_id_that_is_not_used_in_time_is_forgotten() {
    check(
        "> join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > at 9999
         > list
         list: g Empty [] classic
         > at 10000
         > join a
         a join: UNKNOWN_MEMBER_ID a
         > list
         list: g Empty [] classic",
    );
}

#[test]
fn a_pending_member_is_waited_for() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b
         b join: MEMBER_ID_REQUIRED b
         > join a
         > at 9000
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS
         > join b
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a",
    );
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join c
         c join: MEMBER_ID_REQUIRED c
         > join b
         b join: MEMBER_ID_REQUIRED b
         > join b
         > join a
         > at 10000
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a",
    );
}

#[test]
fn a_session_ends_without_heartbeats() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync a assign=a:p0,b:p1
         record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1
         a sync: NONE p0
         > sync b
         b sync: NONE p1
         > at 9000
         > heartbeat a
         a heartbeat: NONE
         > at 10000
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS
         > heartbeat b
         b heartbeat: UNKNOWN_MEMBER_ID
         > at 30000
         record g gen=2 [consumer] - leader=-
         > describe
         describe: g: NONE Empty [consumer] []",
    );
}

#[test]
fn who_waits_for_others_needs_no_heartbeats() {
    check(
        "> set delay=0
         > join a v=3 session=300000
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b v=3 session=6000
         > join c v=3 session=6000
         > at 50000
         > join a
         a join: a gen=2 range leader=a a=x b=x c=x
         b join: b gen=2 range leader=a
         c join: c gen=2 range leader=a
         > at 55999
         > sync b
         > at 56001
         b sync: REBALANCE_IN_PROGRESS -",
    );
}

#[test]
fn a_new_member_whose_connection_is_gone_is_not_waited_for_for_ever() {
    check(
        "> set delay=0
         > join a v=3 rebalance=1000000 session=1800000
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b v=3
         > at 299999
         > at 300000
         b join: UNKNOWN_MEMBER_ID -
         > describe
         describe: g: NONE PreparingRebalance [consumer] [] a(-)-=-",
    );
}
