//! Groups of every family of clients, by every protocol they speak: members come, go and die while
//! records are written, coordinators die and brokers restart.

use std::time::SystemTime;

use millrace_tests::groups::{Client, GroupRun, Protocol};
use millrace_tests::report;

use crate::Case;
use crate::bench::{Bench, MINUTE};

/// Partitions of each topic: more than members, and not shared alike by five.
const PARTITIONS: usize = 6;

pub const CASES: &[Case] = &[
    ("group_of_java_eager", |bench| {
        life(bench, "java-eager", Client::Java, Protocol::Eager);
    }),
    ("group_of_java_cooperative", |bench| {
        life(bench, "java-coop", Client::Java, Protocol::Cooperative);
    }),
    ("group_of_confluent_eager", |bench| {
        life(bench, "ck-eager", Client::Confluent, Protocol::Eager);
    }),
    ("group_of_confluent_cooperative", |bench| {
        life(bench, "ck-coop", Client::Confluent, Protocol::Cooperative);
    }),
    ("group_of_java_by_the_consumer_protocol", |bench| {
        life(bench, "java-848", Client::Java, Protocol::Consumer);
    }),
    ("group_of_confluent_by_the_consumer_protocol", |bench| {
        life(bench, "ck-848", Client::Confluent, Protocol::Consumer);
    }),
    ("group_of_kafka_python", |bench| {
        life(bench, "kp-eager", Client::KafkaPython, Protocol::Eager);
    }),
    (
        "group_of_java_moves_to_the_consumer_protocol_and_back",
        migration,
    ),
];

/// A topic that members of a group share.
fn start(bench: &Bench, name: &str, client: Client, protocol: Protocol) -> GroupRun {
    let topic = format!("group-{name}");
    let replicas = [vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]];
    let assignment = (0..PARTITIONS).map(|index| replicas[index % 3].clone());
    bench.make_topic(&topic, assignment.collect(), Vec::new());
    GroupRun::start(&bench.cluster, &topic, PARTITIONS as i32, client, protocol)
}

/// `group.protocol` is changed at one member after the other while they work, and back again, as
/// Kafka's documentation of the upgrade tells operators to do.
fn migration(bench: &mut Bench) {
    let mut run = start(bench, "moving", Client::Java, Protocol::Cooperative);
    for _ in 0..3 {
        run.add(1);
    }
    run.wait_shared(3);
    run.wait_progress(20);
    expect_type(bench, &run.group, "Classic");
    for (protocol, after) in [
        (Protocol::Consumer, "Consumer"),
        (Protocol::Eager, "Classic"),
    ] {
        for _ in 0..3 {
            run.stop_first();
            run.add_with(protocol, 1);
            run.wait_shared(3);
            run.wait_progress(20);
        }
        expect_type(bench, &run.group, after);
    }
    run.finish().expect_sound();
}

/// Wants the stock tool to list the group as one of this type.
fn expect_type(bench: &mut Bench, group: &str, wanted: &str) {
    let listed = bench.run("kafka-consumer-groups.sh", "--list --type");
    let listed = listed.expect_success().output;
    let line = listed.lines().find(|line| line.starts_with(group));
    let line = line.unwrap_or_else(|| panic!("no {group} in {listed}"));
    assert!(line.trim_end().ends_with(wanted), "{line}");
}

/// One member, then five; one is killed; the coordinator is killed; two members are left; every
/// broker restarts in turn.
fn life(bench: &mut Bench, name: &str, client: Client, protocol: Protocol) {
    let mut run = start(bench, name, client, protocol);
    run.add(1);
    run.wait_shared(1);
    run.wait_progress(20);
    run.add(1);
    run.add(2);
    run.add(1);
    run.wait_shared(5);
    run.wait_progress(20);
    run.kill_last();
    run.wait_shared(4);
    run.wait_progress(20);
    let coordinator = run.coordinator(&bench.cluster);
    bench.cluster.kill(coordinator);
    let silent = run.first_commit_after(SystemTime::now());
    report::line(format!(
        "{name:<50} {:>5} ms from killing the coordinator to the next commit",
        silent.as_millis()
    ));
    run.wait_progress(20);
    bench.cluster.restart(coordinator);
    bench.cluster.wait_in_sync(run.topic(), MINUTE);
    run.stop_last();
    run.wait_shared(2);
    for id in bench.cluster.ids() {
        bench.cluster.stop(id);
        run.wait_progress(5);
        bench.cluster.restart(id);
        bench.cluster.wait_in_sync(run.topic(), MINUTE);
    }
    run.wait_shared(2);
    run.wait_progress(20);
    run.finish().expect_sound();
}
