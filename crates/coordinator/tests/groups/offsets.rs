//! Committing, fetching and deleting offsets.

use crate::script::check;

#[test]
fn whoever_is_no_member_may_commit_to_a_group_without_members() {
    check(
        "> commit - t-0=5 t-1=7(note) epoch=3
         record g t-0=5@3
         record g t-1=7@3(note)
         - commit: t-0=NONE t-1=NONE
         > fetch t-0 t-1 t-2
         fetch: t-0=5@3 t-1=7@3(note) t-2=-1
         > fetch all
         fetch: t-0=5@3 t-1=7@3(note)
         > commit - t-0=2
         record g t-0=2
         - commit: t-0=NONE
         > fetch t-0
         fetch: t-0=2
         > list
         list: g Empty [] classic
         > describe
         describe: g: NONE Empty [] []",
    );
}

#[test]
fn a_group_that_is_not_there_has_no_offsets() {
    check(
        "> fetch t-0
         fetch: t-0=-1
         > fetch all
         fetch:
         > commit - t-0=1 gen=3 v=9
         - commit: t-0=GROUP_ID_NOT_FOUND
         > commit - t-0=1 gen=3 v=8
         - commit: t-0=ILLEGAL_GENERATION
         > list
         list:",
    );
}

#[test]
fn members_commit_in_their_generation() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > commit - t-0=1
         - commit: t-0=UNKNOWN_MEMBER_ID
         > at 0
         a join: a gen=1 range leader=a a=x
         > commit a t-0=1
         a commit: t-0=REBALANCE_IN_PROGRESS
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:x=all
         a sync: NONE all
         > commit a t-0=1
         record g t-0=1
         a commit: t-0=NONE
         > commit a t-0=2 gen=0
         a commit: t-0=ILLEGAL_GENERATION
         > commit a t-0=2 id=stranger
         a commit: t-0=UNKNOWN_MEMBER_ID
         > commit - t-0=2
         - commit: t-0=UNKNOWN_MEMBER_ID
         > commit - t-0=2 gen=1
         - commit: t-0=UNKNOWN_MEMBER_ID
         > join b v=3
         > commit a t-0=3
         record g t-0=3
         a commit: t-0=NONE
         > join a
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a
         > commit a t-0=4
         a commit: t-0=REBALANCE_IN_PROGRESS
         > fetch t-0
         fetch: t-0=3",
    );
}

#[test]
fn a_commit_keeps_the_session() {
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
         > commit a t-0=1
         record g t-0=1
         a commit: t-0=NONE
         > at 18999
         > heartbeat a
         a heartbeat: NONE
         > at 28999
         record g gen=2 [consumer] - leader=-",
    );
}

#[test]
fn metadata_has_a_limit_counted_as_java_counts() {
    check(
        "> set metadata=4
         > commit - t-0=1(abcd) t-1=1(abcde) t-2=1(ääää) t-3=1(🚀🚀) u-0=1(🚀🚀🚀)
         record g t-0=1(abcd)
         record g t-2=1(ääää)
         record g t-3=1(🚀🚀)
         - commit: t-0=NONE t-1=OFFSET_METADATA_TOO_LARGE t-2=NONE t-3=NONE u-0=OFFSET_METADATA_TOO_LARGE
         > fetch all
         fetch: t-0=1(abcd) t-2=1(ääää) t-3=1(🚀🚀)",
    );
}

#[test]
fn what_no_batch_could_hold_is_refused_as_a_whole() {
    check(
        "> set batch=200
         > commit - t-0=1 t-1=1
         record g t-0=1
         record g t-1=1
         - commit: t-0=NONE t-1=NONE
         > commit - t-0=1 t-1=1 t-2=1
         - commit: t-0=INVALID_COMMIT_OFFSET_SIZE t-1=INVALID_COMMIT_OFFSET_SIZE t-2=INVALID_COMMIT_OFFSET_SIZE
         > fetch all
         fetch: t-0=1 t-1=1",
    );
}

#[test]
fn a_failed_append_changes_nothing() {
    check(
        "> commit - t-0=1
         record g t-0=1
         - commit: t-0=NONE
         > append-fails
         > commit - t-0=2
         - commit: append failed
         > fetch t-0
         fetch: t-0=1
         > append-fails
         > delete g
         delete: append failed
         > fetch t-0
         fetch: t-0=1",
    );
}

