//! Unfencing: a broker serves, and leads what waited for it.

use millrace_model::{BrokerId, PartitionId};

use super::Draft;
use crate::record::Record;

impl Draft {
    /// Unfences a registered broker and elects it where nobody else could lead.
    pub(super) fn unfence(&mut self, id: BrokerId) {
        let broker = self
            .image
            .broker(id)
            .expect("who is unfenced is registered");
        let epoch = broker.epoch;
        self.push(Record::UnfenceBroker { id, epoch });
        self.elect_leaderless(id);
    }

    /// Elects leaders for the partitions without one of which this broker holds a replica.
    pub(super) fn elect_leaderless(&mut self, id: BrokerId) {
        let waiting = self.image.leaderless();
        let waiting = waiting.filter(|(_, partition)| partition.replicas.contains(&id));
        let waiting: Vec<PartitionId> = waiting.map(|(partition, _)| partition).collect();
        self.change_each(waiting, |_| ());
    }
}
