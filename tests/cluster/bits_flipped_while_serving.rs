//! Bits of sealed segments change on the disks of brokers that serve: each replica finds that by
//! itself, lets another one take its place, and is mended from it. A replica that has no other keeps
//! what is sound of it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use millrace_testkit::admin::NewTopic;
use millrace_testkit::{Cluster, Options, Wire, wait};
use millrace_tests::load::send_one;
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload};

const MINUTE: Duration = Duration::from_secs(60);

/// Brokers that look at all their segments every second.
fn watchful() -> Options {
    Options::three()
        .with("log.initial.task.delay.ms", "1000")
        .with("millrace.scrub.interval.ms", "1000")
        .with("millrace.scrub.bytes.per.second", "100000000")
}

/// The segments of a partition, oldest first; all but the last are sealed.
fn segments(data: &Path, partition: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join(partition)).expect("the partition lies here");
    let paths = entries.flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|is| is == "log"))
        .collect();
    logs.sort();
    logs
}

/// Flips a bit of a file that is in use; returns what the file held.
fn flip(file: &Path, at: usize) -> Vec<u8> {
    let before = fs::read(file).expect("the segment is there");
    let opened = OpenOptions::new().write(true).open(file);
    let opened = opened.expect("it can be written");
    opened
        .write_all_at(&[before[at] ^ 0x10], at as u64)
        .expect("one byte");
    before
}

/// Waits until what was flipped is as it was, and the replica is in sync again.
fn wait_mended(cluster: &Cluster, file: &Path, at: usize, was: &[u8]) {
    wait::until("the replica to be mended", MINUTE, || {
        let now = fs::read(file).unwrap_or_default();
        match now.get(..=at) == was.get(..=at) {
            true => Ok(()),
            false => Err(format!("{} bytes, still different", now.len())),
        }
    });
    cluster.wait_in_sync(TOPIC, MINUTE);
}

#[test]
fn bits_flipped_while_serving() {
    let mut workload = Workload::default().with("segment.bytes", "1048576");
    workload.partitions = 2;
    workload.pace.value_bytes = 2_000;
    let run = Run::start("bits flipped while serving", &watchful(), &workload);
    let name = format!("{TOPIC}-0");
    let sealed = |id: &i32| segments(run.cluster.node(*id).data(), &name).len() > 2;
    while !run.cluster.ids().iter().all(sealed) {
        run.wait_progress(MINUTE);
    }
    // A follower, in the middle of a segment.
    let leader = run.cluster.leader_of(TOPIC, 0);
    let follower = run.cluster.other_than(leader);
    let data = run.cluster.node(follower).data().to_owned();
    let file = segments(&data, &name).swap_remove(0);
    let at = fs::metadata(&file).expect("it is there").len() as usize / 2;
    let was = flip(&file, at);
    wait_mended(&run.cluster, &file, at, &was);
    run.wait_progress(MINUTE);

    // The leader, in the head of a batch: the first one, and where its length stands.
    let leader = run.cluster.leader_of(TOPIC, 0);
    let data = run.cluster.node(leader).data().to_owned();
    let file = segments(&data, &name).swap_remove(1);
    let was = flip(&file, 10);
    wait::until("another leader", MINUTE, || {
        match run.cluster.leader_of(TOPIC, 0) {
            now if now == leader => Err(format!("{now} still leads")),
            _ => Ok(()),
        }
    });
    wait_mended(&run.cluster, &file, 10, &was);
    run.finish().expect_sound();
}

fn fetch(port: u16, offset: i64) -> PartitionData {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_static_str("alone")))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let mut wire = Wire::connect(port, Duration::from_secs(5)).expect("a live broker");
    let answer = wire.call(&request, 12).expect("an answer");
    answer.responses[0].partitions[0].clone()
}

#[test]
fn a_replica_without_others_serves_what_is_sound() {
    const CORRUPT_MESSAGE: i16 = 2;
    let cluster = Cluster::start(&watchful());
    let topic = NewTopic {
        name: "alone",
        assignment: vec![vec![1]],
        partitions: 1,
        replication: 1,
        configs: vec![("min.insync.replicas", "1"), ("segment.bytes", "1048576")],
    };
    let admin = cluster.admin();
    admin.create_topic(&topic).expect("a live cluster");
    cluster.wait_in_sync("alone", MINUTE);
    let bootstrap = cluster.bootstrap();
    let value = vec![7; 300_000];
    for _ in 0..8 {
        wait::until("a record", MINUTE, || {
            send_one(&bootstrap, "alone", 0, &value, "all")
        });
    }
    let file = segments(cluster.node(1).data(), "alone-0").swap_remove(0);
    let size = fs::metadata(&file).expect("it is there").len() as usize;
    assert!(size > 900_000, "three records are in the first segment");
    // The second record.
    flip(&file, size / 2);
    let port = cluster.node(1).client_port();
    wait::until("the damage to be known", MINUTE, || {
        match fetch(port, 1).error_code {
            CORRUPT_MESSAGE => Ok(()),
            error => Err(format!("error {error}")),
        }
    });
    for offset in [0, 2, 3, 7] {
        let answer = fetch(port, offset);
        let bytes = answer.records.map_or(0, |records| records.len());
        assert!(answer.error_code == 0 && bytes > 0, "offset {offset}");
    }
    send_one(&bootstrap, "alone", 0, &value, "all").expect("it takes records as before");
    let after = fs::metadata(&file).expect("nothing is deleted").len() as usize;
    assert_eq!(after, size);
}
