//! Replicas move between the log directories of their broker under load, also while that broker is
//! killed in the middle of it; nobody notices. (R22)

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_testkit::admin::{Admin, DirectoryState, NodeId};
use millrace_testkit::{Cluster, Options, wait};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

const ALL: [i32; 6] = [0, 1, 2, 3, 4, 5];

fn directory(cluster: &Cluster, id: NodeId, path: &Path) -> Result<DirectoryState, String> {
    let port = cluster.node(id).client_port();
    let states = Admin::directories(port).map_err(|error| error.to_string())?;
    let path = path.display().to_string();
    let found = states.into_iter().find(|state| state.path == path);
    found.ok_or_else(|| format!("{path} is not told of"))
}

fn begin(cluster: &Cluster, id: NodeId, path: &Path) {
    let port = cluster.node(id).client_port();
    let begun = Admin::move_replicas(port, path, TOPIC, &ALL).expect("the broker answers");
    assert_eq!(begun, [0; 6]);
}

/// Waits until all partitions are in this directory.
fn wait_moved(cluster: &Cluster, id: NodeId, path: &Path) {
    wait::until("the replicas to have moved", MINUTE, || {
        let state = directory(cluster, id, path)?;
        let of_topic = |name: &&String| name.starts_with(&format!("{TOPIC}-"));
        let there = state.partitions.iter().filter(of_topic).count();
        match there == ALL.len() && state.futures.is_empty() {
            true => Ok(()),
            false => Err(format!("{state:?}")),
        }
    });
}

#[test]
fn replicas_moved_between_directories() {
    let folder = tempfile::tempdir().expect("a directory for temporary files");
    let mut options = Options::three().with("log.segment.bytes", "1048576");
    let second = |id: NodeId| (id, vec![folder.path().join(format!("second-{id}"))]);
    options.more_data = (1..=3).map(second).collect();
    let mut run = Run::start("replicas moved", &options, &Workload::default());
    let (victim, _) = run.leader_and_controller();
    let places: [PathBuf; 2] = [
        run.cluster.node(victim).data().to_owned(),
        options.more_data[&victim][0].clone(),
    ];
    for round in 0..4 {
        let to = &places[round % 2];
        begin(&run.cluster, victim, to);
        wait_moved(&run.cluster, victim, to);
        run.cluster.wait_in_sync(TOPIC, MINUTE);
        run.wait_progress(MINUTE);
    }
    for round in 0..3 {
        begin(&run.cluster, victim, &places[round % 2]);
        run.strike(victim, Cluster::kill);
        run.cluster.restart(victim);
        run.cluster.wait_in_sync(TOPIC, MINUTE);
    }
    run.wait_progress(MINUTE);
    run.finish().expect_sound();
}
