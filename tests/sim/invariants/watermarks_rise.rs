//! Within a leadership the high watermark never goes back.

use std::collections::BTreeMap;

use millrace_model::{Incarnation, Offset, PartitionId};
use millrace_replication::Role;

use super::{Invariant, View};

/// The highest that each leadership has shown.
#[derive(Default)]
pub struct Check(BTreeMap<(PartitionId, i32, Incarnation), Offset>);

impl Invariant for Check {
    fn watch(&mut self, view: &View) -> Vec<String> {
        let mut findings = Vec::new();
        for broker in &view.brokers {
            for (id, state) in &broker.replicas {
                if !matches!(state.role, Role::Leader { .. }) {
                    continue;
                }
                let leadership = (*id, state.leader_epoch.get(), broker.node.incarnation);
                let highest = self.0.entry(leadership).or_insert(state.high_watermark);
                if state.high_watermark < *highest {
                    findings.push(format!(
                        "{id}: the high watermark of broker {} in epoch {} went from {highest} \
                         back to {}",
                        broker.id, state.leader_epoch, state.high_watermark
                    ));
                }
                *highest = state.high_watermark.max(*highest);
            }
        }
        findings
    }
}
