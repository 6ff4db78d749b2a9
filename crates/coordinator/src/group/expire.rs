//! What time ends: sessions, rebalances, and offsets nobody needs any more; and what the end of a
//! topic ends. Sweeps over offsets go in slices, so that requests get their turn between them.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::Duration;

use millrace_model::limits::{MAX_SWEEP_OFFSETS, MAX_SWEEP_RECORDS};
use millrace_model::{Timestamp, TopicId, TopicName};

use super::classic::{self, Phase, Seen};
use super::offsets::{self, Committed, OfGroup};
use super::state::{Effects, Replicated, Soft, SoftGroup, Timer};
use super::topics::Context;
use super::{GroupId, Record, delete};
use crate::consumer;

/// Timers that have come, up to the first that has something to remember: the next decision is to
/// see that applied. The shard's deadline stays in the past until all have been met.
pub(crate) fn timers(replicated: &Replicated, soft: &mut Soft, context: Context<'_>) -> Effects {
    let mut effects = Effects::default();
    while effects.records.is_empty()
        && let Some(id) = soft.deadlines.expire(context.now)
    {
        if replicated.consumer(&id).is_some() {
            let timers = &mut soft.group(&id).timers;
            let come = std::iter::from_fn(|| timers.expire(context.now)).collect();
            effects.append(consumer::expire(replicated, soft, context, &id, come));
        }
        while effects.records.is_empty()
            && let Some(group) = soft.groups.get_mut(&id)
            && let Some(timer) = group.timers.expire(context.now)
        {
            effects.append(classic_timer(group, context, &id, timer));
        }
        soft.reschedule(&id);
    }
    effects
}

fn classic_timer(
    group: &mut SoftGroup,
    context: Context<'_>,
    id: &GroupId,
    timer: Timer,
) -> Effects {
    let Some(live) = &mut group.classic else {
        return Effects::default();
    };
    match timer {
        Timer::Join if live.phase.is_preparing() => classic::initial_delay_over(group, context, id),
        Timer::Sync => sync_over(group, context, id),
        Timer::Session(member) => session_over(group, context, id, &member),
        Timer::Join | Timer::Revocation(_) | Timer::ClassicJoin(_) | Timer::ClassicSync(_) => {
            Effects::default()
        }
    }
}

/// Members that never fetched their assignment are out (Kafka method `expirePendingSync`).
fn sync_over(group: &mut SoftGroup, context: Context<'_>, id: &GroupId) -> Effects {
    let live = classic::live(group);
    let awaited = matches!(live.phase, Phase::CompletingRebalance | Phase::Stable);
    if !awaited || live.unsynced.is_empty() {
        return Effects::default();
    }
    let mut effects = Effects::default();
    for member in std::mem::take(&mut live.unsynced) {
        classic::dismiss(group, &member, &mut effects);
    }
    effects.append(classic::prepare_rebalance(group, context, id));
    effects
}

/// Kafka method `expireClassicGroupMemberHeartbeat`.
fn session_over(
    group: &mut SoftGroup,
    context: Context<'_>,
    id: &GroupId,
    member: &str,
) -> Effects {
    let live = classic::live(group);
    let was_pending = live.pending.contains(member);
    if !was_pending {
        match live.members.get(member) {
            None => return Effects::default(),
            // Who waits for the others cannot send heartbeats; the session starts again with the
            // answer. But a new member's connection may be gone.
            Some(known)
                if !known.is_new && (known.joining.is_some() || known.syncing.is_some()) =>
            {
                return Effects::default();
            }
            Some(_) => {}
        }
    }
    let mut effects = Effects::default();
    classic::dismiss(group, member, &mut effects);
    let live = classic::live(group);
    effects.append(match live.phase {
        Phase::Stable | Phase::CompletingRebalance if !was_pending => {
            classic::prepare_rebalance(group, context, id)
        }
        Phase::PreparingRebalance { .. } if live.has_all_joined() => {
            classic::complete_join(group, context, id)
        }
        Phase::Empty if live.pending.is_empty() => {
            group.classic = None;
            Effects::default()
        }
        _ => Effects::default(),
    });
    effects
}

