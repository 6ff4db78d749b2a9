//! The leader of a partition is killed with -9 under acks=all; it comes back later.

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

#[test]
fn leader_killed_while_acks_all() {
    let mut run = Run::start("leader killed", &Options::three(), &Workload::default());
    let controller = run.cluster.controller();
    let partition = if run.cluster.leader_of(TOPIC, 0) == controller {
        1
    } else {
        0
    };
    let leader = run.cluster.leader_of(TOPIC, partition);
    run.strike(leader, Cluster::kill);
    run.wait_progress(Duration::from_secs(60));
    run.cluster.restart(leader);
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(2));
}
