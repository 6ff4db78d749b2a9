//! One direction of a broker's links carries nothing: it hears and is not heard, or the reverse.
//! (R07)

use std::time::Duration;

use millrace_testkit::Options;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Lost {
    Outgoing,
    Incoming,
}

fn cut(name: &str, lost: Lost, pick: impl FnOnce(&Run) -> i32) {
    let mut run = Run::start(name, &Options::three().proxied(), &Workload::default());
    let victim = pick(&run);
    run.strike(victim, |cluster, node| {
        for other in cluster.all_but(node) {
            match lost {
                Lost::Outgoing => cluster.links().cut(node, other),
                Lost::Incoming => cluster.links().cut(other, node),
            }
        }
    });
    run.wait_progress(MINUTE);
    run.cluster.links().heal();
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(6));
}

#[test]
fn leader_hears_and_is_not_heard() {
    let name = "leader hears and is not heard";
    cut(name, Lost::Outgoing, |run| run.leader_and_controller().0);
}

#[test]
fn leader_is_heard_and_does_not_hear() {
    let name = "leader is heard and does not hear";
    cut(name, Lost::Incoming, |run| run.leader_and_controller().0);
}

#[test]
fn controller_hears_and_is_not_heard() {
    let name = "controller hears and is not heard";
    cut(name, Lost::Outgoing, |run| run.leader_and_controller().1);
}

#[test]
fn controller_is_heard_and_does_not_hear() {
    let name = "controller is heard and does not hear";
    cut(name, Lost::Incoming, |run| run.leader_and_controller().1);
}
