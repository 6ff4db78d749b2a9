//! Topics that the broker itself writes (Kafka class `org.apache.kafka.common.internals.Topic`).

/// Whether clients may not write to this topic nor make it themselves.
pub fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

/// The name of Kafka's metadata log, which is no topic.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
