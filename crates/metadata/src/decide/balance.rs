//! Automatic return of leaderships to the preferred leaders (`auto.leader.rebalance.enable`).

use millrace_model::{BrokerId, PartitionId};

use super::change::Election;
use super::{Change, Decision, Draft};
use crate::image::Image;
use crate::record::Record;

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
        let missed = image.hosted_by(broker).filter(|(_, partition)| {
            partition.preferred_leader() == Some(broker) && partition.leader != Some(broker)
        });
        let elections = missed.filter_map(|(id, _)| prefer(image, id, broker));
        records.extend(elections.take(MAX_ELECTIONS_AT_ONCE - records.len()));
    }
    let more = records.len() == MAX_ELECTIONS_AT_ONCE;
    draft.extend(records);
    draft.finish(more)
}

/// The election of `broker`, if it can lead.
fn prefer(image: &Image, id: PartitionId, broker: BrokerId) -> Option<Record> {
    let mut change = Change::of(image, id);
    change.elect(Election::Preferred);
    let change = change.settle()?;
    (change.leader == Some(Some(broker))).then_some(Record::PartitionChange(change))
}
