//! One of several log directories of a broker fails: only its replicas go, leaders move to other
//! brokers, and the broker lives on, also through a restart without that directory. (R36)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_testkit::admin::{Admin, NewTopic, NodeId, PartitionState};
use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

/// KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;

/// Three brokers of two directories each.
fn two_each(folder: &TempDir) -> Options {
    let mut options = Options::three();
    let second = |id: NodeId| (id, vec![folder.path().join(format!("second-{id}"))]);
    options.more_data = (1..=3).map(second).collect();
    options
}

fn second(options: &Options, id: NodeId) -> &Path {
    &options.more_data[&id][0]
}

/// The partitions of the topic that lie in this directory.
fn partitions_in(directory: &Path) -> BTreeSet<i32> {
    let names = fs::read_dir(directory).expect("it can be listed").flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| name.strip_prefix(&format!("{TOPIC}-"))?.parse().ok())
        .collect()
}

/// What the broker says of its directories: path and error.
fn directories(cluster: &Cluster, id: NodeId) -> BTreeMap<PathBuf, i16> {
    let port = cluster.node(id).client_port();
    let states = Admin::directories(port).expect("the broker answers");
    let states = states.into_iter();
    states
        .map(|state| (PathBuf::from(state.path), state.error))
        .collect()
}

/// Waits until exactly these replicas of the victim are out of sync and lead nothing.
fn wait_lost(cluster: &Cluster, victim: NodeId, lost: &BTreeSet<i32>) {
    cluster.wait_partitions(TOPIC, "the lost replicas to be out", MINUTE, |partitions| {
        let right = |of: &PartitionState| match lost.contains(&of.index) {
            true => !of.isr.contains(&victim) && of.leader.is_some_and(|at| at != victim),
            false => of.isr.len() == 3 && of.leader.is_some(),
        };
        partitions.iter().all(right)
    });
}

/// What the victim answers to whoever asks it for a partition.
fn error_at(cluster: &Cluster, victim: NodeId, partition: i32) -> i16 {
    let port = cluster.node(victim).client_port();
    let listed = Admin::list_offset(port, TOPIC, partition, -1);
    listed.expect("the broker answers").error
}

#[test]
fn log_directory_failed() {
    let folder = tempfile::tempdir().expect("a directory for temporary files");
    let options = two_each(&folder);
    let mut run = Run::start("log directory failed", &options, &Workload::default());
    let (victim, _) = run.leader_and_controller();
    let second = second(&options, victim);
    let lost = partitions_in(second);
    assert_eq!(
        lost.len(),
        3,
        "new logs go where there are fewest: {lost:?}"
    );
    let led = run.led_by(victim);
    assert!(
        led.iter().any(|index| lost.contains(index)),
        "{led:?} {lost:?}"
    );
    let away = second.with_extension("away");
    run.strike(victim, |_, _| {
        fs::rename(second, &away).expect("it can be moved");
    });
    wait_lost(&run.cluster, victim, &lost);
    run.wait_progress(MINUTE);
    let told = directories(&run.cluster, victim);
    assert_eq!(told[second], STORAGE_ERROR, "{told:?}");
    assert_eq!(told[run.cluster.node(victim).data()], 0, "{told:?}");
    for index in 0..6 {
        let error = error_at(&run.cluster, victim, index);
        assert_eq!(
            error == STORAGE_ERROR,
            lost.contains(&index),
            "{index}: {error}"
        );
    }
    // What is new goes where it can.
    let topic = NewTopic {
        name: "later",
        assignment: vec![vec![victim]; 4],
        partitions: 4,
        replication: 1,
        configs: Vec::new(),
    };
    run.cluster
        .admin()
        .create_topic(&topic)
        .expect("it can be made");
    run.cluster.wait_in_sync("later", MINUTE);

    // The broker starts without the directory, which is nothing that can be used.
    // Whatever was being made in it when it vanished may have made it anew.
    let _ = fs::remove_dir_all(second);
    fs::write(second, "no directory").expect("the place is free");
    run.cluster.kill(victim);
    run.cluster.restart(victim);
    wait_lost(&run.cluster, victim, &lost);
    let told = directories(&run.cluster, victim);
    assert_eq!(told[second], STORAGE_ERROR, "{told:?}");
    let error = error_at(
        &run.cluster,
        victim,
        *lost.first().expect("there are three"),
    );
    assert_eq!(error, STORAGE_ERROR);

    // And with it.
    run.cluster.stop(victim);
    fs::remove_file(second).expect("it was written");
    fs::rename(&away, second).expect("it can be moved");
    run.cluster.restart(victim);
    run.cluster.wait_in_sync(TOPIC, MINUTE);
    assert!(
        directories(&run.cluster, victim)
            .values()
            .all(|error| *error == 0)
    );
    run.finish().expect_sound();
}

#[test]
fn directory_of_the_metadata_failed() {
    let folder = tempfile::tempdir().expect("a directory for temporary files");
    let mut cluster = Cluster::start(&two_each(&folder).nodes(1));
    let data = cluster.node(1).data().to_owned();
    fs::rename(&data, data.with_extension("away")).expect("it can be moved");
    let status = cluster.node_mut(1).wait_ended(MINUTE);
    let status = status.expect("no broker lives without its metadata");
    assert_eq!(status.code(), Some(1));
    let said = cluster.node(1).output();
    let metadata = format!(
        "Shutdown broker because the metadata log dir {} has failed",
        data.display()
    );
    assert!(said.contains(&metadata), "{said}");
}

#[test]
fn every_log_directory_failed() {
    let folder = tempfile::tempdir().expect("a directory for temporary files");
    let mut options = Options::three().nodes(1);
    let metadata = folder.path().join("metadata");
    options
        .properties
        .set("metadata.log.dir", metadata.display());
    let mut cluster = Cluster::start(&options);
    let data = cluster.node(1).data().to_owned();
    fs::rename(&data, data.with_extension("away")).expect("it can be moved");
    let status = cluster.node_mut(1).wait_ended(MINUTE);
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    let said = cluster.node(1).output();
    let all = format!(
        "Shutdown broker because all log dirs in {} have failed",
        data.display()
    );
    assert!(said.contains(&all), "{said}");

    // Nor does it start like that.
    fs::write(&data, "no directory").expect("the place is free");
    cluster.node_mut(1).start();
    let status = cluster.node_mut(1).wait_ended(MINUTE);
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    let said = cluster.node(1).output();
    let none = format!(
        "Shutdown broker because none of the specified log dirs from {} can be created or validated",
        data.display()
    );
    assert!(said.contains(&none), "{said}");
}