/// How long other requests get their turn between two slices of a sweep. It also keeps a sweep whose
/// records cannot be appended from being tried without a pause.
const PAUSE: Duration = Duration::from_millis(10);

/// The sweeps under way in a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweeps {
    /// When the next look at old offsets is due; `None` before the shard is loaded.
    due: Option<Timestamp>,
    /// From which group on the look under way goes on.
    from: Option<Cursor>,
    /// Deleted topics whose offsets are still there, with where to look on.
    deleted: VecDeque<(TopicName, TopicId, Option<Cursor>)>,
    /// When the next slice of what is under way is due.
    resume: Timestamp,
}

/// Where in the order of groups a sweep goes on: at this group again, or after it.
type Cursor = Bound<GroupId>;

/// What one slice of a sweep has done.
#[derive(Default)]
struct Slice {
    records: Vec<Record>,
    seen: usize,
}

impl Slice {
    /// Whether others should have their turn; within a group only where there is something to
    /// apply, so that every slice gets on.
    fn is_full(&self) -> bool {
        self.has_enough() || self.seen >= MAX_SWEEP_OFFSETS
    }

    fn has_enough(&self) -> bool {
        self.records.len() >= MAX_SWEEP_RECORDS
    }
}

impl Sweeps {
    /// Starts to look at old offsets regularly.
    pub fn start(&mut self, context: Context<'_>) {
        self.put_off(context);
    }

    fn put_off(&mut self, context: Context<'_>) {
        let interval_ms = context.settings.offsets_retention_check_interval_ms.max(1);
        self.due = Some(Timestamp(context.now.get().saturating_add(interval_ms)));
    }

    /// The offsets of these topics are to go.
    pub fn forget_topics(&mut self, topics: Vec<(TopicName, TopicId)>) {
        let topics = topics.into_iter().map(|(name, id)| (name, id, None));
        self.deleted.extend(topics);
    }

    /// When it wants to go on.
    pub fn next(&self) -> Option<Timestamp> {
        match self.deleted.is_empty() && self.from.is_none() {
            true => self.due,
            false => Some(self.resume),
        }
    }

    /// Goes on by one slice, if there is something to do.
    pub fn step(
        &mut self,
        replicated: &Replicated,
        soft: &mut Soft,
        context: Context<'_>,
    ) -> Effects {
        let mut slice = Slice::default();
        if let Some((name, id, from)) = self.deleted.pop_front() {
            let from = forget_topic(replicated, (&name, id), from, &mut slice);
            if from.is_some() {
                self.deleted.push_front((name, id, from));
            }
            soft.counters.offset_deletions += slice.records.len() as u64;
        } else if self.from.is_some() || self.due.is_some_and(|due| due <= context.now) {
            self.from = look_at_groups(replicated, soft, context, self.from.take(), &mut slice);
            if self.from.is_none() {
                self.put_off(context);
            }
        }
        self.resume = context.now.after(PAUSE);
        Effects {
            records: slice.records,
            atomic: false,
            ..Effects::default()
        }
    }
}

/// Looks at groups until the slice is full; says where to go on.
fn look_at_groups(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    from: Option<Cursor>,
    slice: &mut Slice,
) -> Option<Cursor> {
    let from = from.unwrap_or(Bound::Unbounded);
    for (id, _) in replicated.groups.range((from, Bound::Unbounded)) {
        expire_group(replicated, soft, context, id, slice);
        if slice.has_enough() {
            return Some(Bound::Included(id.clone()));
        }
        if slice.is_full() {
            return Some(Bound::Excluded(id.clone()));
        }
    }
    None
}

