//! The leader of partitions is killed with -9 under acks=all; it comes back later.
//! (R01, R18, R37, R38, R39)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn leader_killed_while_acks_all() {
    let mut run = Run::start("leader killed", &Options::three(), &Workload::default());
    let (leader, _) = run.leader_and_controller();
    run.strike(leader, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart(leader);
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(2));
}
