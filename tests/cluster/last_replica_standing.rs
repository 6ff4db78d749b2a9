//! The replicas of a partition die one after the other, the last one too; then the first to leave
//! is the first to return: it must not lead before one that holds everything. (R12, R02)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn last_replica_standing() {
    // Three of five nodes are controllers, so that the quorum outlives the replicas.
    let cluster = Cluster::start(&Options::three().nodes(5).controllers(3));
    let workload = Workload::default().on(&[3, 4, 5]);
    let mut run = Run::on("last replica standing", cluster, &workload);
    run.strike(5, Cluster::kill);
    run.wait_progress(MINUTE);
    run.strike(4, Cluster::kill);
    // One is left, and two are demanded: nothing is acknowledged any more.
    run.cluster
        .wait_partitions(TOPIC, "an ISR of one", MINUTE, |partitions| {
            partitions.iter().all(|partition| partition.isr.len() == 1)
        });
    let acked = run.acked();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        run.acked(),
        acked,
        "acks=all with an ISR of one, and two demanded"
    );
    run.cluster.kill(3);
    run.cluster.restart(5);
    std::thread::sleep(Duration::from_secs(2));
    let partitions = run.cluster.admin().partitions(TOPIC).expect("live brokers");
    for partition in partitions {
        assert_ne!(partition.leader, Some(5), "node 5 misses committed records");
    }
    run.cluster.restart(4);
    run.cluster.restart(3);
    run.finish().expect_sound();
}
