//! Static members (KIP-345): an instance id outlives its holder.

use crate::script::check;

/// Two static members in a stable group; `a` leads.
#[track_caller]
fn check_stable(script: &str) {
    let begin = "> set delay=0
        > join a v=5 instance=A
        record g gen=0 [] - leader=-
        > join b v=5 instance=B
        > at 0
        a join: a gen=1 range leader=a a=x b=x
        b join: b gen=1 range leader=a
        > sync a assign=a:p0,b:p1
        record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1
        a sync: NONE p0
        > sync b
        b sync: NONE p1
        ";
    check(&(begin.to_owned() + script));
}

#[test]
fn a_restarted_follower_takes_its_place_without_a_rebalance() {
    check_stable(
        "> join b v=9 instance=B id=none
         record g gen=1 [consumer] range leader=a a:x=p0 b':x=p1
         b join: b' gen=1 range leader=a
         > heartbeat b instance=B gen=1
         b heartbeat: NONE
         > sync b instance=B gen=1
         b sync: NONE p1
         > heartbeat a instance=A
         a heartbeat: NONE",
    );
}

#[test]
fn a_restarted_leader_skips_the_assignment_if_it_can() {
    check_stable(
        "> join a v=9 instance=A id=none
         record g gen=1 [consumer] range leader=a' a':x=p0 b:x=p1
         a join: a' gen=1 range leader=a' a'=x b=x skip
         > sync a instance=A gen=1
         a sync: NONE p0",
    );
    check_stable(
        "> join a v=8 instance=A id=none
         record g gen=1 [consumer] range leader=a' a':x=p0 b:x=p1
         a join: a' gen=1 range leader=a",
    );
}

#[test]
fn the_former_holder_is_fenced() {
    check_stable(
        "> join c v=9 instance=B id=none
         record g gen=1 [consumer] range leader=a a:x=p0 c:x=p1
         c join: c gen=1 range leader=a
         > heartbeat b instance=B
         b heartbeat: FENCED_INSTANCE_ID
         > sync b instance=B
         b sync: FENCED_INSTANCE_ID -
         > join b instance=B
         b join: FENCED_INSTANCE_ID b
         > commit b t-0=5 instance=B
         b commit: t-0=FENCED_INSTANCE_ID
         > leave b instance=B
         b leave: NONE b=FENCED_INSTANCE_ID
         > heartbeat b
         b heartbeat: UNKNOWN_MEMBER_ID
         > heartbeat c instance=B
         c heartbeat: NONE",
    );
}

#[test]
fn a_holder_with_other_strategies_calls_for_a_rebalance() {
    check_stable(
        "> join b v=9 instance=B id=none p=sticky:x
         b join: INCONSISTENT_GROUP_PROTOCOL -
         > join b v=9 instance=B id=none p=range:x,sticky:x
         record g gen=1 [consumer] range leader=a a:x=p0 b':x=p1
         b join: b' gen=1 range leader=a
         > join b v=9 instance=B id=none p=range:new
         record g gen=1 [consumer] range leader=a a:x=p0 b'':new=p1
         b join: b'' gen=1 range leader=a
         > heartbeat a instance=A
         a heartbeat: NONE",
    );
}

#[test]
fn a_static_member_that_is_gone_is_not_replaced_before_its_session_ends() {
    check_stable(
        "> at 9000
         > heartbeat a instance=A
         a heartbeat: NONE
         > join c v=3
         > at 9500
         > join a instance=A
         > at 10000
         a join: a gen=2 range leader=a a=x c=x
         c join: c gen=2 range leader=a",
    );
}

#[test]
fn a_takeover_while_members_join_or_wait_fences_who_waits() {
    check(
        "> join a v=5 instance=A
         record g gen=0 [] - leader=-
         > join b v=5 instance=A
         a join: FENCED_INSTANCE_ID A-00000000-0000-0000-0000-000000000001
         > at 3000
         b join: b gen=1 range leader=b b=x
         > at 6000",
    );
    check(
        "> set delay=0
         > join a v=5 instance=A
         record g gen=0 [] - leader=-
         > join b v=5 instance=B
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync b instance=B
         > join c v=5 instance=B
         b sync: FENCED_INSTANCE_ID -
         > join a instance=A
         a join: a gen=2 range leader=a a=x c=x
         c join: c gen=2 range leader=a",
    );
}

#[test]
fn an_unknown_instance_is_an_unknown_member() {
    check_stable(
        "> heartbeat a instance=X
         a heartbeat: UNKNOWN_MEMBER_ID
         > sync a instance=X
         a sync: UNKNOWN_MEMBER_ID -
         > join a instance=X
         a join: UNKNOWN_MEMBER_ID a",
    );
}

#[test]
fn a_group_of_absent_static_members_waits_for_them() {
    check(
        "> set delay=0
         > join a v=5 instance=A rebalance=2000 session=30000
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b v=5 rebalance=2000 session=30000
         b join: MEMBER_ID_REQUIRED b
         > at 1000
         > leave b id=none
         b leave: NONE b=NONE
         > at 30000
         record g gen=2 [consumer] - leader=-",
    );
}
