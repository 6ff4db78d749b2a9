//! Fencing: brokers whose sessions are over leave the ISRs and lead nothing any more (rule 12).

use millrace_model::{BrokerId, PartitionId};

use super::{Decision, Draft};
use crate::image::Image;
use crate::record::Record;

/// Fences those of `brokers` that are registered and not fenced, one after the other, each with the
/// elections that it causes; replies whom.
pub fn fence(image: &Image, brokers: &[BrokerId]) -> Decision<Vec<BrokerId>> {
    let mut draft = Draft::of(image);
    let mut fenced = Vec::new();
    for id in brokers {
        if draft.image.broker(*id).is_some_and(|b| !b.fenced) {
            draft.fence(*id);
            fenced.push(*id);
        }
    }
    draft.finish(fenced)
}

impl Draft {
    /// Fences a registered broker.
    pub(super) fn fence(&mut self, id: BrokerId) {
        let broker = self.image.broker(id).expect("who is fenced is registered");
        let epoch = broker.epoch;
        self.push(Record::FenceBroker { id, epoch });
        self.change_each(self.in_sync_with(id), |change| change.without(id));
    }

    /// The partitions whose ISR holds this broker.
    pub(super) fn in_sync_with(&self, id: BrokerId) -> Vec<PartitionId> {
        let hosted = self.image.hosted_by(id);
        let in_sync = hosted.filter(|(_, partition)| partition.isr.contains(&id));
        in_sync.map(|(partition, _)| partition).collect()
    }
}
