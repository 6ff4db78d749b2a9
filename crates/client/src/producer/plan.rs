//! What could be sent to whom: a look at all partitions that have something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_model::{BrokerId, TopicId};
use tokio::time::Instant;

use super::accumulator::{Accumulator, Built, Readiness, Slot};
use super::lane::{Lane, Turn};
use crate::{Cluster, TopicView};

/// Bytes of batches in one request, one larger batch excepted (Kafka's `max.request.size`).
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// What could be sent to one leader.
#[derive(Default)]
pub(super) struct Offer {
    /// Whether a batch of it may not wait any longer; the others go along.
    pub(super) is_due: bool,
    /// A batch of each partition that has one, by slot.
    pub(super) picks: Vec<Pick>,
}

/// A partition's next batch.
pub(super) struct Pick {
    pub(super) slot: Slot,
    /// Whether it was sent before.
    pub(super) again: bool,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: i32,
}

/// What a look at all partitions found.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) offers: BTreeMap<BrokerId, Offer>,
    /// Topics whose metadata name no leader for what waits.
    pub(super) leaderless: BTreeSet<Arc<str>>,
    /// When to look again, though nothing happens.
    pub(super) wake_at: Option<Instant>,
}

/// What there is to look at.
pub(super) struct Planner<'a> {
    pub(super) accumulator: &'a Accumulator,
    pub(super) cluster: &'a Cluster,
    pub(super) lanes: &'a BTreeMap<Slot, Lane<Built>>,
    /// Lanes in which a batch must be sent again.
    pub(super) failed: &'a BTreeSet<Slot>,
    pub(super) refreshing: &'a BTreeSet<Arc<str>>,
    /// Whether no batch lingers.
    pub(super) hurry: bool,
    pub(super) now: Instant,
}

impl Plan {
    /// Looks again then, at the latest.
    pub(super) fn wake_at(&mut self, then: Instant) {
        self.wake_at = Some(self.wake_at.map_or(then, |other| other.min(then)));
    }
}

impl Planner<'_> {
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let slots = self.accumulator.waiting().union(self.failed);
        // Slots of one topic mostly follow one another.
        let mut seen: Option<(Arc<str>, Option<Arc<TopicView>>)> = None;
        for slot in slots.copied() {
            let (topic, _) = self.accumulator.place(slot);
            if seen.as_ref().is_none_or(|(name, _)| name != topic) {
                seen = Some((topic.clone(), self.cluster.seen_topic(topic)));
            }
            let view = seen.as_ref().and_then(|(_, view)| view.as_deref());
            self.look_at(slot, view, &mut plan);
        }
        plan
    }

    fn look_at(&self, slot: Slot, view: Option<&TopicView>, plan: &mut Plan) {
        let (topic, partition) = self.accumulator.place(slot);
        let lane = self.lanes.get(&slot);
        let turn = lane.map_or(Turn::New, Lane::turn);
        // What is in flight has an end of its own; only then a late batch can be given up.
        let expiry = lane
            .filter(|_| turn == Turn::Again)
            .and_then(Lane::deadline);
        let deadlines = [self.accumulator.deadline(slot), expiry];
        for deadline in deadlines.into_iter().flatten() {
            plan.wake_at(deadline);
        }
        let again = match turn {
            Turn::Wait => return,
            // What failed is worth another try only with fresh metadata.
            Turn::Again if self.refreshing.contains(topic) => return,
            Turn::Again => true,
            Turn::New => false,
        };
        let found = view.and_then(|view| {
            let mut partitions = view.partitions.iter();
            let found = partitions.find(|p| p.index == partition)?;
            Some((found.leader?, view.id))
        });
        let Some((leader, topic_id)) = found else {
            plan.leaderless.insert(topic.clone());
            return;
        };
        let readiness = match again {
            true => Readiness::Ready,
            false => self.accumulator.readiness(slot, self.now, self.hurry),
        };
        match readiness {
            Readiness::Empty => return,
            Readiness::Ready => plan.offers.entry(leader).or_default().is_due = true,
            Readiness::At(then) => plan.wake_at(then),
        }
        plan.offers.entry(leader).or_default().picks.push(Pick {
            slot,
            again,
            topic: topic.clone(),
            topic_id,
            partition,
        });
    }
}

/// As many picks as one request takes, from the slot `first` on.
pub(super) fn choose(mut picks: Vec<Pick>, first: Slot, accumulator: &Accumulator) -> Vec<Pick> {
    let place = picks.partition_point(|pick| pick.slot < first);
    picks.rotate_left(place);
    let mut bytes = 0;
    let mut count = 0;
    for pick in &picks {
        bytes += accumulator.head_bytes(pick.slot);
        if count > 0 && bytes > MAX_REQUEST_BYTES {
            break;
        }
        count += 1;
    }
    picks.truncate(count);
    picks
}
