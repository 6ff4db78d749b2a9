//! A broker that only follows is killed with -9 and comes back: it misses records and catches up.
//! (R03 without the loss of unsynced pages, which the simulation has)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn follower_killed_while_acks_all() {
    let cluster = Cluster::start(&Options::three());
    let follower = cluster.other_than(cluster.controller());
    let workload = Workload::default().led_by(&cluster.all_but(follower));
    let mut run = Run::on("follower killed", cluster, &workload);
    run.strike(follower, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart(follower);
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(2));
}
