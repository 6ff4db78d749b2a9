//! Leadership goes away and comes back with hardly a write in between, again and again: the logs
//! converge. (R08)

use std::time::Duration;

use millrace_testkit::Options;
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn two_fast_leader_changes() {
    let mut workload = Workload::default();
    workload.pace.per_second = 200;
    let mut run = Run::start("fast leader changes", &Options::three(), &workload);
    let (victim, _) = run.leader_and_controller();
    for _ in 0..4 {
        run.strike(victim, |cluster, node| {
            cluster.kill(node);
            cluster.restart(node);
        });
        run.cluster.wait_in_sync(TOPIC, MINUTE);
        let all: Vec<i32> = (0..workload.partitions).collect();
        let elected = run.cluster.admin().elect_preferred(TOPIC, &all);
        elected.expect("the preferred leaders are there");
    }
    run.finish().expect_sound();
}
