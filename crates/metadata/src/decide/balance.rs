//! Automatic return of leaderships to the preferred leaders (`auto.leader.rebalance.enable`).

use std::time::Duration;

use millrace_model::{BrokerId, PartitionId};

use super::change::Election;
use super::{Change, Decision, Draft};
use crate::image::Image;
use crate::record::Record;
use crate::sessions::Sessions;

/// How many leaders move in one decision, so that a rebalance does not disturb everybody at once
/// (Kafka's `MAX_ELECTIONS_PER_IMBALANCE`).
pub const MAX_ELECTIONS_AT_ONCE: usize = 1000;

/// Elects preferred leaders for brokers that miss more than `imbalance_percentage` percent of the
/// leaderships that should be theirs. Replies whether there is more to do at once.
pub fn balance(image: &Image, imbalance_percentage: u32) -> Decision<bool> {
    let mut draft = Draft::of(image);
    let brokers: Vec<BrokerId> = image.brokers().map(|b| b.id).collect();
    let mut records: Vec<Record> = Vec::new();
    for broker in brokers.into_iter().filter(|b| image.is_active(*b)) {
        let load = image.load(broker);
        if load.missed * 100 <= load.preferred * imbalance_percentage as usize {
            continue;
        }
        records.extend(returns(image, broker).take(MAX_ELECTIONS_AT_ONCE - records.len()));
    }
    let more = records.len() == MAX_ELECTIONS_AT_ONCE;
    draft.extend(records);
    draft.finish(more)
}

/// The elections of `broker` where it should lead, does not, and can.
fn returns(image: &Image, broker: BrokerId) -> impl Iterator<Item = Record> {
    let missed = image.hosted_by(broker).filter(move |(_, partition)| {
        partition.preferred_leader() == Some(broker) && partition.leader != Some(broker)
    });
    missed.filter_map(move |(id, _)| prefer(image, id, broker))
}

/// Gives brokers that were short of space, and have had room again for a while, the leaderships
/// that should be theirs as soon as they are in sync; no percentage matters there.
pub fn bring_back(image: &Image, sessions: &mut Sessions, now: Duration) -> Decision<()> {
    let mut draft = Draft::of(image);
    let mut records: Vec<Record> = Vec::new();
    for broker in sessions.with_room_again(now) {
        if image.load(broker).missed == 0 {
            sessions.settled(broker);
        }
        records.extend(returns(image, broker).take(MAX_ELECTIONS_AT_ONCE - records.len()));
    }
    draft.extend(records);
    draft.finish(())
}

/// The election of `broker`, if it can lead.
fn prefer(image: &Image, id: PartitionId, broker: BrokerId) -> Option<Record> {
    let mut change = Change::of(image, id);
    change.elect(Election::Preferred);
    let change = change.settle()?;
    (change.leader == Some(Some(broker))).then_some(Record::PartitionChange(change))
}
