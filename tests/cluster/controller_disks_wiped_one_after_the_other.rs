//! Every broker is a voter of the metadata quorum. The active controller's disk is wiped; when it
//! is back, a second one's: topics, settings and records stay. (R13, R24)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn controller_disks_wiped_one_after_the_other() {
    let workload = Workload::default().with("max.message.bytes", "900000");
    let mut run = Run::start("two controllers' disks wiped", &Options::three(), &workload);
    for _ in 0..2 {
        let controller = run.cluster.controller();
        run.strike(controller, Cluster::kill);
        run.wait_progress(MINUTE);
        run.cluster.restart_wiped(controller);
        run.cluster.wait_in_sync(TOPIC, MINUTE);
        run.cluster.wait_voters_caught_up(Duration::from_secs(30));
    }
    let value = run.cluster.admin().topic_config(TOPIC, "max.message.bytes");
    assert_eq!(
        value.as_deref(),
        Ok("900000"),
        "the topic's settings are kept"
    );
    run.finish().expect_sound();
}
