//! The shard of all groups of one partition of `__consumer_offsets`: finds the group's kind and the
//! verb, and applies records.

use millrace_model::Timestamp;

use crate::consumer;
use crate::group::classic::{self, Live, Phase, Recorded};
use crate::group::expire::{self, Sweeps};
use crate::group::state::{Asker, Effects, Group, Replicated, Soft, Timer};
use crate::group::topics::Context;
use crate::group::{
    Call, Committed, Counters, GroupId, Notice, Record, Request, Response, States, View,
};
use crate::group::{commit, delete, describe, fetch, heartbeat, join, leave, list, sync};
use crate::shard::{Input, Marker, Now, Origin, ReplyTo, Shard};

/// The groups of one partition.
#[derive(Debug, Default)]
pub struct Groups {
    replicated: Replicated,
    soft: Soft,
    sweeps: Sweeps,
}

impl Shard for Groups {
    type Request = Request;
    type Response = Response;
    type Record = Record;
    type Notice = Notice;
    type View<'a> = View<'a>;

    fn handle(&mut self, input: Input<Request, Notice>, now: Now, view: View<'_>) -> Effects {
        let context = Context {
            now: now.steady,
            wall: now.wall,
            topics: view.topics,
            settings: view.settings,
        };
        match input {
            Input::Request { from, request } => self.call(context, from, request),
            Input::Notice(Notice::TopicsDeleted(topics)) => {
                self.sweeps.forget_topics(topics);
                self.sweeps.step(&self.replicated, &mut self.soft, context)
            }
            Input::Loaded => self.loaded(context),
            Input::Tick => {
                let mut effects = expire::timers(&self.replicated, &mut self.soft, context);
                if effects.records.is_empty() {
                    // Records of a sweep may be split, those of a rebalance may not.
                    let swept = self.sweeps.step(&self.replicated, &mut self.soft, context);
                    effects.atomic = swept.atomic;
                    effects.append(swept);
                }
                effects
            }
        }
    }

    fn replay(&mut self, record: Record, origin: Origin) {
        match record {
            Record::OffsetCommit(key, value) => {
                if value.is_some() && !self.replicated.groups.contains_key(key.group.as_str()) {
                    let simple = Group::Classic(Recorded::simple());
                    self.replicated
                        .groups
                        .insert(GroupId::from(key.group.as_str()), simple);
                }
                self.replicated.offsets.replay(key, value, origin);
            }
            Record::GroupMetadata(key, Some(value)) => {
                let id = GroupId::from(key.group);
                let recorded = Recorded(value);
                self.settle_classic(&id, &recorded);
                self.replicated.groups.insert(id, Group::Classic(recorded));
            }
            Record::GroupMetadata(key, None) => self.forget_classic(&key.group),
            of_consumers => consumer::replay(&mut self.replicated.groups, &of_consumers),
        }
    }

    fn replay_marker(&mut self, marker: Marker) {
        self.replicated.offsets.replay_marker(marker);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let timers = self.soft.deadlines.next();
        timers.into_iter().chain(self.sweeps.next()).min()
    }
}

impl Groups {
    /// What the log says, and nothing else: equal in shards that have applied the same records.
    pub fn replicated(&self) -> impl PartialEq + std::fmt::Debug + Clone + use<> {
        self.replicated.clone()
    }

    /// The state that the log is to give back, for the tests inside.
    #[cfg(test)]
    pub(crate) fn state(&self) -> &Replicated {
        &self.replicated
    }

    /// What has happened here since the shard was made.
    pub fn counters(&self) -> Counters {
        self.soft.counters
    }

    /// How many groups are in which state, and how many offsets there are. Looks at every group.
    pub fn states(&self) -> States {
        list::states(&self.replicated, &self.soft)
    }

