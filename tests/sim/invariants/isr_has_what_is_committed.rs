//! Every member of the ISR has, durably, everything below any leader's high watermark.

use millrace_replication::Role;

use super::{Invariant, View};

/// The check.
pub struct Check;

impl Invariant for Check {
    fn watch(&mut self, view: &View) -> Vec<String> {
        let mut findings = Vec::new();
        let Some(image) = view.newest() else {
            return findings;
        };
        for leader in &view.brokers {
            for (id, state) in &leader.replicas {
                let Role::Leader { serving: true } = state.role else {
                    continue;
                };
                let Some(partition) = image.partition(*id) else {
                    continue;
                };
                for member in &view.brokers {
                    let registered = image.broker(millrace_model::BrokerId(member.id));
                    let is_this_process =
                        registered.is_some_and(|it| it.incarnation == member.node.incarnation);
                    let counts = partition.isr.iter().any(|broker| broker.get() == member.id);
                    if !counts || !is_this_process || member.damaged {
                        continue;
                    }
                    let replica = member.node.broker().replicas.get(*id);
                    let log = replica.and_then(|replica| replica.open_log().cloned());
                    let Some(bounds) = log.map(|log| log.bounds()) else {
                        continue;
                    };
                    if bounds.durable_end < state.high_watermark {
                        findings.push(format!(
                            "{id}: broker {} led in epoch {} with high watermark {}, and broker \
                             {} of the ISR has {} durably (its log ends at {})",
                            leader.id,
                            state.leader_epoch,
                            state.high_watermark,
                            member.id,
                            bounds.durable_end,
                            bounds.log_end,
                        ));
                    }
                }
            }
        }
        findings
    }
}
