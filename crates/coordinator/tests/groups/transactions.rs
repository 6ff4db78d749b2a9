//! Offsets in transactions count from the marker on.

use crate::script::check;

#[test]
fn pending_offsets_show_only_to_who_asks_for_stable_ones() {
    check(
        "> commit - t-0=1
         record g t-0=1
         - commit: t-0=NONE
         > txn 7 t-0=5 t-1=6
         record g t-0=5
         record g t-1=6
         7 txn: t-0=NONE t-1=NONE
         > fetch t-0 t-1 t-2
         fetch: t-0=1 t-1=-1 t-2=-1
         > fetch t-0 t-1 t-2 stable
         fetch: t-0=UNSTABLE_OFFSET_COMMIT t-1=UNSTABLE_OFFSET_COMMIT t-2=-1
         > fetch all stable
         fetch: t-0=UNSTABLE_OFFSET_COMMIT
         > end 7 commit
         > fetch t-0 t-1 stable
         fetch: t-0=5 t-1=6",
    );
}

#[test]
fn an_aborted_transaction_leaves_no_offsets() {
    check(
        "> txn 7 t-0=5
         record g t-0=5
         7 txn: t-0=NONE
         > end 7 abort
         > fetch t-0 stable
         fetch: t-0=-1
         > list
         list: g Empty [] classic",
    );
}

#[test]
fn a_later_commit_outside_wins_over_the_transaction() {
    check(
        "> txn 7 t-0=5
         record g t-0=5
         7 txn: t-0=NONE
         > commit - t-0=9
         record g t-0=9
         - commit: t-0=NONE
         > end 7 commit
         > fetch t-0
         fetch: t-0=9",
    );
}

#[test]
fn two_transactions_and_a_deletion() {
    check(
        "> txn 7 t-0=5
         record g t-0=5
         7 txn: t-0=NONE
         > txn 8 t-0=6 t-1=6
         record g t-0=6
         record g t-1=6
         8 txn: t-0=NONE t-1=NONE
         > forget t-0
         record g t-0=gone
         forget: t-0=NONE
         > end 7 commit
         > fetch t-0 t-1 stable
         fetch: t-0=-1 t-1=UNSTABLE_OFFSET_COMMIT
         > end 8 commit
         > fetch t-0 t-1 stable
         fetch: t-0=-1 t-1=6",
    );
}

#[test]
fn a_group_goes_with_what_its_transactions_hold() {
    check(
        "> txn 7 t-0=5
         record g t-0=5
         7 txn: t-0=NONE
         > delete g
         record g t-0=gone
         record g gone
         delete: g=NONE
         > end 7 commit
         > fetch all
         fetch:",
    );
}

#[test]
fn members_are_checked_but_the_state_of_the_group_is_not() {
    check(
        "> set delay=0
         > txn 7 t-0=1 gen=4
         7 txn: t-0=ILLEGAL_GENERATION
         > txn 7 t-0=1 group=none
         7 txn: t-0=INVALID_GROUP_ID
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > txn 7 t-0=1
         record g t-0=1
         7 txn: t-0=NONE
         > txn 7 t-0=1 gen=1 id=stranger
         7 txn: t-0=UNKNOWN_MEMBER_ID
         > end 7 commit
         > fetch t-0
         fetch: t-0=1",
    );
}
