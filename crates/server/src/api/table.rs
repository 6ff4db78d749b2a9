//! The table itself: one line for each API that is served.

use millrace_protocol::api::ApiKey;

use super::{Api, Handler, ListenerKind, Listeners};
use super::{
    alter_configs, alter_partition_reassignments, alter_replica_log_dirs, api_versions,
    consumer_group_describe, consumer_group_heartbeat, create_partitions, create_topics,
    delete_groups, delete_records, delete_topics, describe_acls, describe_cluster,
    describe_configs, describe_groups, describe_log_dirs, describe_producers, describe_quorum,
    describe_topic_partitions, elect_leaders, fetch, find_coordinator, heartbeat,
    incremental_alter_configs, init_producer_id, join_group, leave_group, list_config_resources,
    list_groups, list_offsets, list_partition_reassignments, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, sync_group, update_features,
};

/// An API that the node answers which got the request.
macro_rules! alone {
    ($key:ident, $module:ident, $listeners:ident) => {
        Api {
            key: ApiKey::$key,
            versions: $module::VERSIONS,
            listeners: Listeners::$listeners,
            handler: Handler::Alone(|context, body| {
                Box::pin(async move {
                    let request = super::decode(&body, context.api_version)?;
                    let response = $module::handle(&context, request).await;
                    super::encode(&response, context.api_version)
                })
            }),
        }
    };
}

/// An API that the active controller answers.
macro_rules! at_controller {
    ($key:ident, $module:ident) => {
        Api {
            key: ApiKey::$key,
            versions: $module::VERSIONS,
            listeners: Listeners::Both,
            handler: Handler::Controller {
                handle: |context, body| {
                    Box::pin(async move {
                        let request = super::decode(&body, context.api_version)?;
                        let response = $module::handle(&context, request).await;
                        super::encode(&response, context.api_version)
                    })
                },
                refuse: |context, body, error, message| {
                    let request = super::decode(body, context.api_version)?;
                    let response = $module::refuse(&request, error, message);
                    super::encode(&response, context.api_version)
                },
            },
        }
    };
}

/// Every API that is served, in the order of the keys.
pub static TABLE: &[Api] = &[
    Api {
        key: ApiKey::Produce,
        versions: produce::VERSIONS,
        listeners: Listeners::Broker,
        handler: Handler::Overlapping(produce::begin),
    },
    Api {
        key: ApiKey::Fetch,
        versions: fetch::VERSIONS,
        listeners: Listeners::Broker,
        handler: Handler::Overlapping(fetch::begin),
    },
    alone!(ListOffsets, list_offsets, Broker),
    alone!(Metadata, metadata, Broker),
    alone!(OffsetCommit, offset_commit, Broker),
    alone!(OffsetFetch, offset_fetch, Broker),
    alone!(FindCoordinator, find_coordinator, Broker),
    alone!(JoinGroup, join_group, Broker),
    alone!(Heartbeat, heartbeat, Broker),
    alone!(LeaveGroup, leave_group, Broker),
    alone!(SyncGroup, sync_group, Broker),
    alone!(DescribeGroups, describe_groups, Broker),
    alone!(ListGroups, list_groups, Broker),
    alone!(ApiVersions, api_versions, Both),
    at_controller!(CreateTopics, create_topics),
    at_controller!(DeleteTopics, delete_topics),
    alone!(DeleteRecords, delete_records, Broker),
    alone!(InitProducerId, init_producer_id, Broker),
    alone!(OffsetForLeaderEpoch, offset_for_leader_epoch, Broker),
    alone!(DescribeAcls, describe_acls, Both),
    alone!(DescribeConfigs, describe_configs, Both),
    at_controller!(AlterConfigs, alter_configs),
    alone!(AlterReplicaLogDirs, alter_replica_log_dirs, Broker),
    alone!(DescribeLogDirs, describe_log_dirs, Broker),
    at_controller!(CreatePartitions, create_partitions),
    alone!(DeleteGroups, delete_groups, Broker),
    at_controller!(ElectLeaders, elect_leaders),
    at_controller!(IncrementalAlterConfigs, incremental_alter_configs),
    at_controller!(AlterPartitionReassignments, alter_partition_reassignments),
    alone!(
        ListPartitionReassignments,
        list_partition_reassignments,
        Both
    ),
    alone!(OffsetDelete, offset_delete, Broker),
    alone!(DescribeQuorum, describe_quorum, Both),
    at_controller!(UpdateFeatures, update_features),
    alone!(DescribeCluster, describe_cluster, Both),
    alone!(DescribeProducers, describe_producers, Broker),
    alone!(ConsumerGroupHeartbeat, consumer_group_heartbeat, Broker),
    alone!(ConsumerGroupDescribe, consumer_group_describe, Broker),
    alone!(ListConfigResources, list_config_resources, Broker),
    alone!(DescribeTopicPartitions, describe_topic_partitions, Broker),
];

/// The APIs that a kind of listener serves.
pub fn served(kind: ListenerKind) -> impl Iterator<Item = &'static Api> {
    TABLE.iter().filter(move |api| api.is_served_on(kind))
}

impl Api {
    /// Whether a kind of listener serves it.
    pub fn is_served_on(&self, kind: ListenerKind) -> bool {
        match self.listeners {
            Listeners::Broker => kind == ListenerKind::Broker,
            Listeners::Both => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rise_and_versions_are_kafkas() {
        assert!(
            TABLE
                .windows(2)
                .all(|pair| pair[0].key.code() < pair[1].key.code())
        );
        for api in TABLE {
            let stable = api.key.stable_versions().unwrap();
            assert_eq!(api.versions, stable, "{}", api.key.name());
        }
    }
}
