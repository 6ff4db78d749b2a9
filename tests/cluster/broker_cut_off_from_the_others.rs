//! A broker loses its peers, both ways, while clients still reach it: it must stop acknowledging,
//! the others take over, and what it had not committed is cut back after the heal. (R06, R10)

use std::time::Duration;

use millrace_testkit::Options;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

fn cut_off(name: &str, pick: impl FnOnce(&Run) -> i32) {
    let mut run = Run::start(name, &Options::three().proxied(), &Workload::default());
    let victim = pick(&run);
    run.strike(victim, |cluster, node| {
        let all = cluster.ids();
        cluster.links().isolate(node, &all);
    });
    run.wait_progress(MINUTE);
    std::thread::sleep(Duration::from_secs(3));
    run.cluster.links().heal();
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(6));
}

#[test]
fn leader_cut_off_from_the_others() {
    cut_off("leader cut off", |run| run.leader_and_controller().0);
}

#[test]
fn leader_that_is_controller_cut_off_from_the_others() {
    let name = "leader and controller in one cut off";
    cut_off(name, |run| run.leader_and_controller().1);
}
