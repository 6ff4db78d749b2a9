//! A broker's disk is replaced by an empty one under the same node id: it counts for nothing until
//! it has caught up. (R13)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn follower_disk_wiped() {
    let mut run = Run::start("disk wiped", &Options::three(), &Workload::default());
    let (victim, _) = run.leader_and_controller();
    run.strike(victim, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart_wiped(victim);
    run.finish().expect_sound();
}
