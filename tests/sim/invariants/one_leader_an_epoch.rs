//! In one leader epoch of a partition one broker leads, whoever is asked, for ever.

use std::collections::BTreeMap;

use millrace_model::{ImageVersion, Incarnation, PartitionId};
use millrace_replication::Role;

use super::{Invariant, View};

/// The check.
#[derive(Default)]
pub struct Check {
    /// Who led in which epoch.
    led: BTreeMap<(PartitionId, i32), i32>,
    /// The metadata of each broker that has been looked at.
    seen: BTreeMap<i32, (Incarnation, ImageVersion)>,
}

impl Invariant for Check {
    fn watch(&mut self, view: &View) -> Vec<String> {
        let mut findings = Vec::new();
        for broker in &view.brokers {
            let leading = broker.replicas.iter().filter_map(|(id, state)| {
                let leads = matches!(state.role, Role::Leader { .. });
                leads.then_some((*id, state.leader_epoch.get(), broker.id))
            });
            let version = (broker.node.incarnation, broker.image.version());
            let is_new = self.seen.insert(broker.id, version) != Some(version);
            let image = is_new.then_some(&broker.image).into_iter();
            let known = image.flat_map(|image| image.partitions());
            let known = known.filter_map(|(id, partition)| {
                Some((id, partition.leader_epoch.get(), partition.leader?.get()))
            });
            for (id, epoch, leader) in leading.chain(known) {
                let first = *self.led.entry((id, epoch)).or_insert(leader);
                if first != leader {
                    findings.push(format!(
                        "{id} has two leaders in epoch {epoch}: {first} and {leader}"
                    ));
                }
            }
        }
        findings
    }
}
