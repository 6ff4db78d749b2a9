//! Topics by regular expression.

use super::script::check;

#[test]
fn topics_that_match_are_subscribed_to_at_once() {
    check(
        "topic logs-a 1
         topic logs-b 1
         topic other 1
         a join - regex=logs-.* => 2 logs-a:0 logs-b:0
         group => Stable 2 2",
    );
}

#[test]
fn names_and_expressions_go_together() {
    check(
        "topic logs-a 1
         topic other 1
         a join other regex=logs-.* => 2 logs-a:0 other:0
         +2000
         a sub - => 2 logs-a:0
         a own logs-a:0 => 3 .",
    );
}

#[test]
fn topics_that_come_and_go_are_noticed() {
    check(
        "topic logs-a 1
         a join - regex=logs-.* => 2 logs-a:0
         +11000
         topic logs-b 2
         a beat => 3 logs-a:0 logs-b:0,1
         +11000
         drop logs-a
         a beat => 3 logs-b:0,1
         a own logs-b:0,1 => 4 .
         group => Stable 4 4",
    );
}

#[test]
fn topics_whose_record_is_lost_are_noticed_again() {
    check(
        "topic logs-a 1
         a join - regex=logs-.* => 2 logs-a:0
         a beat => 2 .
         +11000
         topic logs-b 1
         lose append
         a beat => nothing
         a beat => 3 logs-a:0 logs-b:0",
    );
}

#[test]
fn not_every_new_topic_is_a_pass_over_all() {
    check(
        "topic logs-a 1
         a join - regex=logs-.* => 2 logs-a:0
         a beat => 2 .
         +2000
         topic logs-b 1
         a beat => 2 .
         +9000
         a beat => 3 logs-a:0 logs-b:0",
    );
}

#[test]
fn a_wall_clock_that_was_ahead_hides_no_topic() {
    check(
        "topic logs-a 1
         wall 3600000
         a join - regex=logs-.* => 2 logs-a:0
         a beat => 2 .
         wall 0
         topic logs-b 1
         a beat => 3 logs-a:0 logs-b:0",
    );
}

#[test]
fn a_new_expression_is_resolved_at_once_all_the_same() {
    check(
        "topic logs-a 1
         topic data-a 1
         a join - regex=logs-.* => 2 logs-a:0
         +1000
         b join - regex=data-.* => 3 data-a:0
         +1000
         b sub - regex=data-b.* => 3 -
         group => Reconciling 4 4
         b own - => 4 .
         fail over
         a beat => 4 .",
    );
}

#[test]
fn an_expression_goes_with_its_last_member() {
    let play = check(
        "topic logs-a 2
         a join - regex=logs-.* => 2 logs-a:0,1
         +1000
         b join - regex=logs-.* => 3 -
         a leave => -1 .
         b beat => 3 logs-a:1
         +1000
         b beat => 4 logs-a:0,1
         b sub logs-a regex= => 4 .
         group => Assigning 5 4",
    );
    assert!(play.bench.state().unwrap().expressions.is_empty());
}

#[test]
fn what_is_no_expression_is_refused() {
    check(
        "topic t 1
         a join - regex=(t => INVALID_REGULAR_EXPRESSION
         group => none
         a join - regex=(?=t) => INVALID_REGULAR_EXPRESSION
         a join t => 2 t:0
         a sub t regex=*t => INVALID_REGULAR_EXPRESSION
         a beat => 2 .",
    );
}
