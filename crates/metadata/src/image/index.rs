//! What can be told from the partitions, kept so that nobody has to go through all of them.

use imbl::{OrdMap, OrdSet};
use millrace_model::{BrokerId, PartitionId, TopicId, TopicName, Uuid};

use super::PartitionSet;
use crate::partition::Partition;

/// What a broker carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Replicas it holds.
    pub replicas: usize,
    /// Partitions it leads.
    pub leaders: usize,
    /// Partitions it should lead when all is well.
    pub preferred: usize,
    /// Partitions that it should lead, but another does, or nobody.
    pub missed: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    hosted: OrdSet<(BrokerId, PartitionId)>,
    pub leaderless: PartitionSet,
    pub reassigning: PartitionSet,
    pub loads: OrdMap<BrokerId, Load>,
    /// Topics whose names hold a dot or an underscore, by the form in which they collide.
    collisions: OrdMap<String, OrdSet<TopicName>>,
}

impl Index {
    pub fn hosted_by(&self, broker: BrokerId) -> impl Iterator<Item = PartitionId> {
        let at = |id: [u8; 16], index| {
            let topic = TopicId(Uuid(id));
            (broker, PartitionId { topic, index })
        };
        let all = at([0; 16], i32::MIN)..=at([0xff; 16], i32::MAX);
        self.hosted.range(all).map(|(_, id)| *id)
    }

    pub fn colliding(&self, name: &TopicName) -> Option<&TopicName> {
        self.collisions.get(&name.collision_key())?.get_min()
    }

    pub fn add_topic(&mut self, name: &TopicName) {
        if may_collide(name) {
            let names = self.collisions.entry(name.collision_key()).or_default();
            names.insert(name.clone());
        }
    }

    pub fn remove_topic(&mut self, name: &TopicName) {
        let key = name.collision_key();
        if let Some(names) = self.collisions.get_mut(&key) {
            names.remove(name);
            if names.is_empty() {
                self.collisions.remove(&key);
            }
        }
    }

    /// Takes note that `id` was `old` and is `new`.
    pub fn change(&mut self, id: PartitionId, old: Option<&Partition>, new: Option<&Partition>) {
        let replicas = |p: Option<&Partition>| p.map_or(&[][..], |p| &p.replicas).to_vec();
        if replicas(old) != replicas(new) {
            for broker in replicas(old) {
                self.hosted.remove(&(broker, id));
            }
            for broker in replicas(new) {
                self.hosted.insert((broker, id));
            }
        }
        member(
            &mut self.leaderless,
            id,
            new.is_some_and(|p| p.leader.is_none()),
        );
        member(
            &mut self.reassigning,
            id,
            new.is_some_and(Partition::is_reassigning),
        );
        let loads = |p: Option<&Partition>| p.map(|p| (p.replicas.clone(), p.leader));
        if loads(old) != loads(new) {
            old.into_iter().for_each(|p| self.weigh(p, |n| *n -= 1));
            new.into_iter().for_each(|p| self.weigh(p, |n| *n += 1));
        }
    }

    fn weigh(&mut self, partition: &Partition, step: impl Fn(&mut usize)) {
        for broker in &partition.replicas {
            step(&mut self.loads.entry(*broker).or_default().replicas);
        }
        if let Some(leader) = partition.leader {
            step(&mut self.loads.entry(leader).or_default().leaders);
        }
        if let Some(preferred) = partition.preferred_leader() {
            let load = self.loads.entry(preferred).or_default();
            step(&mut load.preferred);
            if partition.leader != Some(preferred) {
                step(&mut load.missed);
            }
        }
        let touched = partition.replicas.iter().chain(&partition.leader);
        for broker in touched {
            if self.loads.get(broker) == Some(&Load::default()) {
                self.loads.remove(broker);
            }
        }
    }
}

fn may_collide(name: &TopicName) -> bool {
    name.as_str().contains(['.', '_'])
}

fn member(set: &mut PartitionSet, id: PartitionId, belongs: bool) {
    if belongs {
        set.insert(id);
    } else if set.contains(&id) {
        set.remove(&id);
    }
}