/// The old offsets of a group, and the group itself where nothing is left of it (Kafka methods
/// `cleanupExpiredOffsets` and `maybeDeleteGroup`).
fn expire_group(
    replicated: &Replicated,
    soft: &mut Soft,
    context: Context<'_>,
    id: &GroupId,
    slice: &mut Slice,
) {
    let mut is_bare = !replicated.offsets.has_open_transaction(id);
    if let Some(of_group) = replicated.offsets.of(id) {
        let before = slice.records.len();
        is_bare &= expire_offsets(replicated, soft, context, id, of_group, slice);
        soft.counters.offset_expirations += (slice.records.len() - before) as u64;
    }
    slice.seen += 1;
    let is_empty = match replicated.consumer(id) {
        Some(state) => state.is_empty(),
        None => classic::seen(replicated, soft, id).is_some_and(Seen::is_deserted),
    };
    if is_bare && is_empty {
        slice.records.extend(delete::tombstones(replicated, id));
    }
}

/// Says whether all of them expire.
fn expire_offsets(
    replicated: &Replicated,
    soft: &Soft,
    context: Context<'_>,
    id: &GroupId,
    of_group: &OfGroup,
    slice: &mut Slice,
) -> bool {
    let Some(base) = Base::of(replicated, soft, id) else {
        return false;
    };
    let mut all = true;
    for (topic, partitions) in of_group {
        slice.seen += partitions.len();
        if delete::is_subscribed(replicated, soft, id, topic) {
            all = false;
            continue;
        }
        for (partition, committed) in partitions {
            if slice.has_enough() {
                return false;
            }
            let is_old = base.is_expired(committed, context);
            if is_old && !replicated.offsets.is_pending(id, topic, *partition) {
                slice
                    .records
                    .push(offsets::tombstone(id, topic, *partition));
            } else {
                all = false;
            }
        }
    }
    all
}

/// From when on an offset ages (Kafka class `OffsetExpirationConditionImpl`).
#[derive(Clone, Copy)]
enum Base {
    /// Since the group lost its last member.
    Since(Timestamp),
    /// Since it was committed.
    Commit,
}

impl Base {
    /// `None` where offsets do not age at all.
    fn of(replicated: &Replicated, soft: &Soft, id: &str) -> Option<Base> {
        if replicated.consumer(id).is_some() {
            return Some(Base::Commit);
        }
        let seen = classic::seen(replicated, soft, id)?;
        if seen.protocol_type().is_none() {
            return Some(Base::Commit);
        }
        let knows_subscriptions = || matches!(seen, Seen::Live(live) if live.subscribed.is_some());
        match seen.phase() {
            Phase::Empty => Some(seen.since().map_or(Base::Commit, Base::Since)),
            Phase::Stable if seen.is_of_consumers() && knows_subscriptions() => Some(Base::Commit),
            _ => None,
        }
    }

    fn is_expired(self, committed: &Committed, context: Context<'_>) -> bool {
        if let Some(expires) = committed.expires {
            return context.wall >= expires;
        }
        let from = match self {
            Base::Since(since) => since,
            Base::Commit => committed.at,
        };
        let age_ms = context.wall.get().saturating_sub(from.get());
        age_ms >= context.settings.offsets_retention_ms
    }
}

/// The offsets of a deleted topic; those of a later topic of its name stay.
fn forget_topic(
    replicated: &Replicated,
    (name, id): (&TopicName, TopicId),
    from: Option<Cursor>,
    slice: &mut Slice,
) -> Option<Cursor> {
    let is_of_topic = |committed: &Committed| committed.topic == id || committed.topic.0.is_zero();
    let from = from.unwrap_or(Bound::Unbounded);
    for (group, _) in replicated.groups.range((from, Bound::Unbounded)) {
        slice.seen += 1;
        let committed = replicated.offsets.of(group).into_iter();
        for of_group in committed.chain(replicated.offsets.pending_of(group)) {
            let partitions = of_group.get(name.as_str()).into_iter().flatten();
            let gone = partitions.filter(|(_, committed)| is_of_topic(committed));
            let room = MAX_SWEEP_RECORDS.saturating_sub(slice.records.len());
            let ends = gone.map(|(index, _)| offsets::tombstone(group, name.as_str(), *index));
            slice.records.extend(ends.take(room));
        }
        if slice.has_enough() {
            return Some(Bound::Included(group.clone()));
        }
        if slice.is_full() {
            return Some(Bound::Excluded(group.clone()));
        }
    }
    None
}
