//! Bytes of a node's metadata log change on its disk: it refuses that file or heals from the
//! others, and never takes it for the deletion of a topic. (R27)

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

/// The files of the metadata log, longest first.
fn metadata_files(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let names = ["__millrace_metadata", "__cluster_metadata-0"];
    let mut folders: Vec<PathBuf> = names.map(|name| data.join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    let length = |file: &PathBuf| file.metadata().map_or(0, |of| of.len());
    files.sort_by_key(|file| std::cmp::Reverse(length(file)));
    files
}

#[test]
fn metadata_file_corrupted() {
    let mut run = Run::start(
        "metadata corrupted",
        &Options::three(),
        &Workload::default(),
    );
    let (victim, _) = run.leader_and_controller();
    run.strike(victim, Cluster::kill);
    let files = metadata_files(run.cluster.node(victim).data());
    let file = files.first().expect("the node has a metadata log");
    let mut bytes = fs::read(file).expect("the file is there");
    // Kafka preallocates; the damage must lie where records are.
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("it holds something");
    for byte in &mut bytes[used / 2..used / 2 + 8] {
        *byte ^= 0x55;
    }
    fs::write(file, bytes).expect("the file can be written");
    run.cluster.node_mut(victim).start();
    run.wait_progress(MINUTE);
    // Either it is back by itself, or it said no and ended; then a new disk helps.
    let ended = run
        .cluster
        .node_mut(victim)
        .wait_ended(Duration::from_secs(3));
    if ended.is_some() {
        let said = run.cluster.node(victim).output();
        assert!(
            !said.contains("panicked"),
            "it should refuse in words:\n{said}"
        );
        run.cluster.node_mut(victim).kill_if_running();
        run.cluster.restart_wiped(victim);
    } else {
        run.cluster.wait_started(victim);
    }
    run.cluster.wait_in_sync(TOPIC, MINUTE);
    run.finish().expect_sound();
}
