//! Controlled shutdown: a broker hands over what it leads before it stops (KIP-500's `CONTROLLED
//! SHUTDOWN` state).

use millrace_model::{BrokerId, PartitionId};

use super::Draft;
use crate::image::Image;
use crate::partition::Partition;
use crate::record::Record;

impl Draft {
    /// Marks a broker as shutting down, if it is not yet, and takes it out of every ISR that has
    /// another member who can lead. Where it is the only one it leads on for now.
    pub(super) fn hand_over(&mut self, id: BrokerId) {
        let broker = self.image.broker(id).expect("who shuts down is registered");
        let epoch = broker.epoch;
        if !broker.shutting_down {
            self.push(Record::ShutDownBroker { id, epoch });
        }
        let another_can = |id: &PartitionId| {
            let partition = self.image.partition(*id).expect("the index tells so");
            let mut members = partition.isr.iter();
            members.any(|m| self.image.is_active(*m) && self.image.serves(*m, partition))
        };
        let ready: Vec<_> = self
            .in_sync_with(id)
            .into_iter()
            .filter(another_can)
            .collect();
        self.change_each(ready, |change| change.without(id));
    }
}

/// Whether a broker that shuts down leads a partition of which another live broker holds a replica:
/// that one may yet get in sync, and is waited for.
pub(super) fn has_to_wait(image: &Image, id: BrokerId) -> bool {
    let another = |partition: &Partition| {
        let mut others = partition.replicas.iter().filter(|r| **r != id);
        others.any(|other| image.is_active(*other))
    };
    image.load(id).leaders > 0
        && image
            .hosted_by(id)
            .any(|(_, partition)| partition.leader == Some(id) && another(partition))
}
