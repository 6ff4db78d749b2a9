//! Consumer groups: what is committed never goes back or vanishes, whoever coordinates; in one
//! epoch no partition has two owners, as the members see it; and in the end every record of what a
//! group reads was read by one of its members at least once.

use std::collections::BTreeMap;

use super::Invariant;
use crate::book::{Book, GroupBook};
use crate::cluster::Cluster;
use crate::workload::GROUPS;

/// Findings that are told of one group.
const TOLD: usize = 5;

/// The check.
pub struct Check;

impl Invariant for Check {
    fn judge(&mut self, _: &Cluster, book: &Book) -> Vec<String> {
        let mut findings = Vec::new();
        for group in GROUPS {
            let Some(seen) = book.groups.get(group.name) else {
                findings.push(format!("{}: nobody was in it", group.name));
                continue;
            };
            let mut of_group = commits_that_went_back(seen);
            of_group.extend(owned_twice(seen));
            of_group.extend(never_read(seen, book, group.topic));
            let told = of_group.into_iter().take(TOLD);
            findings.extend(told.map(|what| format!("{}: {what}", group.name)));
        }
        findings
    }
}

fn commits_that_went_back(seen: &GroupBook) -> Vec<String> {
    let mut findings = Vec::new();
    let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
    for committed in &seen.committed {
        for (partition, before) in &newest {
            match committed.get(partition) {
                None => findings.push(format!("the commit of {partition} at {before} vanished")),
                Some(now) if now < before => findings.push(format!(
                    "the commit of {partition} went from {before} back to {now}"
                )),
                Some(_) => {}
            }
        }
        newest.clone_from(committed);
    }
    findings
}

fn owned_twice(seen: &GroupBook) -> Vec<String> {
    let several = seen.owners.iter().filter(|(_, owners)| owners.len() > 1);
    several
        .map(|((epoch, partition), owners)| {
            format!("in epoch {epoch} partition {partition} belongs to {owners:?}")
        })
        .collect()
}

fn never_read(seen: &GroupBook, book: &Book, topic: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let Some(topic) = book.topics.get(topic) else {
        return findings;
    };
    for (partition, log) in &topic.log {
        let read = seen.consumed.get(partition);
        let missed = log
            .iter()
            .filter(|(offset, _)| read.is_none_or(|read| !read.contains(offset)))
            .map(|(offset, _)| offset);
        let missed: Vec<_> = missed.collect();
        if let (Some(first), Some(last)) = (missed.first(), missed.last()) {
            findings.push(format!(
                "nobody read {} records of partition {partition}, from {first} to {last}",
                missed.len()
            ));
        }
    }
    findings
}
