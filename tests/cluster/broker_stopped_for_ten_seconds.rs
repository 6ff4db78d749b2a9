//! A broker is stopped with SIGSTOP for ten seconds: nothing closes, it only falls silent; then it
//! wakes up in the belief that nothing happened. (R05, R10)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::{Run, Workload};

fn stopped(name: &str, cluster: Cluster, workload: &Workload, victim: i32) {
    let mut run = Run::on(name, cluster, workload);
    run.strike(victim, Cluster::pause);
    std::thread::sleep(Duration::from_secs(10));
    run.cluster.resume(victim);
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(4));
}

#[test]
fn leader_stopped_for_ten_seconds() {
    let cluster = Cluster::start(&Options::three());
    let leader = cluster.other_than(cluster.controller());
    stopped("leader stopped", cluster, &Workload::default(), leader);
}

#[test]
fn leader_that_is_controller_stopped_for_ten_seconds() {
    let cluster = Cluster::start(&Options::three());
    let controller = cluster.controller();
    let name = "leader and controller in one stopped";
    stopped(name, cluster, &Workload::default(), controller);
}

#[test]
fn follower_stopped_for_ten_seconds() {
    let cluster = Cluster::start(&Options::three());
    let follower = cluster.other_than(cluster.controller());
    let workload = Workload::default().led_by(&cluster.all_but(follower));
    stopped("follower stopped", cluster, &workload, follower);
}
