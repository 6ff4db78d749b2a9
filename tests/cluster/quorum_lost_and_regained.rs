//! Two of three controllers are gone: no change of metadata is accepted; when they are back, all
//! nodes agree. (R24)

use std::time::Duration;

use millrace_testkit::admin::NewTopic;
use millrace_testkit::{Cluster, Options, wait};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn quorum_lost_and_regained() {
    let mut cluster = Cluster::start(&Options::three());
    let topic = |name| NewTopic {
        name,
        assignment: Vec::new(),
        partitions: 3,
        replication: 1,
        configs: Vec::new(),
    };
    cluster
        .admin()
        .create_topic(&topic("before"))
        .expect("a live cluster");
    cluster.kill(1);
    cluster.kill(2);
    let made = cluster.admin().create_topic(&topic("meanwhile"));
    assert!(made.is_err(), "a topic was made without a quorum");
    // Both at once: a broker without a quorum has nobody to register with.
    cluster.node_mut(1).start();
    cluster.node_mut(2).start();
    cluster.wait_started(1);
    cluster.wait_started(2);
    cluster.wait_known();
    wait::until("topics to be made again", MINUTE, || {
        cluster.admin().create_topic(&topic("after"))
    });
    for name in ["before", "after"] {
        cluster.wait_partitions(name, "the same image everywhere", MINUTE, |seen| {
            seen.len() == 3 && seen.iter().all(|partition| partition.leader.is_some())
        });
    }
    cluster.wait_voters_caught_up(MINUTE);
}
