//! DescribeLogDirs (key 35), versions 1 to 5.
//!
//! - 2: flexible; 3: an error of the whole (KIP-784); 4: bytes of the volume (KIP-827);
//! - 5: whether the directory is cordoned (KIP-1066): never here.
//!
//! A directory that failed is listed with KAFKA_STORAGE_ERROR and nothing else. Of a replica that is on
//! its way in the lag in offsets is told as the part of its bytes that is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_model::{DirectoryId, ErrorCode};
use millrace_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use millrace_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millrace_storage::{DirectoryState, FutureLog, Log};

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 5);

/// Tells what lies in every log directory of this broker.
pub async fn handle(context: &Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let store = &context.node.broker().store;
    let mut by_directory: BTreeMap<DirectoryId, Vec<Told>> = BTreeMap::new();
    for log in store.logs() {
        if is_asked_for(&request, &log) {
            let told = by_directory.entry(log.directory_id()).or_default();
            told.push(Told { log, future: None });
        }
    }
    for future in store.futures() {
        if let Some(log) = store.log(future.id)
            && is_asked_for(&request, &log)
        {
            let told = by_directory.entry(future.directory).or_default();
            told.push(Told {
                log,
                future: Some(future),
            });
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

/// A log in a directory, or on its way there.
struct Told {
    log: Arc<Log>,
    future: Option<FutureLog>,
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
    logs: Vec<Told>,
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

fn lag_of(log: &Log, future: &FutureLog) -> i64 {
    let bounds = log.bounds();
    let records = i128::from(bounds.log_end.get() - bounds.log_start.get());
    let all = i128::from(future.size_bytes + future.missing_bytes).max(1);
    let lag = records * i128::from(future.missing_bytes) / all;
    i64::try_from(lag).unwrap_or(i64::MAX)
}

fn by_topic(logs: &[Told]) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for Told { log, future } in logs {
        let partitions = topics.entry(log.topic().as_str()).or_default();
        let size = future
            .as_ref()
            .map_or_else(|| log.size_bytes(), |future| future.size_bytes);
        partitions.push(DescribeLogDirsPartition {
            partition_index: log.id().index,
            partition_size: i64::try_from(size).unwrap_or(i64::MAX),
            offset_lag: future.as_ref().map_or(0, |future| lag_of(log, future)),
            is_future_key: future.is_some(),
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
