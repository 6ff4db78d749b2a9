//! All brokers die at once, and on the disk of one a bit of what it wrote last has changed: the end of
//! its log that nobody has looked at since. It cuts that off when it starts, and knows that more was
//! committed: it does not lead, though all were in sync, and gets what it lacks from the others. (R26)

use std::fs;
use std::path::Path;
use std::time::Duration;

use millrace_testkit::{Options, wait};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

/// The high watermark of partition 0 that a broker remembers.
fn high_watermark(data: &Path) -> i64 {
    let file = fs::read_to_string(data.join("replication-offset-checkpoint"));
    let file = file.unwrap_or_default();
    let mut lines = file.lines();
    let own = format!("{TOPIC} 0 ");
    let found = lines.find_map(|line| line.strip_prefix(&own));
    found.map_or(0, |offset| offset.parse().expect("an offset"))
}

#[test]
fn bits_rot_before_a_power_cut() {
    let options = Options::three()
        .with("log.flush.offset.checkpoint.interval.ms", "3600000")
        .with("replica.high.watermark.checkpoint.interval.ms", "200");
    let workload = Workload {
        partitions: 3,
        ..Workload::default()
    };
    let mut run = Run::start("bits rot before a power cut", &options, &workload);
    let victim = run.cluster.leader_of(TOPIC, 0);
    let data = run.cluster.node(victim).data().to_owned();
    // The first half of the file is committed, and the broker remembers that.
    run.wait_progress(MINUTE);
    let segment = data.join(format!("{TOPIC}-0/00000000000000000000.log"));
    let rotten = fs::metadata(&segment).expect("it is there").len() / 2;
    let before = high_watermark(&data);
    wait::until(
        "the checkpoint of high watermarks",
        MINUTE,
        || match high_watermark(&data) {
            now if now > before + 20 => Ok(()),
            now => Err(format!("{now}, was {before}")),
        },
    );
    run.strike_all(|cluster| {
        let ids = cluster.ids();
        for id in &ids {
            cluster.kill(*id);
        }
        let mut bytes = fs::read(&segment).expect("it is there");
        bytes[usize::try_from(rotten).expect("a small file")] ^= 0x10;
        fs::write(&segment, &bytes).expect("it can be written");
        // It is the first to come back.
        cluster.node_mut(victim).start();
        for id in ids.iter().filter(|id| **id != victim) {
            cluster.node_mut(*id).start();
        }
        for id in &ids {
            cluster.wait_started(*id);
        }
    });
    run.wait_progress(MINUTE);
    run.cluster.wait_in_sync(TOPIC, MINUTE);
    let said = run.cluster.node(victim).output();
    let sentence = "records that were committed are missing at the end of this log";
    run.finish().expect_sound();
    assert!(said.contains(sentence), "{said}");
}
