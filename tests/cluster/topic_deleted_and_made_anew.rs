//! A topic is deleted and made again under the same name while one broker is away: nothing of the
//! old one comes back. (R19)

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_testkit::admin::{Admin, NewTopic};
use millrace_testkit::{Cluster, Options, replicas, wait};
use millrace_tests::load::send_one;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn topic_deleted_and_made_anew() {
    let mut cluster = Cluster::start(&Options::three());
    let topic = NewTopic {
        name: "again",
        assignment: vec![vec![1, 2, 3]],
        partitions: 1,
        replication: 3,
        configs: Vec::new(),
    };
    cluster
        .admin()
        .create_topic(&topic)
        .expect("a live cluster");
    cluster.wait_in_sync("again", MINUTE);
    let bootstrap = cluster.bootstrap();
    for _ in 0..5 {
        let sent = send_one(&bootstrap, "again", 0, b"of the first", "all");
        sent.expect("all replicas are there");
    }
    cluster.kill(3);
    wait::until("the topic to be deleted", MINUTE, || {
        cluster.admin().delete_topic("again")
    });
    wait::until("the topic to be gone", MINUTE, || {
        match cluster.admin().partitions("again") {
            Err(_) => Ok(()),
            Ok(still) => Err(format!("{still:?}")),
        }
    });
    wait::until("the topic to be made anew", MINUTE, || {
        cluster.admin().create_topic(&topic)
    });
    cluster.wait_partitions("again", "the two that live in sync", MINUTE, |partitions| {
        partitions[0].isr == BTreeSet::from([1, 2]) && partitions[0].leader.is_some()
    });
    let offset = send_one(&bootstrap, "again", 0, b"of the second", "all");
    assert_eq!(offset, Ok(0), "the new topic begins anew");
    cluster.restart(3);
    cluster.wait_in_sync("again", MINUTE);
    let port = cluster.node(cluster.leader_of("again", 0)).client_port();
    let end = Admin::list_offset(port, "again", 0, -1).expect("a live leader");
    assert_eq!(end.offset, 1);
    assert_eq!(
        replicas::differences(&cluster, "again"),
        Vec::<String>::new()
    );
}
