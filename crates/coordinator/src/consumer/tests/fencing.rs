//! Who may not speak, and who may commit.

use super::script::check;

#[test]
fn epochs_that_are_none_of_a_members_are_fenced() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         a beat epoch=3 => FENCED_MEMBER_EPOCH
         a beat epoch=1 => FENCED_MEMBER_EPOCH
         a beat epoch=2 => 2 .
         a beat epoch=-3 => INVALID_REQUEST
         x beat epoch=1 => UNKNOWN_MEMBER_ID
         x leave epoch=1 => UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn the_epoch_before_is_let_in_only_with_what_was_owned_then() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         +2000
         b join t => 3 -
         a own t:0 => 3 t:0
         a own t:0,1 epoch=2 => FENCED_MEMBER_EPOCH
         a beat epoch=2 => FENCED_MEMBER_EPOCH
         a own t:0 epoch=2 => 3 .",
    );
}

#[test]
fn a_group_that_is_not_there() {
    check(
        "a beat epoch=1 => GROUP_ID_NOT_FOUND
         a leave epoch=1 => GROUP_ID_NOT_FOUND
         group => none",
    );
}

#[test]
fn a_member_may_commit_while_it_has_the_partition() {
    check(
        "topic t 2
         a join t => 2 t:0,1
         a commit t:0 => NONE
         +2000
         b join t => 3 -
         a commit t:1 => NONE
         a beat => 2 t:0
         a commit t:1 => NONE
         b commit t:1 epoch=4 => STALE_MEMBER_EPOCH
         b beat epoch=3 => 3 .
         a own t:0 => 3 .
         a commit t:0 epoch=2 => NONE
         a commit t:1 epoch=2 => STALE_MEMBER_EPOCH
         b beat => 3 t:1
         b commit t:1 => NONE
         b commit t:1 epoch=2 => STALE_MEMBER_EPOCH
         x commit t:1 epoch=2 => UNKNOWN_MEMBER_ID",
    );
}

#[test]
fn offsets_of_a_group_without_members_are_an_administrators() {
    check(
        "topic t 1
         a join t => 2 t:0
         x commit t:0 epoch=-1 id=- => UNKNOWN_MEMBER_ID
         a leave => -1 .
         x commit t:0 epoch=-1 => NONE",
    );
}

#[test]
fn odd_requests_are_refused() {
    check(
        "a join t assignor=sticky => UNSUPPORTED_ASSIGNOR
         a join t rack= => INVALID_REQUEST
         a join t instance= => INVALID_REQUEST
         b join t timeout=-1 => INVALID_REQUEST
         b join t id= => INVALID_REQUEST
         group => none",
    );
}
