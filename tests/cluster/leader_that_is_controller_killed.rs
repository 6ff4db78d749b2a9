//! One kill -9 takes the leader and the active controller, which are one broker.

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn leader_that_is_controller_killed() {
    let name = "leader and controller in one killed";
    let mut run = Run::start(name, &Options::three(), &Workload::default());
    let (_, controller) = run.leader_and_controller();
    run.strike(controller, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart(controller);
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(2));
}