    /// Every committed offset: group, topic, partition. For the lag of groups.
    pub fn offsets(&self) -> impl Iterator<Item = (&str, &str, i32, &Committed)> {
        let groups = self.replicated.offsets.groups();
        groups.flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                let partitions = partitions.iter();
                partitions.map(move |(index, offset)| (&**group, &**topic, *index, offset))
            })
        })
    }

    fn call(&mut self, context: Context<'_>, from: ReplyTo, request: Request) -> Effects {
        let Request { caller, call } = request;
        let asker = Asker { from, caller };
        let touched = touched(&call);
        let (replicated, soft) = (&self.replicated, &mut self.soft);
        let effects = match call {
            Call::JoinGroup(request) => join::join(replicated, soft, context, asker, request),
            Call::SyncGroup(request) => sync::sync(replicated, soft, context, asker, request),
            Call::Heartbeat(request) => {
                heartbeat::heartbeat(replicated, soft, context, asker, request)
            }
            Call::LeaveGroup(request) => leave::leave(replicated, soft, context, asker, request),
            Call::OffsetCommit(request) => {
                commit::commit(replicated, soft, context, asker, request)
            }
            Call::TxnOffsetCommit(request) => {
                commit::commit_in_transaction(replicated, soft, context, asker, request)
            }
            Call::OffsetFetch {
                group,
                require_stable,
            } => fetch::fetch(replicated, soft, context, asker, group, require_stable),
            Call::OffsetDelete(request) => delete::delete_offsets(replicated, soft, asker, request),
            Call::DescribeGroups(groups) => describe::describe(replicated, soft, asker, groups),
            Call::ListGroups(request) => list::list(replicated, soft, asker, &request),
            Call::DeleteGroups(groups) => delete::delete_groups(replicated, soft, asker, groups),
            Call::ConsumerGroupHeartbeat(request) => {
                consumer::heartbeat(replicated, soft, context, asker, request)
            }
            Call::ConsumerGroupDescribe(groups) => {
                let describe = |group: &String| consumer::describe(replicated, context, group);
                let described = groups.iter().map(describe).collect();
                asker.answer(Response::ConsumerGroupDescribe(described))
            }
        };
        if let Some(group) = touched {
            self.soft.reschedule(&group);
        }
        effects
    }

    /// Starts what a leader does by itself: sessions, and the sweeps over old offsets.
    fn loaded(&mut self, context: Context<'_>) -> Effects {
        let mut effects = Effects::default();
        self.sweeps.start(context);
        let ids: Vec<GroupId> = self.replicated.groups.keys().cloned().collect();
        for id in ids {
            effects.append(match self.replicated.group(&id) {
                Some(Group::Consumer(_)) => {
                    consumer::loaded(&self.replicated, &mut self.soft, context, &id)
                }
                Some(Group::Classic(recorded)) => resume(recorded, &mut self.soft, context, &id),
                None => Effects::default(),
            });
            self.soft.reschedule(&id);
        }
        effects
    }

    /// A classic group's record has been appended: what waited for it goes on.
    fn settle_classic(&mut self, id: &GroupId, recorded: &Recorded) {
        let Some(group) = self.soft.groups.get_mut(id) else {
            return;
        };
        let Some(live) = &mut group.classic else {
            return;
        };
        let before = live.phase;
        let is_at_rest = live.applied(recorded);
        if before == Phase::CompletingRebalance && live.phase == Phase::Stable {
            self.soft.counters.classic_rebalances += 1;
        }
        if is_at_rest {
            group.classic = None;
            self.soft.reschedule(id);
        }
    }

    fn forget_classic(&mut self, id: &str) {
        if let Some(Group::Classic(_)) = self.replicated.group(id) {
            self.replicated.groups.remove(id);
        }
        if let Some(group) = self.soft.groups.get_mut(id) {
            group.classic = None;
        }
        self.soft.reschedule(id);
    }
}

/// The members of a classic group have their sessions from now on; one that is too large is called
/// to join again, which leaves some of them out.
fn resume(recorded: &Recorded, soft: &mut Soft, context: Context<'_>, id: &GroupId) -> Effects {
    if recorded.0.members.is_empty() {
        return Effects::default();
    }
    let group = soft.group(id);
    let live = Live::new(Some(recorded), context.wall);
    for member in live.members.values() {
        let due = member.session_due(context.now);
        group.timers.set(Timer::Session(member.id.clone()), due);
    }
    let is_too_large = live.members.len() > context.settings.max_size;
    debug_assert_eq!(
        live.phase,
        Phase::Stable,
        "a generation with members is stable"
    );
    group.classic = Some(live);
    match is_too_large {
        true => classic::prepare_rebalance(group, context, id),
        false => Effects::default(),
    }
}

/// The group whose timers a call may have moved.
fn touched(call: &Call) -> Option<String> {
    match call {
        Call::JoinGroup(request) => Some(request.group_id.clone()),
        Call::SyncGroup(request) => Some(request.group_id.clone()),
        Call::Heartbeat(request) => Some(request.group_id.clone()),
        Call::LeaveGroup(request) => Some(request.group_id.clone()),
        Call::OffsetCommit(request) => Some(request.group_id.clone()),
        Call::ConsumerGroupHeartbeat(request) => Some(request.group_id.clone()),
        Call::TxnOffsetCommit(_)
        | Call::OffsetFetch { .. }
        | Call::OffsetDelete(_)
        | Call::DescribeGroups(_)
        | Call::ListGroups(_)
        | Call::DeleteGroups(_)
        | Call::ConsumerGroupDescribe(_) => None,
    }
}
