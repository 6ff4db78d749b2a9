//! Several log directories on one broker: where replicas are, and what is left when some fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_model::{ErrorCode, Timestamp};
use millrace_protocol::batch::BatchBuilder;
use millrace_protocol::compression::Compression;
use millrace_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use millrace_protocol::messages::alter_replica_log_dirs_response::AlterReplicaLogDirsResponse;
use millrace_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use millrace_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsResponse, DescribeLogDirsResult,
};
use millrace_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millrace_protocol::messages::metadata_response::MetadataResponse;
use millrace_protocol::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millrace_protocol::messages::produce_response::ProduceResponse;
use tempfile::TempDir;

use crate::consumer_groups::http_get;
use crate::support::node::TestNode;
use crate::support::wire::Wire;
use crate::topics::create;

/// A node whose metadata and half of whose logs are in `a`, the others in `b`.
struct TwoDirectories {
    node: TestNode,
    wire: Wire,
    folder: TempDir,
}

impl TwoDirectories {
    async fn start() -> TwoDirectories {
        let folder = TempDir::new().unwrap();
        let at = folder.path().display();
        let properties = format!("log.dirs={at}/a,{at}/b\nmillrace.http.listener=127.0.0.1:0\n");
        let node = TestNode::start(&properties).await;
        let wire = node.connect().await;
        TwoDirectories { node, wire, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A log directory as the node describes it.
    async fn describe(&mut self, name: &str) -> DescribeLogDirsResult {
        let request = DescribeLogDirsRequest {
            topics: None,
            ..Default::default()
        };
        let response: DescribeLogDirsResponse = self.wire.ask(4, &request).await;
        let path = self.path(name).display().to_string();
        let mut results = response.results.into_iter();
        results.find(|result| result.log_dir == path).unwrap()
    }

    /// The partitions of the topic `t` that the node says are in a directory.
    async fn partitions_in(&mut self, name: &str) -> BTreeSet<i32> {
        let described = self.describe(name).await;
        assert_eq!(described.error_code, 0);
        let topics = described
            .topics
            .into_iter()
            .filter(|topic| topic.name == "t");
        let partitions = topics.flat_map(|topic| topic.partitions);
        partitions
            .map(|partition| partition.partition_index)
            .collect()
    }

    async fn produce(&mut self, partition: i32) -> ErrorCode {
        let mut batch = BatchBuilder::compressed(Compression::None);
        batch.push(Timestamp(1_000), None, Some(b"value"), &[]);
        let records = batch.build().unwrap();
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: "t",
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(&records),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: ProduceResponse = self.wire.ask(9, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        ErrorCode::from_code(partition.error_code).unwrap()
    }

    async fn alter(&mut self, path: &Path, topic: &str, partition: i32) -> ErrorCode {
        let request = AlterReplicaLogDirsRequest {
            dirs: vec![AlterReplicaLogDir {
                path: path.display().to_string(),
                topics: vec![AlterReplicaLogDirTopic {
                    name: topic.to_owned(),
                    partitions: vec![partition],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let response: AlterReplicaLogDirsResponse = self.wire.ask(2, &request).await;
        ErrorCode::from_code(response.results[0].partitions[0].error_code).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        http_get(self.node.broker.http_port().unwrap(), path).await
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn names_in(directory: &Path) -> BTreeSet<i32> {
    let names = fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_prefix("t-")?.parse().ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_directory_takes_only_its_replicas() {
    let mut on = TwoDirectories::start().await;
    create(&mut on.wire, "t", 6).await;
    for partition in 0..6 {
        while on.produce(partition).await != ErrorCode::None {
            pause().await;
        }
    }
    let lost = on.partitions_in("b").await;
    assert_eq!((lost.len(), &lost), (3, &names_in(&on.path("b"))));
    assert_eq!(on.partitions_in("a").await, names_in(&on.path("a")));

    // Nothing is left to be told of in the end but the failure.
    fs::rename(on.path("b"), on.path("away")).unwrap();
    while on.describe("b").await.error_code == 0 {
        pause().await;
    }
    let described = on.describe("b").await;
    assert_eq!(described.error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!((described.topics.len(), described.total_bytes), (0, -1));
    assert_eq!(on.partitions_in("a").await.len(), 3);
    for partition in 0..6 {
        let wanted = match lost.contains(&partition) {
            true => ErrorCode::KafkaStorageError,
            false => ErrorCode::None,
        };
        assert_eq!(on.produce(partition).await, wanted, "{partition}");
    }
    let ready = on.get("/ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("/b has failed"), "{ready}");
    let metrics = on.get("/metrics").await;
    assert!(
        metrics.contains("millrace_log_directories_offline 1\n"),
        "{metrics}"
    );

    // The controller knows whom nobody else can replace.
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("t".to_owned()),
            ..Default::default()
        }]),
        ..Default::default()
    };
    loop {
        let response: MetadataResponse = on.wire.ask(12, &request).await;
        let partitions = &response.topics[0].partitions;
        let offline = partitions.iter().filter(|of| of.offline_replicas == [1]);
        let offline: BTreeSet<i32> = offline.map(|of| of.partition_index).collect();
        let leaderless = partitions.iter().filter(|of| of.leader_id == -1);
        let leaderless: BTreeSet<i32> = leaderless.map(|of| of.partition_index).collect();
        assert!(offline.is_subset(&lost) && leaderless.is_subset(&lost));
        if offline == lost && leaderless == lost {
            break;
        }
        pause().await;
    }

    // Without its metadata it cannot go on.
    fs::rename(on.path("a"), on.path("away-too")).unwrap();
    let why = on.node.broker.wait().await.to_string();
    let sentence = format!(
        "Shutdown broker because all log dirs in {}, {} have failed",
        on.path("a").display(),
        on.path("b").display()
    );
    assert!(why.starts_with(&sentence), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_between_directories() {
    let mut on = TwoDirectories::start().await;
    create(&mut on.wire, "t", 4).await;
    for partition in 0..4 {
        while on.produce(partition).await != ErrorCode::None {
            pause().await;
        }
    }
    let before = on.partitions_in("b").await;
    let partition = *before.first().unwrap();
    let (a, b) = (on.path("a"), on.path("b"));
    let nowhere = on.path("c");
    // The same place by another name, which Kafka refuses too.
    let named_otherwise = PathBuf::from(format!("{}/", b.display()));
    for (path, topic, index, error) in [
        (&nowhere, "t", partition, ErrorCode::LogDirNotFound),
        (&named_otherwise, "t", partition, ErrorCode::LogDirNotFound),
        (&a, "u", 0, ErrorCode::UnknownTopicOrPartition),
        (&a, "t", 9, ErrorCode::UnknownTopicOrPartition),
        (&b, "t", partition, ErrorCode::None),
        (&a, "t", partition, ErrorCode::None),
    ] {
        assert_eq!(
            on.alter(path, topic, index).await,
            error,
            "{path:?} {topic}-{index}"
        );
    }
    while on.partitions_in("a").await.len() < 3 {
        assert_eq!(on.produce(partition).await, ErrorCode::None);
        pause().await;
    }
    while on.partitions_in("b").await.contains(&partition) {
        pause().await;
    }
    assert_eq!(on.produce(partition).await, ErrorCode::None);
    assert_eq!(names_in(&a), on.partitions_in("a").await);
    // The controller knows where it is: it goes with that directory.
    fs::rename(&b, on.path("away")).unwrap();
    while on.describe("b").await.error_code == 0 {
        pause().await;
    }
    assert_eq!(
        on.alter(&b, "t", partition).await,
        ErrorCode::KafkaStorageError
    );
    assert_eq!(on.produce(partition).await, ErrorCode::None);
}
