//! What clients saw: no acknowledged record is lost, an offset names one record for ever, each
//! producer's order is kept, an idempotent producer's record is there once, readers never see
//! something that is gone later or a high watermark that went back. Judged by the same code as
//! real clusters under chaos.

use millrace_testkit::history::{self, History};

use super::Invariant;
use crate::book::Book;
use crate::cluster::Cluster;
use crate::workload::TOPICS;

/// Violations that are told of one topic.
const TOLD: usize = 5;

/// The check.
pub struct Check;

impl Invariant for Check {
    fn judge(&mut self, _: &Cluster, book: &Book) -> Vec<String> {
        let mut findings = Vec::new();
        for topic in TOPICS {
            let Some(seen) = book.topics.get(topic.name) else {
                findings.push(format!("{}: nobody used it", topic.name));
                continue;
            };
            let mut violations = history::check(&seen.history(topic.promise));
            for watermarks in &seen.watermarks {
                violations.extend(history::check(&History {
                    watermarks: watermarks.clone(),
                    ..History::default()
                }));
            }
            let told = violations.iter().take(TOLD);
            findings.extend(told.map(|violation| format!("{}: {violation:?}", topic.name)));
            if violations.len() > TOLD {
                let more = violations.len() - TOLD;
                findings.push(format!("{}: and {more} more", topic.name));
            }
        }
        findings
    }
}
