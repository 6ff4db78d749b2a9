//! Members with an instance id go away and come back (KIP-345 as KIP-848 has it).

use super::script::check;

#[test]
fn what_it_had_is_kept_for_it() {
    check(
        "topic t 4
         a join t instance=i => 2 t:0,1,2,3
         +2000
         b join t instance=j => 3 -
         a own t:0,1 => 3 t:0,1
         b beat => 3 t:2,3
         a away => -2 .
         group => Reconciling 3 3
         b beat => 3 .
         +20000
         c join t instance=i => 3 t:0,1
         group => Stable 3 3
         a beat => FENCED_INSTANCE_ID
         b beat => 3 .
         c beat => 3 .",
    );
}

#[test]
fn it_may_come_back_under_its_own_id() {
    check(
        "topic t 2
         a join t instance=i => 2 t:0,1
         a away => -2 .
         a join t => 2 t:0,1
         a beat => 2 .
         fail over
         a beat => 2 .",
    );
}

#[test]
fn it_may_ask_again_when_its_answer_was_lost() {
    check(
        "topic t 2
         a join t instance=i => 2 t:0,1
         a join t => 2 t:0,1
         b join t instance=i => UNRELEASED_INSTANCE_ID",
    );
}

#[test]
fn one_that_does_not_come_back_is_out() {
    check(
        "topic t 2
         a join t instance=i => 2 t:0,1
         +2000
         b join t => 3 -
         a own t:0 => 3 t:0
         b beat => 3 t:1
         a away => -2 .
         +40000
         b beat => 3 .
         +6000
         group => Assigning 4 3
         b beat => 4 t:0,1
         a beat => UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn two_cannot_have_one_instance() {
    check(
        "topic t 2
         a join t instance=i => 2 t:0,1
         b join t instance=i => UNRELEASED_INSTANCE_ID
         a leave => -1 .
         b join t => 2 -
         +1000
         b beat => 4 t:0,1",
    );
}

#[test]
fn a_successor_with_another_subscription_is_a_change() {
    check(
        "topic t 1
         topic u 1
         a join t instance=i => 2 t:0
         +2000
         a away => -2 .
         b join u instance=i => 3 u:0
         group => Stable 3 3",
    );
}

#[test]
fn what_it_was_giving_up_is_free_once_it_is_away() {
    check(
        "topic t 2
         a join t instance=i timeout=300000 => 2 t:0,1
         +2000
         b join t => 3 -
         a beat => 2 t:0
         a away => -2 .
         b beat => 3 t:1
         +1000
         c join t instance=i => 3 t:0",
    );
}

#[test]
fn a_successor_commits_what_its_predecessor_read() {
    check(
        "topic t 2
         a join t instance=i => 2 t:0,1
         a away => -2 .
         b join t instance=i => 2 t:0,1
         b commit t:0 epoch=0 => NONE
         b commit t:0 epoch=2 => NONE
         b commit t:0 epoch=3 => STALE_MEMBER_EPOCH",
    );
}
