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
];

/// One member, then five; one is killed; the coordinator is killed; two members are left; every
/// broker restarts in turn.
fn life(bench: &mut Bench, name: &str, client: Client, protocol: Protocol) {
    let topic = format!("group-{name}");
    let replicas = [vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]];
    let assignment = (0..PARTITIONS).map(|index| replicas[index % 3].clone());
    bench.make_topic(&topic, assignment.collect(), Vec::new());
    let mut run = GroupRun::start(&bench.cluster, &topic, PARTITIONS as i32, client, protocol);
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
    bench.cluster.wait_in_sync(&topic, MINUTE);
    run.stop_last();
    run.wait_shared(2);
    for id in bench.cluster.ids() {
        bench.cluster.stop(id);
        run.wait_progress(5);
        bench.cluster.restart(id);
        bench.cluster.wait_in_sync(&topic, MINUTE);
    }
    run.wait_shared(2);
    run.wait_progress(20);
    run.finish().expect_sound();
}
