//! Groups follow the cluster's topics.

use super::script::check;

#[test]
fn partitions_that_are_added_are_given_out() {
    check(
        "topic t 1
         a join t => 2 t:0
         +1000
         b join t => 3 -
         topic t 3
         +1000
         b beat => 4 t:1,2
         a beat => 4 .
         group => Stable 4 4",
    );
}

#[test]
fn a_topic_that_is_deleted_is_given_up() {
    check(
        "topic t 1
         topic u 1
         a join t,u => 2 t:0 u:0
         +2000
         drop u
         a beat => 2 t:0
         a own t:0 => 3 .
         +2000
         topic u 1
         a beat => 4 t:0 u:0",
    );
}

#[test]
fn other_topics_are_no_business_of_the_group() {
    check(
        "topic t 1
         a join t => 2 t:0
         +2000
         topic u 1
         a beat => 2 .
         group => Stable 2 2",
    );
}

#[test]
fn replicas_that_move_to_other_racks_are_a_change() {
    check(
        "topic t 2
         place t r1
         a join t rack=r1 => 2 t:0,1
         +2000
         place t r1,r2
         a beat => 3 .
         group => Stable 3 3
         fail over
         a beat => 3 .",
    );
}

#[test]
fn many_changes_cost_one_assignment() {
    check(
        "topic t 1
         a join t => 2 t:0
         +1000
         topic t 2
         a beat => 3 t:0,1
         topic t 3
         a beat => 3 .
         topic t 4
         a beat => 3 .
         group => Assigning 5 3
         +1000
         a beat => 5 t:0,1,2,3",
    );
}
