//! Partitions move to other brokers under load, also while the controller or a target is killed,
//! and back again by a cancel. They end in the old or the new replicas, nobody loses anything, and
//! what left has no log any more. (R20)

use std::path::PathBuf;
use std::time::Duration;

use millrace_testkit::admin::{NodeId, PartitionState};
use millrace_testkit::{Cluster, Options, wait};
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

const LIMIT: &str = "leader.replication.throttled.rate";

/// The topic lies on brokers 1 and 2, and shall go to 3 and 4.
fn start(name: &str) -> Run {
    let cluster = Cluster::start(&Options::three().nodes(4).controllers(3));
    let workload = Workload::default()
        .on(&[1, 2])
        .with("min.insync.replicas", "1")
        .with("leader.replication.throttled.replicas", "*");
    Run::on(name, cluster, &workload)
}

/// Whoever leads sends so many bytes a second to who is not in sync; nothing moves in the time of
/// a test while that is one.
fn limit(run: &Run, bytes: Option<&str>) {
    wait::until("the limit to be set", MINUTE, || {
        run.cluster.admin().set_brokers_config(LIMIT, bytes)
    });
}

fn reassign(run: &Run, partitions: impl Iterator<Item = i32>, to: Option<[NodeId; 2]>) {
    let moves: Vec<_> = partitions
        .map(|index| (index, to.map(|to| to.to_vec())))
        .collect();
    wait::until("the move to begin", MINUTE, || {
        run.cluster.admin().reassign(TOPIC, &moves)
    });
}

/// Waits until nothing moves any more and the partitions lie where they should, all in sync.
fn wait_there(run: &Run, there: impl Fn(i32) -> [NodeId; 2]) {
    let arrived = |of: &PartitionState| {
        let replicas = there(of.index);
        of.replicas == replicas && of.isr == replicas.into()
    };
    run.cluster
        .wait_partitions(TOPIC, "the replicas to be there", MINUTE, |partitions| {
            partitions.iter().all(arrived)
        });
    assert_eq!(moving(run), 0);
}

/// How many partitions are being moved.
fn moving(run: &Run) -> usize {
    let moving = wait::until("an answer about what moves", MINUTE, || {
        run.cluster.admin().moving()
    });
    moving.len()
}

/// Waits until no log of these partitions is left on a broker, under whatever name.
fn wait_gone(run: &Run, broker: NodeId, partitions: &[i32]) {
    let data = run.cluster.node(broker).data().to_owned();
    wait::until("the logs to be gone", MINUTE, || {
        let left: Vec<PathBuf> = std::fs::read_dir(&data)
            .map_err(|error| error.to_string())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().map(|name| name.to_string_lossy());
                let begins = |index: &i32| {
                    let log = format!("{TOPIC}-{index}");
                    name.as_deref()
                        .and_then(|name| name.strip_prefix(log.as_str()))
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                partitions.iter().any(begins)
            })
            .collect();
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("{left:?}")),
        }
    });
}

#[test]
fn partitions_move_to_other_brokers() {
    let run = start("partitions move");
    // Deleted files keep another name for so long.
    let admin = run.cluster.admin();
    let set = admin.set_topic_config(TOPIC, "file.delete.delay.ms", "100");
    set.expect("a live cluster sets it");
    reassign(&run, 0..6, Some([3, 4]));
    wait_there(&run, |_| [3, 4]);
    run.wait_progress(MINUTE);
    for left in [1, 2] {
        wait_gone(&run, left, &[0, 1, 2, 3, 4, 5]);
    }
    // Back to where they were at once, and more copies of some.
    reassign(&run, 0..3, Some([1, 3]));
    reassign(&run, 3..6, Some([4, 2]));
    wait_there(&run, |index| if index < 3 { [1, 3] } else { [4, 2] });
    run.finish().expect_sound();
}

#[test]
fn brokers_killed_while_partitions_move() {
    let mut run = start("killed while partitions move");
    limit(&run, Some("1"));
    reassign(&run, 0..6, Some([3, 4]));
    run.wait_progress(MINUTE);
    assert_eq!(moving(&run), 6);
    // A target dies, and then the controller, which may be anything.
    run.strike(4, Cluster::kill);
    run.wait_progress(MINUTE);
    run.cluster.restart(4);
    run.cluster.wait_known();
    let controller = run.cluster.controller();
    run.strike(controller, Cluster::kill);
    run.wait_progress(MINUTE);
    assert_eq!(moving(&run), 6);
    run.cluster.restart(controller);
    run.cluster.wait_known();
    // Some are called back, others shall go elsewhere than was said first, the rest goes on.
    reassign(&run, 0..2, None);
    reassign(&run, 2..4, Some([4, 1]));
    run.wait_progress(MINUTE);
    limit(&run, None);
    let there = |index: i32| match index {
        0 => [1, 2],
        1 => [2, 1],
        2 | 3 => [4, 1],
        _ => [3, 4],
    };
    run.cluster
        .wait_partitions(TOPIC, "the moves to end", MINUTE, |partitions| {
            let end = |of: &PartitionState| {
                let (mut is, mut wanted) = (of.replicas.clone(), there(of.index).to_vec());
                // A cancel keeps the order of what is there, as in Kafka.
                if of.index < 2 {
                    is.sort_unstable();
                    wanted.sort_unstable();
                }
                is == wanted && of.isr.len() == 2
            };
            partitions.iter().all(end)
        });
    assert_eq!(moving(&run), 0);
    run.finish().expect_sound();
}
