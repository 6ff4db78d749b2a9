//! `min.insync.replicas` goes down and up while brokers die. (R02)

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn min_insync_replicas_changed_under_faults() {
    let name = "min.insync.replicas changed";
    let mut run = Run::start(name, &Options::three(), &Workload::default());
    let set = |run: &Run, value: &str| {
        let admin = run.cluster.admin();
        let done = admin.set_topic_config(TOPIC, "min.insync.replicas", value);
        done.expect("a live controller");
    };
    for (value, id) in [("1", 1), ("3", 2), ("2", 3)] {
        set(&run, value);
        run.strike(id, Cluster::kill);
        if value == "3" {
            // Two are alive, three demanded: it must be lowered for writing to go on.
            std::thread::sleep(Duration::from_secs(2));
            set(&run, "2");
        }
        run.wait_progress(MINUTE);
        run.cluster.restart(id);
        run.cluster.wait_in_sync(TOPIC, MINUTE);
    }
    run.finish().expect_sound();
}
