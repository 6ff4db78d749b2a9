//! `range`: cut each topic into neighbouring ranges, one a subscriber, in one order of members.
//!
//! Topics with equal numbers of partitions and the same subscribers are cut alike, so that records
//! of one key that lie in the same partition of two topics meet at one member. Static members come
//! first, by their instance, so that a restart under a new member id changes nothing.

use std::collections::BTreeMap;

use millrace_model::TopicId;

use super::{Describe, MemberSpec, Partitions};

/// How far a topic is handed out.
struct Cut {
    partitions: i32,
    subscribers: i32,
    next: i32,
    extra: i32,
}

pub(super) fn assign(members: &[MemberSpec<'_>], topics: &dyn Describe) -> Vec<Partitions> {
    let mut cuts: BTreeMap<TopicId, Cut> = BTreeMap::new();
    for member in members {
        for topic in member.topics {
            let cut = cuts.entry(*topic).or_insert_with(|| Cut {
                partitions: topics.partition_count(*topic).unwrap_or(0).max(0),
                subscribers: 0,
                next: 0,
                extra: 0,
            });
            cut.subscribers += 1;
        }
    }
    for cut in cuts.values_mut() {
        cut.extra = cut.partitions % cut.subscribers;
    }

    let mut result = vec![Partitions::default(); members.len()];
    for index in order(members) {
        for topic in members[index].topics {
            let cut = cuts.get_mut(topic).expect("each subscribed topic has one");
            let mut quota = cut.partitions / cut.subscribers;
            if cut.extra > 0 {
                quota += 1;
                cut.extra -= 1;
            }
            let end = cut.next + quota;
            if cut.next < end {
                result[index].0.insert(*topic, (cut.next..end).collect());
            }
            cut.next = end;
        }
    }
    result
}

/// Static members by instance, then dynamic ones by id.
fn order(members: &[MemberSpec<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|index| {
        let member = &members[*index];
        (member.instance.is_none(), member.instance, member.id)
    });
    order
}
