//! Memory and queues stay within what the settings and the limits allow.

use super::{Invariant, View};

/// Connections of a handful of brokers and clients: a broker has a few to each other one, a client
/// one to each broker; those that are cut or half open come on top.
const CONNECTIONS: usize = 600;

/// The check.
pub struct Check;

impl Invariant for Check {
    fn watch(&mut self, view: &View) -> Vec<String> {
        let mut findings = Vec::new();
        if view.connections > CONNECTIONS {
            findings.push(format!("there are {} connections", view.connections));
        }
        for broker in &view.brokers {
            let config = broker.node.config();
            let store = &broker.node.broker().store;
            let (tails, files) = (store.tail_bytes(), store.open_files());
            if tails as u64 > config.tail_bytes {
                findings.push(format!(
                    "broker {} holds {tails} bytes of tails, and may hold {}",
                    broker.id, config.tail_bytes
                ));
            }
            if files > config.open_files {
                findings.push(format!(
                    "broker {} has {files} files open, and may have {}",
                    broker.id, config.open_files
                ));
            }
        }
        findings
    }
}
