//! Idempotent producers write to topics whose logs are just being made: what a broker refuses at
//! first is not overtaken by what the producer had on its way behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_testkit::admin::{Admin, NewTopic};
use millrace_testkit::{Cluster, Options, wait};
use millrace_tests::load::{Load, Pace};

const MINUTE: Duration = Duration::from_secs(60);
const TOPICS: u32 = 12;
const PARTITIONS: i32 = 24;

#[test]
fn producers_quicker_than_their_topic() {
    let cluster = Cluster::start(&Options::three());
    for number in 0..TOPICS {
        write_while_it_is_made(&cluster, &format!("new-{number}"));
    }
}

fn write_while_it_is_made(cluster: &Cluster, topic: &str) {
    let new = NewTopic {
        name: topic,
        assignment: Vec::new(),
        partitions: PARTITIONS,
        replication: 3,
        configs: vec![("min.insync.replicas", "1")],
    };
    // A batch for each record, five of them on their way to each partition.
    let pace = Pace {
        per_second: 4_000,
        ..Pace::default()
    };
    let pace = pace.with("linger.ms", "0").with("batch.num.messages", "1");
    cluster.admin().create_topic(&new).expect("a live cluster");
    let load = Load::start(&cluster.bootstrap(), topic, PARTITIONS, &pace);
    wait::until("an acknowledgement in every partition", MINUTE, || {
        let answers = load.answers();
        let reached: BTreeSet<i32> = answers.acked.iter().map(|acked| acked.partition).collect();
        match reached.len() == PARTITIONS as usize {
            true => Ok(()),
            false => Err(format!("{reached:?}; errors {:?}", answers.errors)),
        }
    });
    let answers = load.finish();
    assert!(answers.errors.is_empty(), "{:?}", answers.errors);
    assert!(answers.open.is_empty(), "{:?}", answers.open);
    for partition in 0..PARTITIONS {
        let acked = answers.acked.iter().filter(|at| at.partition == partition);
        let acked: BTreeSet<_> = acked.map(|at| at.mark).collect();
        let end = wait::until("the end of a partition", MINUTE, || {
            let port = cluster
                .node(cluster.leader_of(topic, partition))
                .client_port();
            Admin::list_offset(port, topic, partition, -1).map_err(|error| error.to_string())
        });
        assert_eq!(
            end.offset,
            acked.len() as i64,
            "{topic}-{partition} does not hold what was acknowledged, once"
        );
    }
}
