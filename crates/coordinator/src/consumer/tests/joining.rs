//! Members come, share, and go.

use super::script::check;

#[test]
fn the_first_member_gets_everything_at_once() {
    check(
        "topic t 3
         a join t => 2 t:0,1,2
         group => Stable 2 2
         a beat => 2 .
         a own t:0-2 => 2 .
         +5000
         a beat => 2 .",
    );
}

#[test]
fn what_moves_is_given_up_before_it_is_given() {
    check(
        "topic t 4
         a join t => 2 t:0,1,2,3
         +2000
         b join t => 3 -
         group => Reconciling 3 3
         b beat => 3 .
         a beat => 2 t:0,1
         a own t:0-3 => 2 .
         b beat => 3 .
         a own t:0,1 => 3 .
         group => Reconciling 3 3
         b beat => 3 t:2,3
         group => Stable 3 3",
    );
}

#[test]
fn a_member_that_owns_nothing_of_what_it_loses_goes_on_at_once() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +2000
         b join t => 3 -
         a own t:0 => 3 t:0
         b beat => 3 t:1",
    );
}

#[test]
fn one_that_leaves_leaves_its_share_to_the_others() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +2000
         b join t => 3 -
         a own t:0 => 3 t:0
         b beat => 3 t:1
         b leave => -1 .
         group => Assigning 4 3
         +2000
         a beat => 4 t:0,1
         a leave => -1 .
         group => Empty 5 4
         a beat => UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn one_that_falls_silent_is_out_when_its_session_ends() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +2000
         b join t => 3 -
         a own t:0 => 3 t:0
         b beat => 3 t:1
         +40000
         a beat => 3 .
         +6000
         group => Assigning 4 3
         a beat => 4 t:0,1
         b beat => UNKNOWN_MEMBER_ID
         b join t => 4 -
         group => Assigning 5 4
         +1000
         b beat => 5 .",
    );
}

#[test]
fn many_that_fall_silent_at_once_are_out_at_once() {
    check(
        "topic t 3
         a join t => 2 t:0,1,2
         b join t => 2 -
         c join t => 2 -
         +44000
         a beat => 2 t:0
         +2000
         group => Assigning 5 4
         a beat => 2 .
         group => Reconciling 5 5
         a own t:0 => 5 t:0,1,2",
    );
}

#[test]
fn one_that_gives_nothing_up_is_out_when_its_time_is_over() {
    check(
        "topic t 2
         a join t timeout=10000 => 2 t:0,1
         +2000
         b join t => 3 -
         a beat => 2 t:0
         +9000
         a beat => 2 .
         b beat => 3 .
         +1001
         a beat => UNKNOWN_MEMBER_ID
         b beat => 4 t:0,1",
    );
}

#[test]
fn one_that_goes_on_in_time_stays() {
    check(
        "topic t 2
         a join t timeout=10000 => 2 t:0,1
         +2000
         b join t => 3 -
         a beat => 2 t:0
         +9000
         a own t:0 => 3 .
         +20000
         a beat => 3 .
         b beat => 3 t:1",
    );
}

#[test]
fn a_member_may_join_again() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         a join t => 2 t:0,1
         group => Stable 2 2
         fail over
         a join t => 2 t:0,1",
    );
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +2000
         b join t => 3 -
         a own t:0 => 3 t:0
         a own t:0 epoch=2 => 3 .
         a sub t timeout=60000 t:0 => 3 .",
    );
}

#[test]
fn without_a_topic_there_is_nothing_to_own() {
    check(
        "a join t => 2 -
         group => Stable 2 2
         +1000
         topic t 1
         a beat => 3 t:0",
    );
}

#[test]
fn nothing_subscribed_is_a_member_all_the_same() {
    check(
        "topic t 1
         a join - => 1 -
         group => Stable 1 1
         +1000
         a sub t => 2 t:0
         +2000
         a sub - => 2 -
         a own - => 3 .",
    );
}

#[test]
fn who_unsubscribes_gives_up_before_there_is_a_new_target() {
    check(
        "topic t 1
         topic u 1
         a join t,u => 2 t:0 u:0
         a sub u => 2 u:0
         group => Assigning 3 2
         b join t => 2 -
         +1001
         b beat => 4 .
         a own u:0 => 4 .
         b beat => 4 t:0",
    );
}

#[test]
fn a_record_that_is_not_appended_is_asked_for_again() {
    check(
        "topic t 2
         lose append
         a join t => nothing
         a join t => 2 t:0,1
         +2000
         lose append
         topic t 4
         a beat => nothing
         a beat => 3 t:0,1,2,3
         lose append
         a leave => nothing
         group => Stable 3 3
         +6000
         group => Empty 4 3",
    );
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    check(
        "topic t 2
         a join t timeout=10000 => 2 t:0,1
         +2000
         b join t => 3 -
         a beat => 2 t:0
         fail over
         b beat => 3 .
         +9000
         fail over
         +9000
         a own t:0 => 3 .
         b beat => 3 t:1
         group => Stable 3 3
         fail over
         +44000
         a beat => 3 .
         +2000
         group => Assigning 4 3",
    );
}