#[test]
fn offsets_of_topics_that_nobody_subscribes_to_can_be_deleted() {
    check(
        "> forget t-0
         forget: GROUP_ID_NOT_FOUND
         > forget t-0 group=none
         forget: INVALID_GROUP_ID
         > commit - t-0=1 t-1=1 u-0=1
         record g t-0=1
         record g t-1=1
         record g u-0=1
         - commit: t-0=NONE t-1=NONE u-0=NONE
         > forget t-0 t-3
         record g t-0=gone
         forget: t-0=NONE t-3=NONE
         > set delay=0
         > join a v=3 p=range:@t
         > at 0
         a join: a gen=1 range leader=a a=@t
         > sync a assign=a:all
         record g gen=1 [consumer] range leader=a a:@t=all
         a sync: NONE all
         > forget t-1 u-0
         record g u-0=gone
         forget: t-1=GROUP_SUBSCRIBED_TO_TOPIC u-0=NONE
         > fetch all
         fetch: t-1=1",
    );
}

#[test]
fn offsets_of_a_group_that_is_not_of_consumers_are_left_alone_while_it_has_members() {
    check(
        "> commit - t-0=1
         record g t-0=1
         - commit: t-0=NONE
         > set delay=0
         > join a v=3 type=connect
         > at 0
         a join: a gen=1 range leader=a a=x
         > forget t-0
         forget: NON_EMPTY_GROUP
         > leave a
         record g gen=2 [connect] - leader=-
         a leave: NONE a=NONE
         > forget t-0
         record g t-0=gone
         forget: t-0=NONE",
    );
}

#[test]
fn a_group_whose_subscriptions_cannot_be_read_counts_as_subscribed_to_all() {
    check(
        "> commit - t-0=1
         record g t-0=1
         - commit: t-0=NONE
         > set delay=0
         > join a v=3 p=range:garbage
         > at 0
         a join: a gen=1 range leader=a a=garbage
         > forget t-0
         forget: t-0=GROUP_SUBSCRIBED_TO_TOPIC",
    );
}

#[test]
fn groups_without_members_are_deleted_with_their_offsets() {
    check(
        "> commit - t-0=1 u-1=2
         record g t-0=1
         record g u-1=2
         - commit: t-0=NONE u-1=NONE
         > delete g none-such g
         record g t-0=gone
         record g u-1=gone
         record g gone
         delete: g=NONE; none-such=GROUP_ID_NOT_FOUND
         > fetch all
         fetch:
         > list
         list:
         > set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > delete g
         delete: g=NON_EMPTY_GROUP
         > at 0
         a join: a gen=1 range leader=a a=x
         > delete g
         delete: g=NON_EMPTY_GROUP
         > leave a
         record g gen=2 [consumer] - leader=-
         a leave: NONE a=NONE
         > delete g
         record g gone
         delete: g=NONE
         > list
         list:",
    );
}

#[test]
fn an_unused_member_id_does_not_keep_a_group() {
    check(
        "> join a
         record g gen=0 [] - leader=-
         a join: MEMBER_ID_REQUIRED a
         > delete g
         record g gone
         delete: g=NONE
         > join a
         a join: UNKNOWN_MEMBER_ID a
         > list
         list:",
    );
}

#[test]
fn deletion_of_a_topic_takes_its_offsets() {
    check(
        "> commit - t-0=1 t-1=2 u-0=3
         record g t-0=1
         record g t-1=2
         record g u-0=3
         - commit: t-0=NONE t-1=NONE u-0=NONE
         > commit - t-0=1 group=h
         record h t-0=1
         - commit: t-0=NONE
         > drop t
         record g t-0=gone
         record g t-1=gone
         record h t-0=gone
         > at 1
         > fetch all
         fetch: u-0=3
         > fetch all group=h
         fetch:",
    );
}

#[test]
fn offsets_of_a_topic_made_anew_stay() {
    check(
        "> commit - t-0=1 t-1=1
         record g t-0=1
         record g t-1=1
         - commit: t-0=NONE t-1=NONE
         > drop u
         > create u
         > commit - u-0=9
         record g u-0=9
         - commit: u-0=NONE
         > fetch u-0 by-id
         fetch: u-0=9
         > drop u
         record g u-0=gone
         > create u
         > fetch all
         fetch: t-0=1 t-1=1",
    );
}

#[test]
fn who_names_a_topic_by_its_id_gets_no_offset_of_an_earlier_one() {
    check(
        "> create v
         > commit - v-0=5
         record g v-0=5
         - commit: v-0=NONE
         > create v
         > fetch v-0
         fetch: v-0=5
         > fetch v-0 by-id
         fetch: v-0=-1
         > commit - v-0=6
         record g v-0=6
         - commit: v-0=NONE
         > fetch v-0 by-id
         fetch: v-0=6",
    );
}
