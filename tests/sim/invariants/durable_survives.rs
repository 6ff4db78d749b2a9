//! What a broker calls durable is on its disk after the power failed.

use std::path::Path;

use millrace_host::Disk;
use millrace_server::node::Node;

use super::replicas_are_identical::segments;
use crate::workload::TOPICS;

/// Partitions and the offset below which everything is durable.
pub type Expected = Vec<(String, i64)>;

/// What a running broker calls durable at this moment.
pub fn expect(node: &Node) -> Expected {
    let logs = node.broker().store.logs();
    let of_workload = logs.iter().filter(|log| {
        let mut topics = TOPICS.iter();
        topics.any(|topic| topic.name == log.topic().as_str())
    });
    of_workload
        .map(|log| {
            let name = format!("{}-{}", log.topic(), log.id().index);
            (name, log.bounds().durable_end.get())
        })
        .collect()
}

/// What of it is not there after a crash.
pub fn lost(disk: &dyn Disk, expected: &Expected) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, durable_end) in expected.iter().filter(|(_, end)| *end > 0) {
        let found = match segments(disk, name) {
            Ok(segments) => segments
                .iter()
                .fold(first_offset(disk, name), |end, bytes| log_end(bytes, end)),
            Err(error) => {
                findings.push(format!("{name}: {error}"));
                continue;
            }
        };
        if found < *durable_end {
            findings.push(format!(
                "{name} was durable up to {durable_end}, and after the power failed it ends at \
                 {found}"
            ));
        }
    }
    findings
}

/// The offset that the first segment is named after.
fn first_offset(disk: &dyn Disk, partition: &str) -> i64 {
    let entries = disk.list(&Path::new("/data").join(partition));
    let entries = entries.unwrap_or_default();
    let names = entries.iter().filter_map(|e| e.name.strip_suffix(".log"));
    names
        .filter_map(|name| name.parse().ok())
        .min()
        .unwrap_or(0)
}

/// Where the whole batches of a segment end that follow on `end`.
fn log_end(bytes: &[u8], mut end: i64) -> i64 {
    let mut at = 0;
    // Base offset, length, ..., magic, ..., last offset delta: 27 bytes.
    while let Some(header) = bytes.get(at..at + 27) {
        let int = |from: usize| {
            i32::from_be_bytes(header[from..from + 4].try_into().expect("four bytes"))
        };
        let base = i64::from_be_bytes(header[..8].try_into().expect("eight bytes"));
        let length = usize::try_from(int(8)).unwrap_or(0);
        if base != end || length < 49 || bytes.len() < at + 12 + length {
            break;
        }
        end = base + i64::from(int(23)) + 1;
        at += 12 + length;
    }
    end
}
