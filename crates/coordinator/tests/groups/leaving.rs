//! LeaveGroup, alone and in batches.

use crate::script::check;

/// Two dynamic members and a static one in a stable group; `a` leads.
#[track_caller]
fn check_stable(script: &str) {
    let begin = "> set delay=0
        > join a v=3
        record g gen=0 [] - leader=-
        > join b v=3
        > join s v=5 instance=S
        > at 0
        s join: s gen=1 range leader=a
        a join: a gen=1 range leader=a s=x a=x b=x
        b join: b gen=1 range leader=a
        > sync a assign=a:p0,b:p1,s:p2
        record g gen=1 [consumer] range leader=a s:x=p2 a:x=p0 b:x=p1
        a sync: NONE p0
        ";
    check(&(begin.to_owned() + script));
}

#[test]
fn who_stays_is_called_to_join_again() {
    check_stable(
        "> leave b
         b leave: NONE b=NONE
         > heartbeat b
         b heartbeat: UNKNOWN_MEMBER_ID
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS
         > join a
         > join s instance=S
         s join: s gen=2 range leader=a
         a join: a gen=2 range leader=a s=x a=x",
    );
}

#[test]
fn old_versions_have_one_member_and_its_code() {
    check_stable(
        "> leave b v=2
         b leave: NONE
         > leave b v=2
         b leave: UNKNOWN_MEMBER_ID
         > leave stranger v=0 group=none-such
         stranger leave: UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn several_leave_at_once_also_by_instance() {
    check_stable(
        "> leave b a stranger
         b leave: NONE b=NONE a=NONE stranger=UNKNOWN_MEMBER_ID
         > leave s instance=S id=none
         record g gen=2 [consumer] - leader=-
         s leave: NONE S=NONE
         > leave s instance=S id=none
         s leave: NONE S=UNKNOWN_MEMBER_ID
         > describe
         describe: g: NONE Empty [consumer] []",
    );
}

#[test]
fn the_last_one_leaves_an_empty_group_of_the_next_generation() {
    check_stable(
        "> leave a b s
         record g gen=2 [consumer] - leader=-
         a leave: NONE a=NONE b=NONE s=NONE
         > describe
         describe: g: NONE Empty [consumer] []
         > list
         list: g Empty [consumer] classic
         > leave a
         a leave: NONE a=UNKNOWN_MEMBER_ID
         > heartbeat a
         a heartbeat: UNKNOWN_MEMBER_ID
         > join c v=3
         > at 0
         c join: c gen=3 range leader=c c=x",
    );
}

#[test]
fn a_leader_that_leaves_is_followed_by_another() {
    check_stable(
        "> leave a
         a leave: NONE a=NONE
         > join b
         > join s instance=S
         s join: s gen=2 range leader=s s=x b=x
         b join: b gen=2 range leader=s
         > sync b assign=b:p0,s:p1",
    );
}

#[test]
fn who_waits_in_the_name_of_a_leaving_member_is_told() {
    check(
        "> join s v=5 instance=S
         record g gen=0 [] - leader=-
         > leave s instance=S id=none
         s join: UNKNOWN_MEMBER_ID -
         s leave: NONE S=NONE
         > at 3000
         record g gen=1 [consumer] - leader=-",
    );
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync b
         > leave b
         b sync: UNKNOWN_MEMBER_ID -
         b leave: NONE b=NONE",
    );
}

#[test]
fn an_unused_member_id_can_leave_too() {
    check(
        "> join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > leave a
         a leave: NONE a=NONE
         > join a
         a join: UNKNOWN_MEMBER_ID a
         > list
         list: g Empty [] classic",
    );
}

#[test]
fn leaving_needs_a_group() {
    check(
        "> leave a
         a leave: NONE a=UNKNOWN_MEMBER_ID
         > leave a group=none
         a leave: INVALID_GROUP_ID
         > join a v=3
         record g gen=0 [] - leader=-
         > leave stranger
         stranger leave: NONE stranger=UNKNOWN_MEMBER_ID",
    );
}
