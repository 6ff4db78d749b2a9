//! What the groups of one partition are: the part that the log remembers, and the part that dies
//! with the leader. A verb gets the first read-only and may change the second, so that the compiler
//! keeps a decision from changing what only a record may change.

use std::collections::BTreeMap;

use millrace_model::Timestamp;

use super::classic::{Live, Recorded};
use super::offsets::Offsets;
use super::timers::Timers;
use super::{Caller, Counters, GroupId, MemberId, Record, Response};
use crate::consumer;
use crate::shard::ReplyTo;

/// What a verb on groups wants done.
pub(crate) type Effects = crate::shard::Effects<Record, Response>;

/// The replicated state: a function of the log's records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Replicated {
    pub groups: BTreeMap<GroupId, Group>,
    /// Offsets outlive their group's other records, and may come before them.
    pub offsets: Offsets,
}

/// A group, as the log has it. A group that only commits offsets is a classic one without members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Group {
    /// Its members agree on an assignment among themselves.
    Classic(Recorded),
    /// The coordinator assigns (KIP-848).
    Consumer(consumer::State),
}

impl Replicated {
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// The group, if it is a consumer group.
    pub fn consumer(&self, id: &str) -> Option<&consumer::State> {
        match self.group(id) {
            Some(Group::Consumer(state)) => Some(state),
            _ => None,
        }
    }

    /// The group, if it is a classic group that has a record.
    pub fn classic(&self, id: &str) -> Option<&Recorded> {
        match self.group(id) {
            Some(Group::Classic(recorded)) => Some(recorded),
            _ => None,
        }
    }
}

/// What only the leader knows: timers, waiting callers, rebalances under way.
#[derive(Debug, Default)]
pub(crate) struct Soft {
    pub groups: BTreeMap<GroupId, SoftGroup>,
    /// When to look at which group's timers; never later than the earliest of them.
    pub deadlines: Timers<GroupId>,
    pub counters: Counters,
    /// What topics look like, for the epochs of consumer groups.
    pub topic_hashes: consumer::TopicHashes,
}

/// One group's soft state.
#[derive(Debug, Default)]
pub(crate) struct SoftGroup {
    pub timers: Timers<Timer>,
    /// The classic protocol under way; `None` for a group at rest without members.
    pub classic: Option<Live>,
    /// What a consumer group keeps beside its records.
    pub consumer: consumer::Soft,
}

/// What a group waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The members of a classic group have had time to join.
    Join,
    /// The members of a classic group have had time to fetch their assignment.
    Sync,
    /// A member's session ends, or the time in which a member id must be used.
    Session(MemberId),
    /// A consumer group's member has had time to give up what it must.
    Revocation(MemberId),
    /// A consumer group's member that joined by the classic protocol has had time to join again.
    ClassicJoin(MemberId),
    /// The same member has had time to fetch its assignment.
    ClassicSync(MemberId),
}

impl Timer {
    /// The member it is about, if it is about one.
    pub fn into_member(self) -> Option<MemberId> {
        match self {
            Timer::Join | Timer::Sync => None,
            Timer::Session(member)
            | Timer::Revocation(member)
            | Timer::ClassicJoin(member)
            | Timer::ClassicSync(member) => Some(member),
        }
    }
}

impl Soft {
    /// The group's soft state, made if it is not there.
    pub fn group(&mut self, id: &str) -> &mut SoftGroup {
        if !self.groups.contains_key(id) {
            self.groups.insert(GroupId::from(id), SoftGroup::default());
        }
        self.groups.get_mut(id).expect("just made")
    }

    /// The classic protocol under way in this group.
    pub fn classic(&self, id: &str) -> Option<&Live> {
        self.groups.get(id)?.classic.as_ref()
    }

    /// Makes the shard wake up for the group's timers, or forget the group if nothing is left of it.
    pub fn reschedule(&mut self, id: &str) {
        let Some((known, group)) = self.groups.get_key_value(id) else {
            return;
        };
        match group.timers.next() {
            Some(due) => self.deadlines.set(known.clone(), due),
            None => {
                self.deadlines.cancel(id);
                if group.is_idle() {
                    self.groups.remove(id);
                }
            }
        }
    }
}

impl SoftGroup {
    fn is_idle(&self) -> bool {
        self.classic.is_none() && self.consumer.is_idle() && self.timers.next().is_none()
    }

    /// Sets a timer to `ms` milliseconds from `now`; a negative span counts as none.
    pub fn start(&mut self, timer: Timer, now: Timestamp, ms: i32) {
        let span = u64::try_from(ms).unwrap_or(0);
        let due = now.after(std::time::Duration::from_millis(span));
        self.timers.set(timer, due);
    }
}

/// Who asks, and where the answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub from: ReplyTo,
    pub caller: Caller,
}

impl Asker {
    /// An answer for this caller and nothing else.
    pub fn answer(&self, response: Response) -> Effects {
        Effects::reply(self.from, response)
    }
}
