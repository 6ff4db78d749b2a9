//! All three are killed with -9 in the same moment and started again, three times. (R04 as far as
//! processes go; the loss of unsynced pages is simulated)

use std::time::Duration;

use millrace_testkit::Options;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn all_brokers_killed_at_once() {
    let mut run = Run::start(
        "all killed at once",
        &Options::three(),
        &Workload::default(),
    );
    for _ in 0..3 {
        run.strike_all(|cluster| {
            let ids = cluster.ids();
            for id in &ids {
                cluster.kill(*id);
            }
            for id in ids.iter().rev() {
                cluster.node_mut(*id).start();
            }
            for id in &ids {
                cluster.wait_started(*id);
            }
        });
        run.wait_progress(MINUTE);
    }
    run.finish()
        .expect_sound()
        .expect_gap_below(Duration::from_secs(8));
}
