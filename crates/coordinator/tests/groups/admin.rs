//! What administrators see.

use crate::script::check;

#[test]
fn groups_are_listed_by_state_and_type() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > at 0
         a join: a gen=1 range leader=a a=x
         > commit - t-0=1 group=h
         record h t-0=1
         - commit: t-0=NONE
         > list
         list: g CompletingRebalance [consumer] classic; h Empty [] classic
         > list states=empty,Dead
         list: h Empty [] classic
         > list states=CompletingRebalance
         list: g CompletingRebalance [consumer] classic
         > list types=Classic
         list: g CompletingRebalance [consumer] classic; h Empty [] classic
         > list types=consumer,share
         list:
         > list states=empty types=classic
         list: h Empty [] classic",
    );
}

#[test]
fn a_group_that_is_not_there_is_dead_or_an_error() {
    check(
        "> describe
         describe: g: GROUP_ID_NOT_FOUND Dead [] []
         > describe v=5
         describe: g: NONE Dead [] []",
    );
}
