//! In one leader epoch of a partition one broker leads, whoever is asked, for ever.

use std::collections::BTreeMap;

use millrace_model::PartitionId;
use millrace_replication::Role;

use super::{Invariant, View};

/// Who led in which epoch.
#[derive(Default)]
pub struct Check(BTreeMap<(PartitionId, i32), i32>);

impl Invariant for Check {
    fn watch(&mut self, view: &View) -> Vec<String> {
        let mut findings = Vec::new();
        for broker in &view.brokers {
            let leading = broker.replicas.iter().filter_map(|(id, state)| {
                let leads = matches!(state.role, Role::Leader { .. });
                leads.then_some((*id, state.leader_epoch.get(), broker.id))
            });
            let known = broker.image.partitions().filter_map(|(id, partition)| {
                Some((id, partition.leader_epoch.get(), partition.leader?.get()))
            });
            for (id, epoch, leader) in leading.chain(known) {
                let first = *self.0.entry((id, epoch)).or_insert(leader);
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
