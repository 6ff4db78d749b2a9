//! One of three replicas is left and two are demanded: acks=all is refused before the append, and
//! a record that acks=1 appended is not visible before another replica holds it. (R02)

use std::time::Duration;

use millrace_testkit::admin::{Admin, NewTopic};
use millrace_testkit::{Cluster, Options, wait};
use millrace_tests::load::send_one;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn too_few_in_sync_replicas() {
    let mut cluster = Cluster::start(&Options::three().nodes(5).controllers(3));
    let topic = NewTopic {
        name: "strict",
        assignment: vec![vec![3, 4, 5]],
        partitions: 1,
        replication: 3,
        configs: vec![("min.insync.replicas", "2")],
    };
    cluster
        .admin()
        .create_topic(&topic)
        .expect("a live cluster");
    cluster.wait_in_sync("strict", MINUTE);
    let bootstrap = cluster.bootstrap();
    let send = |value: &str, acks| send_one(&bootstrap, "strict", 0, value.as_bytes(), acks);
    assert_eq!(send("one", "all"), Ok(0));
    cluster.kill(4);
    cluster.kill(5);
    cluster.wait_partitions("strict", "an ISR of one", MINUTE, |partitions| {
        partitions[0].isr.len() == 1
    });
    assert_eq!(send("two", "all"), Err("NotEnoughReplicas".to_owned()));
    assert_eq!(send("three", "1"), Ok(1), "acks=1 asks only the leader");
    let port = cluster.node(3).client_port();
    let end = || {
        Admin::list_offset(port, "strict", 0, -1)
            .expect("a live leader")
            .offset
    };
    assert_eq!(
        end(),
        1,
        "the high watermark stays while the ISR is below its minimum"
    );
    cluster.restart(4);
    wait::until("the high watermark to move", MINUTE, || match end() {
        2 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(send("four", "all"), Ok(2));
}
