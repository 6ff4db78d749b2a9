//! The coordinators of two groups, of which each speaks another protocol, are killed with -9 in turn,
//! every five seconds, while their members read and commit: every record is read at least once, and no
//! committed offset ever goes back.

use std::time::{Duration, Instant, SystemTime};

use millrace_testkit::{Cluster, Options};
use millrace_tests::groups::{GroupRun, OFFSETS, Protocol};
use millrace_tests::report;

use crate::minutes;

/// From one kill to the next.
const PACE: Duration = Duration::from_secs(5);

/// How long things may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn coordinators_killed_every_five_seconds() {
    let mut cluster = Cluster::start(&Options::three());
    let protocols = [
        ("chaos-cooperative", Protocol::Cooperative),
        ("chaos-consumer", Protocol::Consumer),
    ];
    let runs = protocols.map(|(topic, protocol)| GroupRun::of_three(&cluster, topic, protocol));
    let began = Instant::now();
    let (mut kills, mut longest) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(60 * minutes()) {
        let run = &runs[kills % runs.len()];
        let coordinator = run.coordinator(&cluster);
        cluster.kill(coordinator);
        longest = longest.max(run.first_commit_after(SystemTime::now()));
        cluster.restart(coordinator);
        // Two of three replicas have to be there, whichever of them is killed next.
        for topic in runs.iter().map(GroupRun::topic).chain([OFFSETS]) {
            cluster.wait_in_sync(topic, PATIENCE);
        }
        kills += 1;
        let next = PACE * u32::try_from(kills).expect("a few minutes");
        std::thread::sleep(next.saturating_sub(began.elapsed()));
    }
    report::line(format!(
        "coordinators killed: {kills} times, longest {} ms to the next commit",
        longest.as_millis()
    ));
    for run in &runs {
        run.wait_shared(3);
    }
    for run in runs {
        run.finish().expect_sound();
    }
}
