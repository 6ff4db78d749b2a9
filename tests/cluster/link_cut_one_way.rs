//! One direction of a broker's links carries nothing: it hears and is not heard, or the reverse.
//! (R07)

use std::time::Duration;

use millrace_testkit::admin::Admin;
use millrace_testkit::{Options, wait};
use millrace_tests::run::TOPIC;
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
    wait_for_others_to_lead(&run, victim);
    run.wait_progress(MINUTE);
    run.cluster.links().heal();
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(6));
}

/// What was acknowledged before the cut may arrive after it, and must not end the fault before it
/// has had any effect.
fn wait_for_others_to_lead(run: &Run, victim: i32) {
    let others = run.cluster.all_but(victim).into_iter();
    let ports = others.map(|node| run.cluster.node(node).client_port());
    let admin = Admin::new(ports.collect());
    wait::until("the others to lead what it led", MINUTE, || {
        let partitions = admin.partitions(TOPIC)?;
        let another = |leader| leader != victim;
        match partitions.iter().all(|p| p.leader.is_some_and(another)) {
            true => Ok(()),
            false => Err(format!("{partitions:?}")),
        }
    });
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
