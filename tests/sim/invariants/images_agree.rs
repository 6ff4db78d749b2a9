//! Metadata of one version is the same on every broker, and never goes back on one.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_metadata::Image;
use millrace_model::{ImageVersion, Incarnation};

use super::{Invariant, View};

/// Versions that are remembered: brokers that are farther behind are not compared.
const REMEMBERED: usize = 2000;

/// What was seen of each version.
#[derive(Default)]
pub struct Check {
    known: BTreeMap<ImageVersion, Arc<Image>>,
    last: BTreeMap<(i32, Incarnation), ImageVersion>,
}

impl Invariant for Check {
    fn watch(&mut self, view: &View) -> Vec<String> {
        let mut findings = Vec::new();
        for broker in &view.brokers {
            let version = broker.image.version();
            let of = (broker.id, broker.node.incarnation);
            match self.last.insert(of, version) {
                Some(before) if before == version => continue,
                Some(before) if before > version => findings.push(format!(
                    "broker {} went back from image {before} to {version}",
                    broker.id
                )),
                _ => {}
            }
            let known = self
                .known
                .entry(version)
                .or_insert_with(|| broker.image.clone());
            if **known != *broker.image {
                findings.push(format!(
                    "image {version} of broker {} is not what another broker has",
                    broker.id
                ));
            }
        }
        while self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
        findings
    }
}
