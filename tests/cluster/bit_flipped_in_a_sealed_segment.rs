//! One bit of a sealed segment changes on a follower's disk while it is down: it is never served as
//! if nothing had happened, and it makes nobody delete anything. (R26)

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::readers::read_back;
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

/// The first segment of partition 0, which must be sealed.
fn first_segment(data: &Path) -> PathBuf {
    let folder = data.join(format!("{TOPIC}-0"));
    let entries = fs::read_dir(&folder).expect("the partition lies here");
    let paths = entries.flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|is| is == "log"))
        .collect();
    logs.sort();
    assert!(logs.len() > 1, "no sealed segment yet: {logs:?}");
    logs.swap_remove(0)
}

#[test]
fn bit_flipped_in_a_sealed_segment() {
    let mut workload = Workload::default().with("segment.bytes", "1048576");
    workload.partitions = 2;
    workload.pace.value_bytes = 2_000;
    let mut run = Run::start("bit flipped", &Options::three(), &workload);
    while run.acked() < 3_000 {
        run.wait_progress(Duration::from_secs(60));
    }
    let leader = run.cluster.leader_of(TOPIC, 0);
    let victim = run.cluster.other_than(leader);
    run.strike(victim, Cluster::kill);
    let segment = first_segment(run.cluster.node(victim).data());
    let mut bytes = fs::read(&segment).expect("the segment is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&segment, &bytes).expect("it can be written");
    run.cluster.restart(victim);
    run.cluster.wait_in_sync(TOPIC, Duration::from_secs(60));
    // The damaged replica becomes the leader, if it dares to.
    run.cluster.stop(leader);
    run.wait_progress(Duration::from_secs(60));
    run.cluster.restart(leader);
    let ids = run.cluster.ids();
    let outcome = run.finish();
    // Damage on that disk is allowed to show when replicas are compared; damage, loss or a shift in
    // what clients read is not.
    let served: Vec<&String> = outcome
        .findings
        .iter()
        .filter(|finding| !finding.contains(" where node "))
        .collect();
    assert_eq!(served, Vec::<&String>::new());
    assert_eq!(outcome.violations, []);
    for id in ids {
        let address = format!("127.0.0.1:{}", outcome.cluster.node(id).client_port());
        let (_, corrupt) = read_back(&address, TOPIC, 2, Duration::from_secs(60));
        assert_eq!(corrupt, Vec::<String>::new());
    }
}
