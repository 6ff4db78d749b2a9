//! Starts: quick and small when all is well; otherwise one clear sentence and exit code 1.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use millrace_testkit::process::output_within;
use millrace_testkit::{Cluster, Options, resources, wait};
use millrace_tests::SmallDisk;

/// For what takes a moment.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Runs `start` on what the node's directory holds, to its end.
fn start(cluster: &Cluster) -> Output {
    let command = cluster.system().broker(&cluster.node(1).properties_file());
    output_within(command, TEN_SECONDS)
}

/// Wants exit code 1 and one sentence on standard error that holds these words.
fn expect_refusal(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sentences: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(sentences.len(), 1, "one sentence, not:\n{said}");
    assert!(
        !said.contains("panicked") && !said.contains("Error {"),
        "{said}"
    );
    for word in words {
        assert!(said.contains(word), "'{word}' is missing in: {said}");
    }
}

fn one() -> Options {
    Options::three().nodes(1)
}

#[test]
fn a_broker_is_ready_within_a_second_and_small_when_idle() {
    let cluster = Cluster::start(&one());
    let ready = cluster.node(1).ready_after().expect("it was started");
    std::thread::sleep(Duration::from_secs(2));
    let resident = resources::resident_bytes(cluster.node(1).pid()) >> 20;
    millrace_tests::report::line(format!(
        "one broker: ready after {ready:?}, {resident} MiB when idle"
    ));
    if cluster.system().is_millrace() {
        assert!(ready < Duration::from_secs(1), "ready after {ready:?}");
        assert!(resident < 60, "{resident} MiB when idle");
    }
}

#[test]
fn brokers_of_three_are_ready_within_a_second() {
    let cluster = Cluster::start(&Options::three());
    let ready: Vec<Duration> = cluster
        .ids()
        .iter()
        .filter_map(|id| cluster.node(*id).ready_after())
        .collect();
    millrace_tests::report::line(format!("three brokers: ready after {ready:?}"));
    if cluster.system().is_millrace() {
        // The three share two cores with the test; alone each would have a machine.
        assert!(
            ready.iter().all(|ready| *ready < Duration::from_secs(3)),
            "{ready:?}"
        );
    }
}

#[test]
fn a_malformed_file_of_properties_is_refused() {
    let mut cluster = Cluster::format(&one());
    cluster.node_mut(1).set_property("num.partitions", "many");
    expect_refusal(&start(&cluster), &["num.partitions", "many"]);
}

#[test]
fn a_missing_file_of_properties_is_refused() {
    let cluster = Cluster::format(&one());
    let path: PathBuf = cluster.node(1).properties_file();
    fs::remove_file(&path).expect("it was written");
    expect_refusal(&start(&cluster), &["server.properties"]);
}

#[test]
fn settings_of_security_that_have_no_effect_are_refused() {
    let mut cluster = Cluster::format(&one());
    cluster
        .node_mut(1)
        .set_property("authorizer.class.name", "org.example.Authorizer");
    expect_refusal(&start(&cluster), &["authorizer.class.name"]);
}

#[test]
fn an_occupied_port_is_refused() {
    let cluster = Cluster::format(&one());
    let port = cluster.node(1).client_port();
    let _occupied = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    expect_refusal(&start(&cluster), &[&port.to_string()]);
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let cluster = Cluster::format(&one());
    let meta = cluster.node(1).data().join("meta.properties");
    let text = fs::read_to_string(&meta).expect("the directory is formatted");
    let others = text.replace("node.id=1", "node.id=7");
    assert_ne!(text, others);
    fs::write(&meta, others).expect("it can be written");
    expect_refusal(&start(&cluster), &["node"]);
}

#[test]
fn formatting_a_directory_of_another_cluster_is_refused() {
    let cluster = Cluster::format(&one());
    let other = "MkU3OEVBNTcwNTJENDM2Qk";
    assert_ne!(other, cluster.cluster_id());
    let output = output_within(cluster.node(1).format_command(other), TEN_SECONDS);
    expect_refusal(&output, &["cluster"]);
}

#[test]
fn a_broker_on_a_full_disk_says_so_and_serves_when_there_is_space() {
    let disk = SmallDisk::of_kilobytes(16 << 10);
    let mut options = one();
    options.data.insert(1, disk.path().join("data"));
    let mut cluster = Cluster::format(&options);
    disk.fill();
    let waits = |cluster: &Cluster| {
        wait::until("the broker to say what it lacks", TEN_SECONDS, || {
            let said = cluster.node(1).output();
            match said.contains("no space is left") {
                true => Ok(()),
                false => Err(said),
            }
        });
    };
    // It does not serve, and ends when it is asked to.
    cluster.node_mut(1).start();
    waits(&cluster);
    assert!(!cluster.node(1).output().contains("Kafka Server started"));
    let status = cluster.node_mut(1).stop();
    assert_eq!(status.code(), Some(0));
    // Nobody has to start it again once there is space.
    cluster.node_mut(1).start();
    waits(&cluster);
    disk.free();
    cluster.wait_started(1);
}
