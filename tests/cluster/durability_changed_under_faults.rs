//! `millrace.durability` of a topic goes from fsync to page-cache and back while brokers die.

use std::time::Duration;

use millrace_testkit::{Cluster, Options};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn durability_changed_under_faults() {
    let options = Options::three();
    if !options.system.is_millrace() {
        // Stock Kafka does not know the setting.
        return;
    }
    let mut run = Run::start("durability changed", &options, &Workload::default());
    for (value, id) in [
        ("page-cache", 1),
        ("fsync", 2),
        ("page-cache", 3),
        ("fsync", 1),
    ] {
        let admin = run.cluster.admin();
        let done = admin.set_topic_config(TOPIC, "millrace.durability", value);
        done.expect("a live controller");
        run.strike(id, Cluster::kill);
        run.wait_progress(MINUTE);
        run.cluster.restart(id);
        run.cluster.wait_in_sync(TOPIC, MINUTE);
    }
    run.finish().expect_sound();
}
