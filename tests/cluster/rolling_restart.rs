//! Each broker in turn is stopped with SIGTERM and started again: producers notice nothing. (R14,
//! R25 without groups)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn rolling_restart() {
    let mut run = Run::start("rolling restart", &Options::three(), &Workload::default());
    for id in run.cluster.ids() {
        run.strike(id, Cluster::stop);
        run.wait_progress(Duration::from_secs(30));
        let partitions = run
            .cluster
            .admin()
            .partitions(TOPIC)
            .expect("a live broker");
        for partition in partitions {
            assert_ne!(partition.leader, Some(id), "a stopped broker leads nothing");
            assert!(
                !partition.isr.contains(&id),
                "a stopped broker is in no ISR"
            );
        }
        run.cluster.restart(id);
        run.cluster.wait_in_sync(TOPIC, MINUTE);
    }
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(1));
}
