//! When nothing is written any more, all replicas of a partition hold the same bytes.

use std::path::Path;

use millrace_host::Disk;
use millrace_host::disk::read_file;
use millrace_testkit::replicas::differences_between;

use super::Invariant;
use crate::book::Book;
use crate::cluster::Cluster;
use crate::workload::TOPICS;

/// More than a segment ever has.
const SEGMENT_LIMIT: u64 = 2 << 30;

/// The check.
pub struct Check;

impl Invariant for Check {
    fn judge(&mut self, cluster: &Cluster, _: &Book) -> Vec<String> {
        let mut findings = Vec::new();
        for topic in TOPICS {
            for partition in 0..topic.partitions {
                let name = format!("{}-{partition}", topic.name);
                let mut replicas = Vec::new();
                for broker in &cluster.brokers {
                    match segments(&*broker.machine.disk.mount(), &name) {
                        Ok(segments) => replicas.push((broker.id, segments)),
                        Err(error) => {
                            findings.push(format!("{name} on broker {}: {error}", broker.id));
                        }
                    }
                }
                findings.extend(differences_between(&name, &replicas));
            }
        }
        findings
    }
}

/// The bytes of a partition's segments, in their order.
pub fn segments(disk: &dyn Disk, partition: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let folder = Path::new("/data").join(partition);
    let entries = disk.list(&folder)?.into_iter();
    let logs = entries.filter(|entry| entry.name.ends_with(".log"));
    logs.map(|entry| read_file(disk, &folder.join(entry.name), SEGMENT_LIMIT))
        .collect()
}
