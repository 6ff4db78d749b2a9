//! `group.max.size`, and what is bounded without a setting.

use crate::script::check;

#[test]
fn a_full_group_takes_no_more_members() {
    check(
        "> set max_size=2
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > join c v=3
         c join: GROUP_MAX_SIZE_REACHED -
         > at 6000
         a join: a gen=1 range leader=a a=x b=x
         b join: b gen=1 range leader=a
         > join c
         c join: GROUP_MAX_SIZE_REACHED -
         > join c
         c join: GROUP_MAX_SIZE_REACHED -
         > sync a assign=a:p0,b:p1
         record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1
         a sync: NONE p0
         > join a
         > join b
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a",
    );
}

#[test]
fn the_last_to_join_again_is_too_many() {
    check(
        "> set delay=0
         > join a v=3
         record g gen=0 [] - leader=-
         > join b v=3
         > join c v=3
         > at 0
         a join: a gen=1 range leader=a a=x b=x c=x
         b join: b gen=1 range leader=a
         c join: c gen=1 range leader=a
         > sync a assign=a:p0,b:p1,c:p2
         record g gen=1 [consumer] range leader=a a:x=p0 b:x=p1 c:x=p2
         a sync: NONE p0
         > set max_size=2
         > join a
         > join b
         > join c
         c join: GROUP_MAX_SIZE_REACHED -
         a join: a gen=2 range leader=a a=x b=x
         b join: b gen=2 range leader=a
         > describe
         describe: g: NONE CompletingRebalance [consumer] [] a(-)-=- b(-)-=-
         > at 60000
         record g gen=3 [consumer] - leader=-",
    );
}
