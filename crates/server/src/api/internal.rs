//! Topics that the broker itself writes (Kafka class `org.apache.kafka.common.internals.Topic`).

use millrace_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

use super::Context;
use super::metadata::auto_creation;
use crate::Config;

/// What groups remember: their members, and the offsets they have committed.
pub const GROUP_OFFSETS: &str = "__consumer_offsets";

/// The name of Kafka's metadata log, which is no topic.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// The least `segment.bytes` that a topic may have.
const LEAST_SEGMENT_BYTES: i64 = 1 << 20;

/// Whether clients may not write to this topic nor make it themselves.
pub fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        GROUP_OFFSETS | "__transaction_state" | "__share_group_state"
    )
}

/// Makes an internal topic unless it exists. What came of it is seen in the image: with too few
/// brokers for its replication factor nothing, as in Kafka.
pub async fn create_missing(context: &Context, name: &'static str) {
    let is_there = || context.node.image().topic_named(name).is_some();
    if is_there() {
        return;
    }
    // Many clients ask at once when a cluster is new; one request is enough.
    let _alone = context.node.broker().making_internal_topics.lock().await;
    if is_there() {
        return;
    }
    if let Err(why) =
        auto_creation::create(context, vec![group_offsets(&context.node.config())]).await
    {
        tracing::warn!(topic = name, %why, "cannot make an internal topic");
    }
}

/// The topic of offsets as Kafka makes it (`GroupCoordinatorService.groupMetadataTopicConfigs`). As
/// there the broker's own setting may be less than a topic's; Kafka then makes no such topic, and
/// no group ever finds its coordinator. Here the topic gets the least that it may have.
fn group_offsets(config: &Config) -> CreatableTopic {
    let segment_bytes = config.offsets.segment_bytes.max(LEAST_SEGMENT_BYTES);
    let set = |name: &str, value: String| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value),
        ..Default::default()
    };
    CreatableTopic {
        name: GROUP_OFFSETS.to_owned(),
        num_partitions: config.offsets.partitions,
        replication_factor: config.offsets.replication_factor,
        configs: vec![
            set("cleanup.policy", "compact".to_owned()),
            set("compression.type", "producer".to_owned()),
            set("segment.bytes", segment_bytes.to_string()),
        ],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::topic::check_topic;

    #[test]
    fn small_segments_do_not_keep_the_topic_of_offsets_from_being_made() {
        for (given, bytes) in [
            ("1", "1048576"),
            ("1048575", "1048576"),
            ("2000000", "2000000"),
        ] {
            let config = Config::parse(&format!(
                "process.roles=broker,controller\nnode.id=1\n\
                 controller.quorum.voters=1@localhost:9093\n\
                 controller.listener.names=CONTROLLER\n\
                 listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
                 offsets.topic.segment.bytes={given}\n"
            ))
            .expect("Kafka takes these too");
            let configs = group_offsets(&config).configs.into_iter();
            let configs: BTreeMap<_, _> = configs.map(|one| (one.name, one.value)).collect();
            assert_eq!(configs["segment.bytes"].as_deref(), Some(bytes));
            check_topic(&config.settings, &configs).expect("a topic may have these");
        }
    }
}
