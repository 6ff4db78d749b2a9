//! The topic a bench works on.

use clap::Args;
use millrace_client::{Cluster, NewTopic, TopicView};
use millrace_model::ErrorCode;

use crate::failure::Failure;

/// The topic, and what it shall be where it is not there yet.
#[derive(Args, Clone, Debug)]
pub struct TopicArgs {
    /// The topic; created where it does not exist, and kept
    #[arg(long, value_name = "TOPIC", default_value = "millrace-bench")]
    pub topic: String,
    /// Partitions of a topic that is created
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas of a topic that is created [default: what the cluster gives]
    #[arg(long, value_name = "N")]
    replication_factor: Option<i16>,
    /// A setting of a topic that is created, as millrace.durability=page-cache; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    topic_config: Vec<String>,
    /// Delete the topic at the end
    #[arg(long)]
    delete_topic: bool,
}

impl TopicArgs {
    /// The topic, with a leader for every partition.
    pub async fn ready(&self, cluster: &Cluster) -> Result<TopicView, Failure> {
        let seen = cluster.topic_afresh(&self.topic, false).await;
        if matches!(&seen, Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition)) {
            let configs = crate::properties::collect(None, &self.topic_config)?;
            let new = NewTopic {
                name: self.topic.clone(),
                partitions: Some(self.partitions),
                replication_factor: self.replication_factor,
                configs,
                ..NewTopic::default()
            };
            match cluster.create_topic(&new).await {
                // Somebody else was quicker.
                Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                created => created.map_err(|error| self.failure(&error))?,
            }
        }
        let ready = cluster.topic_ready(&self.topic, false).await;
        ready.map_err(|error| self.failure(&error))
    }

    /// Deletes the topic if that was asked for.
    pub async fn end(&self, cluster: &Cluster) -> Result<(), Failure> {
        if !self.delete_topic {
            return Ok(());
        }
        let deleted = cluster.delete_topic(&self.topic).await;
        deleted.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!("{}: {error}", self.topic))
    }
}
