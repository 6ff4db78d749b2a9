//! The link between two brokers, neither of them the controller, comes and goes: the controller
//! stays, its epoch does not climb, and writing goes on. (R07)

use std::time::Duration;

use millrace_testkit::Options;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn link_between_two_brokers_flaps() {
    let mut run = Run::start(
        "flapping link",
        &Options::three().proxied(),
        &Workload::default(),
    );
    let before = run.cluster.admin().quorum().expect("a quorum");
    let others = run.cluster.all_but(before.leader);
    run.strike_all(|cluster| {
        for _ in 0..5 {
            for (from, to) in [(0, 1), (1, 0)] {
                cluster.links().cut(others[from], others[to]);
                std::thread::sleep(Duration::from_millis(500));
                cluster.links().heal();
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    });
    run.wait_progress(MINUTE);
    let after = run.cluster.admin().quorum().expect("a quorum");
    assert_eq!(
        (after.leader, after.epoch),
        (before.leader, before.epoch),
        "a link that the controller has no part in must not cost an election"
    );
    run.finish().expect_sound();
}
