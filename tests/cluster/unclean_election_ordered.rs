//! Every replica that holds all is gone, and the operator orders an unclean election: it works, and
//! only then. (R23)

use std::time::Duration;

use millrace_testkit::admin::NewTopic;
use millrace_testkit::{Cluster, Options, replicas, wait};
use millrace_tests::load::send_one;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn unclean_election_ordered() {
    let mut cluster = Cluster::start(&Options::three().nodes(5).controllers(3));
    let topic = NewTopic {
        name: "torn",
        assignment: vec![vec![4, 5]],
        partitions: 1,
        replication: 2,
        configs: vec![("min.insync.replicas", "1")],
    };
    cluster
        .admin()
        .create_topic(&topic)
        .expect("a live cluster");
    cluster.wait_in_sync("torn", MINUTE);
    let bootstrap = cluster.bootstrap();
    let send = |value: &str| send_one(&bootstrap, "torn", 0, value.as_bytes(), "all");
    assert_eq!(send("both have it"), Ok(0));
    cluster.kill(5);
    cluster.wait_partitions("torn", "an ISR of one", MINUTE, |partitions| {
        partitions[0].isr.len() == 1
    });
    assert_eq!(send("only node 4 has it"), Ok(1));
    cluster.kill(4);
    cluster.restart(5);
    cluster.wait_partitions("torn", "no leader", MINUTE, |seen| seen[0].leader.is_none());
    std::thread::sleep(Duration::from_secs(1));
    let partitions = cluster.admin().partitions("torn").expect("live brokers");
    assert_eq!(
        partitions[0].leader, None,
        "node 5 misses a committed record"
    );
    wait::until("the unclean election", MINUTE, || {
        cluster.admin().elect_unclean("torn", &[0])
    });
    cluster.wait_partitions("torn", "a leader", MINUTE, |seen| seen[0].leader == Some(5));
    let offset = wait::until("an acknowledgement", MINUTE, || send("after the loss"));
    assert_eq!(
        offset, 1,
        "the record that only node 4 had is lost, as ordered"
    );
    cluster.restart(4);
    cluster.wait_in_sync("torn", MINUTE);
    assert_eq!(
        replicas::differences(&cluster, "torn"),
        Vec::<String>::new()
    );
}
