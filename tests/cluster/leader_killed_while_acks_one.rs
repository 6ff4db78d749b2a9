//! The leader dies under acks=1: records may be lost, but never one that a reader has seen, and the
//! replicas agree in the end. (R15)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn leader_killed_while_acks_one() {
    let workload = Workload::default()
        .with_producer("enable.idempotence", "false")
        .with_producer("acks", "1");
    let mut run = Run::start("leader killed, acks=1", &Options::three(), &workload);
    let (leader, _) = run.leader_and_controller();
    run.strike(leader, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart(leader);
    let outcome = run.finish().not_idempotent().with_losses_allowed();
    outcome.expect_sound();
}
