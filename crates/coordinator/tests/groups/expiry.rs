//! Offsets grow old; groups without anything left end.

use crate::script::check;

// A look every ten minutes, at offsets of a week: 604,800,000 ms.

#[test]
fn offsets_of_a_simple_group_age_from_their_commit() {
    check(
        "> commit - t-0=1
         record g t-0=1
         - commit: t-0=NONE
         > at 300000000
         > commit - t-1=1
         record g t-1=1
         - commit: t-1=NONE
         > at 604799999
         > at 604800000
         record g t-0=gone
         > at 904800000
         record g t-1=gone
         record g gone
         > list
         list:",
    );
}

#[test]
fn offsets_of_a_deserted_group_age_from_its_end() {
    check(
        "> set delay=0
         > join a v=3 p=range:@t
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=@t
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:@t=all
         a sync: NONE all
         > commit a t-0=1
         record g t-0=1
         a commit: t-0=NONE
         > at 9000
         > leave a
         record g gen=2 [consumer] - leader=-
         a leave: NONE a=NONE
         > at 604800000
         > at 605400000
         record g t-0=gone
         record g gone
         > list
         list:",
    );
}

#[test]
fn a_member_keeps_what_it_subscribes_to_and_nothing_else() {
    check(
        "> set delay=0
         > join a v=3 p=range:@t session=1800000
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=@t
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:@t=all
         a sync: NONE all
         > commit a t-0=1 u-0=1
         record g t-0=1
         record g u-0=1
         a commit: t-0=NONE u-0=NONE
         > set retention_ms=1000000
         > at 1199999
         > at 1200000
         record g u-0=gone
         > fetch all
         fetch: t-0=1",
    );
}

#[test]
fn a_retention_of_its_own_counts() {
    check(
        "> commit - t-0=1 v=4 retention=1000
         record g t-0=1
         - commit: t-0=NONE
         > at 600000
         record g t-0=gone
         record g gone
         > fetch t-0
         fetch: t-0=-1",
    );
}

#[test]
fn an_empty_group_without_offsets_goes_at_the_next_look() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > leave a
         record g gen=2 [consumer] - leader=-
         a leave: NONE a=NONE
         > list
         list: g Empty [consumer] classic
         > at 599999
         > at 600000
         record g gone
         > list
         list:",
    );
}

#[test]
fn a_wall_clock_that_is_set_ends_no_session() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > set-clock 3600000
         > at 9999
         > heartbeat a
         a heartbeat: NONE
         > set-clock -3600000
         > at 19998
         > heartbeat a
         a heartbeat: NONE
         > at 29998
         record g gen=2 [consumer] - leader=-",
    );
}

#[test]
fn a_transaction_keeps_its_group() {
    check(
        "> txn 7 t-0=1
         record g t-0=1
         7 txn: t-0=NONE
         > at 1000000000
         > end 7 commit
         > at 1000600000
         record g t-0=gone
         record g gone
         > list
         list:",
    );
}
