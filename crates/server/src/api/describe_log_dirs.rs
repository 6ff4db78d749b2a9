//! DescribeLogDirs (key 35), versions 1 to 5.
//!
//! - 2: flexible; 3: an error of the whole (KIP-784); 4: bytes of the volume (KIP-827);
//! - 5: whether the directory is cordoned (KIP-1066): never here.
//!
//! A directory that failed is listed with KAFKA_STORAGE_ERROR and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{DirectoryId, ErrorCode};
use millrace_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use millrace_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millrace_storage::{DirectoryState, Log};

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 5);

/// Tells what lies in every log directory of this broker.
pub async fn handle(context: &Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let store = &context.node.broker().store;
    let mut by_directory: BTreeMap<DirectoryId, Vec<Arc<Log>>> = BTreeMap::new();
    for log in store.logs() {
        if is_asked_for(&request, &log) {
            let logs = by_directory.entry(log.directory_id());
            logs.or_default().push(log);
        }
    }
    let mut results = Vec::new();
    for directory in store.directories() {
        let logs = by_directory.remove(&directory.id).unwrap_or_default();
        results.push(describe(context, directory, logs).await);
    }
    DescribeLogDirsResponse {
        results,
        ..Default::default()
    }
}

fn is_asked_for(request: &DescribeLogDirsRequest, log: &Log) -> bool {
    let Some(topics) = &request.topics else {
        return true;
    };
    topics.iter().any(|topic| {
        topic.topic == log.topic().as_str() && topic.partitions.contains(&log.id().index)
    })
}

async fn describe(
    context: &Context,
    directory: DirectoryState,
    logs: Vec<Arc<Log>>,
) -> DescribeLogDirsResult {
    let log_dir = directory.path.display().to_string();
    let space = context.node.broker().store.space(directory.id).await;
    let Some(space) = space.ok().filter(|_| directory.offline.is_none()) else {
        return DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError.code(),
            log_dir,
            total_bytes: -1,
            usable_bytes: -1,
            ..Default::default()
        };
    };
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    DescribeLogDirsResult {
        log_dir,
        topics: by_topic(&logs),
        total_bytes: signed(space.total_bytes),
        usable_bytes: signed(space.free_bytes),
        ..Default::default()
    }
}

fn by_topic(logs: &[Arc<Log>]) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in logs {
        let partitions = topics.entry(log.topic().as_str()).or_default();
        partitions.push(DescribeLogDirsPartition {
            partition_index: log.id().index,
            partition_size: i64::try_from(log.size_bytes()).unwrap_or(i64::MAX),
            ..Default::default()
        });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| DescribeLogDirsTopic {
            name: name.to_owned(),
            partitions,
            ..Default::default()
        });
    topics.collect()
}
