//! The coordinator moves: what the log says goes on, the rest begins anew.

use crate::script::check;

#[test]
fn a_stable_group_goes_on_without_a_rebalance() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join s v=5 instance=S
         > at 0
         s join: s gen=1 range leader=a
         a join: a gen=1 range leader=a s=x a=x
         > sync a assign=a:p0,s:p1
         record g gen=1 [consumer] range leader=a s:x=p1 a:x=p0
         a sync: NONE p0
         > commit a t-0=5
         record g t-0=5
         a commit: t-0=NONE
         > fail-over
         > heartbeat a
         a heartbeat: NONE
         > sync s instance=S
         s sync: NONE p1
         > commit s t-1=6
         record g t-1=6
         s commit: t-1=NONE
         > fetch all
         fetch: t-0=5 t-1=6
         > describe
         describe: g: NONE Stable [consumer] [range] s(S)x=p1 a(-)x=p0",
    );
}

#[test]
fn sessions_begin_anew_with_the_new_coordinator() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > at 9000
         > fail-over
         > at 18999
         > describe
         describe: g: NONE Stable [consumer] [range] a(-)x=all
         > at 19000
         record g gen=2 [consumer] - leader=-
         > describe
         describe: g: NONE Empty [consumer] []",
    );
}

#[test]
fn a_rebalance_under_way_begins_anew() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > join b v=3
         > join a
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a
         > sync b
         > fail-over
         b sync: NOT_COORDINATOR
         > heartbeat b
         b heartbeat: UNKNOWN_MEMBER_ID
         > sync a assign=a:p0,b:p1
         a sync: ILLEGAL_GENERATION -
         > join a
         a join: a gen=2 range leader=a a=x
         > join b id=none v=3
         > join a
         a join: a gen=3 range leader=a a=x b'=x
         b join: b' gen=3 range leader=a",
    );
}

#[test]
fn an_initial_rebalance_leaves_an_empty_group() {
    check(
        "> join a v=3
         record g gen=0 [] - leader=-
         > fail-over
         a join: NOT_COORDINATOR
         > list
         list: g Empty [] classic
         > join a v=3
         > at 3000
         a join: a gen=1 range leader=a a=x",
    );
}

#[test]
fn a_member_id_that_was_given_out_is_unknown_to_the_next_coordinator() {
    check(
        "> join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > fail-over
         > join a
         a join: UNKNOWN_MEMBER_ID a",
    );
}

#[test]
fn a_group_that_has_become_too_large_is_called_to_join_again() {
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
         > set max_size=1
         > fail-over
         > heartbeat a
         a heartbeat: REBALANCE_IN_PROGRESS
         > join a
         > join b
         b join: GROUP_MAX_SIZE_REACHED -
         a join: a gen=2 range leader=a a=x
         > describe
         describe: g: NONE CompletingRebalance [consumer] [] a(-)-=-",
    );
}

#[test]
fn an_assignment_that_could_not_be_appended_is_asked_for_again() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > at 0
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > sync b
         > append-fails
         > sync a assign=a:p0,b:p1
         a sync: append failed
         b sync: append failed
         > describe
         describe: g: NONE CompletingRebalance [consumer] [] a(-)-=- b(-)-=-
         > heartbeat b
         b heartbeat: NONE
         > join a
         a join: a gen=1 range leader=a a=x b=x
         > sync a assign=a:p0,b:p1
         record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1
         a sync: NONE p0
         > sync b
         b sync: NONE p1",
    );
}

#[test]
fn a_takeover_that_could_not_be_appended_can_be_tried_again() {
    check(
        "> set delay=0
         > join a v=5 instance=A
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > append-fails
         > join b v=9 instance=A
         b join: append failed
         > heartbeat a instance=A
         a heartbeat: FENCED_INSTANCE_ID
         > join b v=9 instance=A
         record g gen=1 [consumer] range leader=b b:x=all
         b join: b gen=1 range leader=b b=x skip
         > sync b instance=A
         b sync: NONE all",
    );
}

#[test]
fn a_first_join_that_could_not_be_appended_can_be_tried_again() {
    check(
        "> append-fails
         > join a
         a join: append failed
         > join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > join a
         > at 3000
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all",
    );
}
