//! A broker is away while leaders change several times, and truncates by epochs when it is back.
//! (R09, R17)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn follower_misses_several_epochs() {
    let cluster = Cluster::start(&Options::three().nodes(4));
    let workload = Workload::default()
        .on(&[2, 3, 4])
        .with("min.insync.replicas", "1");
    let mut run = Run::on("follower misses epochs", cluster, &workload);
    run.strike(4, Cluster::kill);
    run.wait_progress(MINUTE);
    for id in [2, 3, 2] {
        run.cluster.stop(id);
        run.wait_progress(MINUTE);
        run.cluster.restart(id);
        run.cluster
            .wait_partitions(TOPIC, "two in sync", MINUTE, |partitions| {
                partitions.iter().all(|partition| partition.isr.len() == 2)
            });
    }
    run.cluster.restart(4);
    run.finish().expect_sound();
}
