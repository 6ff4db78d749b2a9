//! AlterReplicaLogDirs (key 34), versions 1 to 2.
//!
//! - 2: flexible.
//!
//! The answer says that the moves have begun; DescribeLogDirs shows how far they are. A replica that
//! is not on this broker is REPLICA_NOT_AVAILABLE, as in Kafka; unlike there nothing is remembered
//! for the day when it comes. A move that a restart cuts off is not taken up again.

use std::collections::BTreeMap;

use millrace_model::ErrorCode;
use millrace_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use millrace_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};
use millrace_storage::{DirectoryState, MoveRefusal};

use super::Context;
use super::errors::find_replica;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 2);

/// Begins to move replicas to other log directories of this broker.
pub async fn handle(
    context: &Context,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    // As in Kafka, the directory named last counts where a replica is named twice.
    let mut wanted: BTreeMap<(String, i32), String> = BTreeMap::new();
    for directory in request.dirs {
        for topic in directory.topics {
            for index in topic.partitions {
                wanted.insert((topic.name.clone(), index), directory.path.clone());
            }
        }
    }
    let mut topics: BTreeMap<String, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for ((topic, index), path) in wanted {
        let begun = begin(context, &path, &topic, index);
        let result = AlterReplicaLogDirPartitionResult {
            partition_index: index,
            error_code: begun.err().unwrap_or(ErrorCode::None).code(),
            ..Default::default()
        };
        topics.entry(topic).or_default().push(result);
    }
    let results = topics
        .into_iter()
        .map(|(name, partitions)| AlterReplicaLogDirTopicResult {
            topic_name: name,
            partitions,
            ..Default::default()
        });
    AlterReplicaLogDirsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn begin(context: &Context, path: &str, topic: &str, index: i32) -> Result<(), ErrorCode> {
    let store = &context.node.broker().store;
    // Kafka compares names, not places.
    let directories = store.directories();
    let named = |state: &&DirectoryState| state.path.as_os_str() == path;
    let named = directories.iter().find(named);
    let path = &named.ok_or(ErrorCode::LogDirNotFound)?.path;
    store.check_directory(path).map_err(code_of)?;
    let replica = find_replica(context, topic, index).map_err(|error| match error {
        // As Kafka, for the sake of older clients.
        ErrorCode::NotLeaderOrFollower => ErrorCode::ReplicaNotAvailable,
        error => error,
    })?;
    store.move_log(replica.id(), path).map_err(code_of)
}

fn code_of(refusal: MoveRefusal) -> ErrorCode {
    match refusal {
        MoveRefusal::NoDirectory => ErrorCode::LogDirNotFound,
        MoveRefusal::Offline => ErrorCode::KafkaStorageError,
        MoveRefusal::NoLog => ErrorCode::ReplicaNotAvailable,
    }
}
