//! The invariants of an image, all in one place.
//!
//! Those of a partition or broker are checked whenever a batch touches it, in every build; the
//! whole image after every batch in debug builds.

use millrace_model::{BrokerId, PartitionId};

use super::{Image, index};
use crate::partition::Partition;

impl Image {
    /// Checks every invariant.
    ///
    /// # Errors
    /// The first that does not hold, in words.
    pub fn validate(&self) -> Result<(), String> {
        for broker in self.brokers.values() {
            self.check_broker(broker.id)?;
        }
        for (id, partition) in self.partitions() {
            self.check_partition(id, partition)?;
        }
        self.check_topics()?;
        self.check_index()
    }

    pub(super) fn check_broker(&self, id: BrokerId) -> Result<(), String> {
        let serving = self.broker(id).is_some_and(|b| !b.fenced);
        let leaders = self.load(id).leaders;
        if !serving && leaders > 0 {
            return Err(format!(
                "broker {id} is fenced or gone, but leads {leaders} partitions"
            ));
        }
        match self.broker(id) {
            Some(broker) if broker.epoch > self.last_broker_epoch => Err(format!(
                "broker {id} has epoch {}, which was never given",
                broker.epoch
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn check_partition(&self, id: PartitionId, p: &Partition) -> Result<(), String> {
        let rule = |holds: bool, rule: &str| {
            if holds {
                return Ok(());
            }
            Err(format!("partition {id}: {rule}: {p:?}"))
        };
        rule(!p.replicas.is_empty(), "it has replicas")?;
        rule(distinct(&p.replicas), "its replicas are distinct")?;
        rule(
            p.directories.len() == p.replicas.len(),
            "each replica has a directory",
        )?;
        let held = |brokers: &[BrokerId]| brokers.iter().all(|b| p.replicas.contains(b));
        rule(
            distinct(&p.isr) && held(&p.isr),
            "its ISR is a set of replicas",
        )?;
        rule(
            distinct(&p.elr) && held(&p.elr),
            "its ELR is a set of replicas",
        )?;
        rule(
            distinct(&p.adding) && distinct(&p.removing) && held(&p.adding) && held(&p.removing),
            "it adds and removes replicas",
        )?;
        let stays = |b: &BrokerId| !p.removing.contains(b);
        rule(p.replicas.iter().any(stays), "it does not remove them all")?;
        let apart = |a: &[BrokerId], b: &[BrokerId]| !a.iter().any(|x| b.contains(x));
        rule(apart(&p.isr, &p.elr), "ISR and ELR are disjoint")?;
        let min_insync = self.min_insync(self.topic_name(id), p);
        rule(
            p.elr.is_empty() || p.isr.len() < min_insync,
            "an ISR of min.insync.replicas has no ELR beside it",
        )?;
        let fenced = |b: &BrokerId| self.broker(*b).is_none_or(|b| b.fenced);
        rule(
            p.isr.len() < 2 || !p.isr.iter().any(fenced),
            "a fenced broker is in no ISR but as its last member",
        )?;
        let Some(leader) = p.leader else {
            return Ok(());
        };
        rule(p.isr.contains(&leader), "the leader is in sync")?;
        rule(!fenced(&leader), "the leader is not fenced")?;
        rule(self.serves(leader, p), "the leader's directory is online")
    }

    /// Whether `broker` has its replica of `partition` at hand.
    pub(crate) fn serves(&self, broker: BrokerId, partition: &Partition) -> bool {
        match (self.broker(broker), partition.directory(broker)) {
            (Some(broker), Some(directory)) => broker.has_online(directory),
            _ => false,
        }
    }

    /// Whether `broker` has room for its replica of `partition` to grow.
    pub(crate) fn has_room(&self, broker: BrokerId, partition: &Partition) -> bool {
        match (self.broker(broker), partition.directory(broker)) {
            (Some(broker), Some(directory)) => broker.has_room(directory),
            _ => false,
        }
    }

    /// Whether nobody has to wait long for the replica of `partition` that `broker` has.
    pub(crate) fn is_quick(&self, broker: BrokerId, partition: &Partition) -> bool {
        match (self.broker(broker), partition.directory(broker)) {
            (Some(broker), Some(directory)) => broker.is_quick(directory),
            _ => false,
        }
    }

    fn check_topics(&self) -> Result<(), String> {
        if self.topics.len() != self.topics_by_name.len() {
            return Err("names and topics are not as many".to_owned());
        }
        let mut partitions = 0;
        for topic in self.topics.values() {
            if self.topics_by_name.get(&topic.name) != Some(&topic.id) {
                return Err(format!("topic {} is not found by its name", topic.name));
            }
            let numbers = self.partitions_of(topic.id).map(|(id, _)| id.index);
            if !numbers.eq(0..topic.partitions) {
                return Err(format!("topic {} has not partitions from 0 on", topic.name));
            }
            partitions += usize::try_from(topic.partitions).unwrap_or(0);
        }
        if partitions != self.partitions.len() {
            return Err("a partition has no topic".to_owned());
        }
        Ok(())
    }

    fn check_index(&self) -> Result<(), String> {
        let mut fresh = index::Index::default();
        for topic in self.topics.values() {
            fresh.add_topic(&topic.name);
        }
        for (id, partition) in self.partitions() {
            fresh.change(id, None, Some(partition));
        }
        if fresh == self.index {
            return Ok(());
        }
        Err("the index does not tell what the partitions do".to_owned())
    }
}

fn distinct(brokers: &[BrokerId]) -> bool {
    let rest = |place: usize| &brokers[place + 1..];
    let mut places = brokers.iter().enumerate();
    places.all(|(place, broker)| !rest(place).contains(broker))
}
