//! A group of the classic protocol: its members agree on an assignment that one of them, the leader,
//! computes (Kafka class `ClassicGroup`).
//!
//! The log has the last generation that got an assignment, [`Recorded`]. What goes on between two
//! such records is soft, [`Live`]: who has joined, who waits, what has been chosen. A rebalance that
//! a leader's death interrupts starts anew from the recorded generation.

mod live;
mod member;
mod phase;
mod rebalance;
mod subscription;

use crate::wire::{GroupMetadataKey, GroupMetadataValue};
use millrace_model::Timestamp;

use super::Record;
use super::state::{Replicated, Soft};

pub(crate) use live::{Live, sync_reply};
pub(crate) use member::{Member, Protocols};
pub(crate) use phase::{InitialDelay, Phase};
pub(crate) use rebalance::{
    complete_join, dismiss, initial_delay_over, live, maybe_complete_join,
    maybe_prepare_rebalance_or_complete_join, prepare_rebalance,
};
pub(crate) use subscription::subscribed_topics;

/// The protocol type of consumers, as opposed to Connect workers, schema registries and others.
pub(crate) const CONSUMER: &str = "consumer";

/// The group's newest record.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Recorded(pub GroupMetadataValue);

impl Recorded {
    /// A group that has committed offsets and has no other record: a simple group.
    pub fn simple() -> Recorded {
        Recorded(GroupMetadataValue {
            current_state_timestamp: -1,
            ..Default::default()
        })
    }

    /// What kind of members it has or had; `None` for a simple group.
    pub fn protocol_type(&self) -> Option<&str> {
        Some(self.0.protocol_type.as_str()).filter(|kind| !kind.is_empty())
    }

    /// The time of the change to the recorded state, where it is known.
    pub fn since(&self) -> Option<Timestamp> {
        let since = self.0.current_state_timestamp;
        (since != -1).then_some(Timestamp(since))
    }
}

/// A classic group as a reader sees it: what is under way, or else what the log has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    Live(&'a Live),
    Resting(&'a Recorded),
}

/// The classic group of this id; `None` if there is none, or if it is a consumer group.
pub(crate) fn seen<'a>(replicated: &'a Replicated, soft: &'a Soft, id: &str) -> Option<Seen<'a>> {
    if replicated.consumer(id).is_some() {
        return None;
    }
    match soft.classic(id) {
        Some(live) => Some(Seen::Live(live)),
        None => replicated.classic(id).map(Seen::Resting),
    }
}

impl<'a> Seen<'a> {
    /// Where it stands.
    pub fn phase(self) -> Phase {
        match self {
            Seen::Live(live) => live.phase,
            Seen::Resting(recorded) if recorded.0.members.is_empty() => Phase::Empty,
            Seen::Resting(_) => Phase::Stable,
        }
    }

    /// Whether it has no members.
    pub fn is_empty(self) -> bool {
        self.phase() == Phase::Empty
    }

    /// Whether it has no members and expects none.
    pub fn is_deserted(self) -> bool {
        let expects = matches!(self, Seen::Live(live) if !live.pending.is_empty());
        self.is_empty() && !expects
    }

    /// What kind of members it has or had.
    pub fn protocol_type(self) -> Option<&'a str> {
        match self {
            Seen::Live(live) => live.protocol_type.as_deref(),
            Seen::Resting(recorded) => recorded.protocol_type(),
        }
    }

    /// The newest generation.
    pub fn generation(self) -> i32 {
        match self {
            Seen::Live(live) => live.generation,
            Seen::Resting(recorded) => recorded.0.generation,
        }
    }

    /// Since when it is in its phase, where that is known.
    pub fn since(self) -> Option<Timestamp> {
        match self {
            Seen::Live(live) => live.since,
            Seen::Resting(recorded) => recorded.since(),
        }
    }

    /// Whether its members are consumers.
    pub fn is_of_consumers(self) -> bool {
        self.protocol_type() == Some(CONSUMER)
    }

    /// Whether a member subscribes to this topic. A group of consumers whose subscriptions cannot be
    /// read counts as subscribed to all.
    pub fn is_subscribed(self, topic: &str) -> bool {
        let subscribed = match self {
            Seen::Live(live) => live.subscribed.as_ref(),
            Seen::Resting(_) => return false,
        };
        match subscribed {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }
}

/// The record of a classic group.
pub(crate) fn record(group: &str, value: GroupMetadataValue) -> Record {
    Record::GroupMetadata(key(group), Some(value))
}

/// The record that ends a classic group.
pub(crate) fn tombstone(group: &str) -> Record {
    Record::GroupMetadata(key(group), None)
}

/// The record of a group that has been joined for the first time: it makes the group known before
/// it has a generation.
pub(crate) fn newborn(group: &str, now: Timestamp) -> Record {
    let value = GroupMetadataValue {
        protocol: None,
        leader: None,
        current_state_timestamp: now.get(),
        ..Default::default()
    };
    record(group, value)
}

fn key(group: &str) -> GroupMetadataKey {
    GroupMetadataKey {
        group: group.to_owned(),
    }
}
