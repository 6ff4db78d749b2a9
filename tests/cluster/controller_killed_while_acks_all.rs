//! The active controller is killed with -9; it leads nothing.

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn controller_killed_while_acks_all() {
    let cluster = Cluster::start(&Options::three());
    let controller = cluster.controller();
    let workload = Workload::default().led_by(&cluster.all_but(controller));
    let mut run = Run::on("controller killed", cluster, &workload);
    run.strike(controller, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart(controller);
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(2));
}
