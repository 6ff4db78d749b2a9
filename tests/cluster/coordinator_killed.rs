//! The coordinator of a group is killed with -9 while its members read and commit, thrice in turn:
//! they go on with the next leader of the group's partition of `__consumer_offsets`, and nothing
//! that was committed goes back. The same with brokers that stop in order.

use std::time::{Duration, SystemTime};

use millrace_testkit::{Cluster, Options};
use millrace_tests::groups::{GroupRun, Protocol};
use millrace_tests::report;

const MINUTE: Duration = Duration::from_secs(60);

fn coordinators_die(protocol: Protocol, name: &str) {
    let mut cluster = Cluster::start(&Options::three());
    let run = GroupRun::of_three(&cluster, name, protocol);
    for round in 1..=3 {
        let coordinator = run.coordinator(&cluster);
        cluster.kill(coordinator);
        let silent = run.first_commit_after(SystemTime::now());
        report::line(format!(
            "{name:<44} round {round} {:>5} ms to the next commit",
            silent.as_millis()
        ));
        if cluster.system().is_millrace() {
            assert!(silent < Duration::from_secs(3), "no commit for {silent:?}");
        }
        run.wait_progress(20);
        cluster.restart(coordinator);
        cluster.wait_in_sync(name, MINUTE);
    }
    run.wait_shared(3);
    run.finish().expect_sound();
}

#[test]
fn coordinator_killed_under_an_eager_group() {
    coordinators_die(Protocol::Eager, "coordinator-killed-eager");
}

#[test]
fn coordinator_killed_under_a_cooperative_group() {
    coordinators_die(Protocol::Cooperative, "coordinator-killed-cooperative");
}

#[test]
fn coordinator_killed_under_a_consumer_group() {
    coordinators_die(Protocol::Consumer, "coordinator-killed-consumer");
}

#[test]
fn brokers_restart_in_turn_under_a_group() {
    let mut cluster = Cluster::start(&Options::three());
    let run = GroupRun::of_three(&cluster, "restarts", Protocol::Cooperative);
    for id in cluster.ids() {
        cluster.stop(id);
        run.wait_progress(20);
        cluster.restart(id);
        cluster.wait_in_sync("restarts", MINUTE);
    }
    run.wait_shared(3);
    run.finish().expect_sound();
}
