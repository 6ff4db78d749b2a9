//! What lies in the partition directories: the same bytes everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::admin::NodeId;
use crate::cluster::Cluster;

/// Offset, length and leader epoch of one batch, and the checksum of all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    base_offset: i64,
    length: usize,
    leader_epoch: i32,
    sum: u32,
}

/// Compares the `.log` files of all replicas of a topic, batch by batch, over the offsets that
/// they share, and wants them to end alike.
///
/// Returns a line for each difference. Call it when nothing writes any more and every replica is
/// in sync.
pub fn differences(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let partitions = cluster.admin().partitions(topic).unwrap_or_default();
    if partitions.is_empty() {
        findings.push(format!("{topic} has no partitions to compare"));
    }
    for partition in partitions {
        let name = format!("{topic}-{}", partition.index);
        let replicas: Vec<(NodeId, Result<Vec<Batch>, String>)> = partition
            .replicas
            .iter()
            .map(|node| (*node, batches(&cluster.node(*node).partition(&name))))
            .collect();
        findings.extend(compare(&name, &replicas));
    }
    findings
}

/// The same over logs that were read already: node, and the bytes of its segments in order.
pub fn differences_between(name: &str, replicas: &[(NodeId, Vec<Vec<u8>>)]) -> Vec<String> {
    let replicas: Vec<(NodeId, Result<Vec<Batch>, String>)> = replicas
        .iter()
        .map(|(node, segments)| {
            let batches = segments.iter().flat_map(|bytes| batches_of(bytes));
            (*node, Ok(batches.collect()))
        })
        .collect();
    compare(name, &replicas)
}

fn compare(name: &str, replicas: &[(NodeId, Result<Vec<Batch>, String>)]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut logs: Vec<(NodeId, BTreeMap<i64, Batch>)> = Vec::new();
    for (node, batches) in replicas {
        match batches {
            Ok(batches) => {
                let by_offset = batches.iter().map(|batch| (batch.base_offset, *batch));
                logs.push((*node, by_offset.collect()));
            }
            Err(why) => findings.push(format!("{name} on node {node}: {why}")),
        }
    }
    let Some(((first, model), others)) = logs.split_first() else {
        return findings;
    };
    for (node, log) in others {
        // A replica that was wiped or that dropped old segments begins later.
        let from = [model, log].map(|log| log.keys().next().copied().unwrap_or(0));
        let from = from[0].max(from[1]);
        let tail =
            |log: &BTreeMap<i64, Batch>| log.range(from..).map(|(_, b)| *b).collect::<Vec<_>>();
        let [ours, theirs] = [tail(model), tail(log)];
        if ours != theirs {
            let at = ours
                .iter()
                .zip(&theirs)
                .position(|(one, other)| one != other);
            let at = at.unwrap_or_else(|| ours.len().min(theirs.len()));
            findings.push(format!(
                "{name}: node {first} has {:?} where node {node} has {:?} (batch {at} of {} and {})",
                ours.get(at),
                theirs.get(at),
                ours.len(),
                theirs.len()
            ));
        }
    }
    findings
}

/// The batches of all segments of one partition directory.
fn batches(folder: &Path) -> Result<Vec<Batch>, String> {
    let mut segments: Vec<_> = fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let mut batches = Vec::new();
    for segment in segments {
        let bytes =
            fs::read(&segment).map_err(|error| format!("{}: {error}", segment.display()))?;
        batches.extend(batches_of(&bytes));
    }
    Ok(batches)
}

/// Whole batches up to the first place that holds none (a preallocated or torn tail).
fn batches_of(bytes: &[u8]) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 17) {
        let base_offset = i64::from_be_bytes(array(&header[0..8]));
        let length = 12 + i32::from_be_bytes(array(&header[8..12])).max(0) as usize;
        let leader_epoch = i32::from_be_bytes(array(&header[12..16]));
        let Some(batch) = bytes.get(at..at + length).filter(|_| length > 17) else {
            break;
        };
        batches.push(Batch {
            base_offset,
            length,
            leader_epoch,
            sum: crc32c::crc32c(batch),
        });
        at += length;
    }
    batches
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice has this length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64, epoch: i32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = base_offset.to_be_bytes().to_vec();
        bytes.extend((payload.len() as i32 + 5).to_be_bytes());
        bytes.extend(epoch.to_be_bytes());
        bytes.push(2);
        bytes.extend(payload);
        bytes
    }

    fn check(one: &[u8], other: &[u8]) -> usize {
        let replicas = [(1, Ok(batches_of(one))), (2, Ok(batches_of(other)))];
        compare("t-0", &replicas).len()
    }

    #[test]
    fn equal_logs_are_equal() {
        let log = [batch(0, 1, b"one"), batch(1, 2, b"two")].concat();
        assert_eq!(batches_of(&log).len(), 2);
        assert_eq!(check(&log, &log), 0);
    }

    #[test]
    fn a_log_that_begins_later_is_compared_from_there() {
        let log = [batch(0, 1, b"one"), batch(1, 2, b"two")].concat();
        assert_eq!(check(&log, &batch(1, 2, b"two")), 0);
    }

    #[test]
    fn another_byte_epoch_or_end_is_found() {
        let log = [batch(0, 1, b"one"), batch(1, 2, b"two")].concat();
        assert_eq!(
            check(&log, &[batch(0, 1, b"one"), batch(1, 2, b"twa")].concat()),
            1
        );
        assert_eq!(
            check(&log, &[batch(0, 1, b"one"), batch(1, 3, b"two")].concat()),
            1
        );
        assert_eq!(check(&log, &batch(0, 1, b"one")), 1);
    }
}
