//! A group reads partitions of which its coordinator's broker has no replica: the lag on that broker's
//! `/metrics` is right all the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request as commit;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use millrace_testkit::admin::NewTopic;
use millrace_testkit::{Cluster, Options, Wire, ports, wait};
use millrace_tests::load::{Load, Pace};

const MINUTE: Duration = Duration::from_secs(60);
const TOPIC: &str = "scattered";
const GROUP: &str = "far-away";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Three brokers with a page of metrics each; the pages' ports.
fn start() -> (Cluster, Vec<u16>) {
    let mut cluster = Cluster::format(&Options::three());
    let ids = cluster.ids();
    let mut pages = Vec::new();
    for id in &ids {
        let port = ports::free();
        let address = format!("127.0.0.1:{port}");
        let node = cluster.node_mut(*id);
        node.set_property("millrace.http.listener", &address);
        node.start();
        pages.push(port);
    }
    for id in ids {
        cluster.wait_started(id);
    }
    cluster.wait_known();
    (cluster, pages)
}

fn page(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(MINUTE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Commits offset 1 for each partition.
fn commit(cluster: &Cluster) {
    let partitions = (0..3).map(|index| {
        commit::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(1)
    });
    let topic = commit::OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    wait::until("the commit to be taken", MINUTE, || {
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
        let found = cluster.admin().ask(&find, 4)?;
        let port = found.coordinators.first().map_or(0, |found| found.port);
        let port = u16::try_from(port).map_err(|error| error.to_string())?;
        let answer = Wire::connect(port, MINUTE).and_then(|mut wire| wire.call(&request, 8));
        let answer = answer.map_err(|error| error.to_string())?;
        let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
        match codes.all(|partition| partition.error_code == 0) {
            true => Ok(()),
            false => Err(format!("{answer:?}")),
        }
    });
}

#[test]
fn lag_of_a_group_away_from_its_coordinator() {
    let (cluster, pages) = start();
    let alone = NewTopic {
        name: TOPIC,
        partitions: 3,
        replication: 1,
        assignment: vec![vec![1], vec![2], vec![3]],
        configs: vec![("min.insync.replicas", "1")],
    };
    wait::until("the topic to be made", MINUTE, || {
        cluster.admin().create_topic(&alone)
    });
    cluster.wait_in_sync(TOPIC, MINUTE);
    let load = Load::start(&cluster.bootstrap(), TOPIC, 3, &Pace::default());
    wait::until("records in every partition", MINUTE, || {
        let answers = load.answers();
        let counts: Vec<usize> = (0..3).map(|p| answers.times.count(p)).collect();
        match counts.iter().all(|count| *count >= 20) {
            true => Ok(()),
            false => Err(format!("{counts:?}")),
        }
    });
    let answers = load.finish();
    commit(&cluster);
    for partition in 0..3 {
        let last = answers
            .acked
            .iter()
            .filter(|placed| placed.partition == partition);
        let end = last.map(|placed| placed.offset + 1).max().unwrap_or(0);
        let labels = format!("group=\"{GROUP}\",topic=\"{TOPIC}\",partition=\"{partition}\"");
        let expected = format!("millrace_group_lag_records{{{labels}}} {}\n", end - 1);
        wait::until("the lag to be told", MINUTE, || {
            let told = pages.iter().filter_map(|port| page(*port).ok());
            let told: Vec<String> = told.collect();
            match told.iter().filter(|page| page.contains(&expected)).count() {
                1 => Ok(()),
                count => Err(format!("{expected} {count} times in {told:?}")),
            }
        });
    }
}
