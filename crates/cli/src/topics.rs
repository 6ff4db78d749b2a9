//! `millrace topics`: creates, lists, describes, alters and deletes topics, with the options and the
//! output of `kafka-topics.sh`.

use std::collections::BTreeMap;

use clap::{ArgAction, Args, ValueEnum};
use millrace_client::{ClientError, Cluster, NewTopic, TopicDescription};
use millrace_model::{BrokerId, ErrorCode};

use crate::connect::Bootstrap;
use crate::failure::Failure;
use crate::topic_filter::TopicFilter;

/// Create, list, describe, alter or delete topics.
#[derive(Args, Debug)]
pub struct TopicsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    action: Action,
    /// The topic; a regular expression except with --create
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// The topic's id, to describe it
    #[arg(long, value_name = "TOPIC-ID")]
    topic_id: Option<String>,
    /// How many partitions the topic shall have
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// How many replicas each partition shall have
    #[arg(long, value_name = "N")]
    replication_factor: Option<i16>,
    /// The brokers of each partition, as 1:2,2:3 for two partitions of two replicas
    #[arg(long, value_name = "ID:ID,ID:ID,...")]
    replica_assignment: Option<String>,
    /// A setting of the new topic that differs from the cluster's; may be repeated
    #[arg(long, value_name = "NAME=VALUE", action = ArgAction::Append)]
    config: Vec<String>,
    /// Do nothing where the topic does not exist
    #[arg(long)]
    if_exists: bool,
    /// Do nothing where the topic exists
    #[arg(long)]
    if_not_exists: bool,
    /// Leave out the topics that brokers keep for themselves
    #[arg(long)]
    exclude_internal: bool,
    #[command(flatten)]
    only: Only,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    partition_size_limit_per_response: Option<i32>,
    /// How to print a list or a description
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Args, Debug)]
struct Action {
    /// Create a topic
    #[arg(long)]
    create: bool,
    /// List the names of all topics
    #[arg(long)]
    list: bool,
    /// Show partitions, leaders, replicas and settings
    #[arg(long)]
    describe: bool,
    /// Give a topic more partitions
    #[arg(long)]
    alter: bool,
    /// Delete topics
    #[arg(long)]
    delete: bool,
}

/// Which partitions or topics a description is limited to.
#[derive(Args, Debug, Default)]
struct Only {
    /// Only partitions with a replica out of sync
    #[arg(long)]
    under_replicated_partitions: bool,
    /// Only partitions without a leader
    #[arg(long)]
    unavailable_partitions: bool,
    /// Only partitions with fewer replicas in sync than min.insync.replicas
    #[arg(long)]
    under_min_isr_partitions: bool,
    /// Only partitions with just min.insync.replicas in sync
    #[arg(long)]
    at_min_isr_partitions: bool,
    /// Only topics with settings of their own
    #[arg(long)]
    topics_with_overrides: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs the command.
pub async fn run(args: TopicsArgs) -> Result<(), Failure> {
    let actions = [
        args.action.create,
        args.action.list,
        args.action.describe,
        args.action.alter,
        args.action.delete,
    ];
    if actions.iter().filter(|given| **given).count() != 1 {
        return Err(Failure::new(
            "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
        ));
    }
    let cluster = args.bootstrap.cluster("topics")?;
    let outcome = match actions.iter().position(|given| *given) {
        Some(0) => create(&cluster, &args).await,
        Some(1) => list(&cluster, &args).await,
        Some(2) => describe(&cluster, &args).await,
        Some(3) => alter(&cluster, &args).await,
        _ => delete(&cluster, &args).await,
    };
    outcome.map_err(|failure| {
        Failure::new(format!(
            "Error while executing topic command : {}",
            failure.message
        ))
    })
}

fn wanted_topic(args: &TopicsArgs) -> Result<&str, Failure> {
    args.topic
        .as_deref()
        .ok_or_else(|| Failure::new("Missing required argument \"[topic]\""))
}

async fn create(cluster: &Cluster, args: &TopicsArgs) -> Result<(), Failure> {
    let name = wanted_topic(args)?.to_owned();
    if name.contains(['.', '_']) {
        println!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore \
             ('_') could collide. To avoid issues it is best to use either, but not both."
        );
    }
    let assignment = args
        .replica_assignment
        .as_deref()
        .map(parse_assignment)
        .transpose()?;
    let new = NewTopic {
        name: name.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        assignment: assignment.unwrap_or_default(),
        configs: parse_configs(&args.config)?,
    };
    match cluster.create_topic(&new).await {
        Ok(()) => println!("Created topic {name}."),
        Err(error) if exists(&error) && args.if_not_exists => {}
        Err(error) => return Err(own_words(error)),
    }
    Ok(())
}

fn exists(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::TopicAlreadyExists)
}

/// The broker's own sentence, as the stock tool prints it, where there is one.
fn own_words(error: ClientError) -> Failure {
    match error {
        ClientError::Broker {
            message: Some(message),
            ..
        } => Failure::new(message),
        error => error.into(),
    }
}

fn parse_configs(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let parse = |pair: &String| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs: Option<BTreeMap<_, _>> = given.iter().map(parse).collect();
    pairs.ok_or_else(|| {
        Failure::new(
            "requirement failed: Invalid topic config: all configs to be added must be in the \
             format \"key=val\".",
        )
    })
}

fn parse_assignment(text: &str) -> Result<Vec<Vec<BrokerId>>, Failure> {
    let broker = |id: &str| id.trim().parse().map(BrokerId);
    let partition = |brokers: &str| brokers.split(':').map(broker).collect();
    let parsed: Result<Vec<Vec<BrokerId>>, std::num::ParseIntError> =
        text.split(',').map(partition).collect();
    let parsed = parsed.map_err(|error| Failure::new(format!("{text}: {error}")))?;
    let width = parsed.first().map(Vec::len);
    if parsed.iter().any(|replicas| Some(replicas.len()) != width) {
        return Err(Failure::new("Partition 0 has different replication factor"));
    }
    Ok(parsed)
}

/// The topics the filter names; an error where it names none and that matters.
async fn matching(cluster: &Cluster, args: &TopicsArgs) -> Result<Vec<String>, Failure> {
    let filter = args.topic.as_deref().map(TopicFilter::new).transpose()?;
    let topics = cluster.list_topics().await?;
    let names = topics.into_iter().filter(|(name, is_internal)| {
        let named = filter.as_ref().is_none_or(|filter| filter.matches(name));
        named && !(args.exclude_internal && *is_internal)
    });
    Ok(names.map(|(name, _)| name).collect())
}

fn expect_some(names: &[String], args: &TopicsArgs) -> Result<(), Failure> {
    match &args.topic {
        Some(topic) if names.is_empty() && !args.if_exists => Err(Failure::new(format!(
            "Topic '{topic}' does not exist as expected"
        ))),
        _ => Ok(()),
    }
}

async fn list(cluster: &Cluster, args: &TopicsArgs) -> Result<(), Failure> {
    let names = matching(cluster, args).await?;
    match args.output {
        Output::Text => names.iter().for_each(|name| println!("{name}")),
        Output::Json => println!("{}", serde_json::json!(names)),
    }
    Ok(())
}

async fn alter(cluster: &Cluster, args: &TopicsArgs) -> Result<(), Failure> {
    wanted_topic(args)?;
    let count = args
        .partitions
        .ok_or_else(|| Failure::new("Missing required argument \"[partitions]\""))?;
    let assignment = args
        .replica_assignment
        .as_deref()
        .map(parse_assignment)
        .transpose()?;
    let assignment = assignment.unwrap_or_default();
    let names = matching(cluster, args).await?;
    expect_some(&names, args)?;
    for name in names {
        let existing = cluster.topic_afresh(&name, false).await?.partitions.len();
        let added = assignment.get(existing..).unwrap_or_default();
        cluster
            .create_partitions(&name, count, added)
            .await
            .map_err(own_words)?;
    }
    Ok(())
}

async fn delete(cluster: &Cluster, args: &TopicsArgs) -> Result<(), Failure> {
    wanted_topic(args)?;
    let names = matching(cluster, args).await?;
    expect_some(&names, args)?;
    for name in names {
        cluster.delete_topic(&name).await.map_err(own_words)?;
    }
    Ok(())
}

async fn describe(cluster: &Cluster, args: &TopicsArgs) -> Result<(), Failure> {
    let names = matching(cluster, args).await?;
    expect_some(&names, args)?;
    if names.is_empty() {
        return Ok(());
    }
    let mut topics = cluster.describe_topics(&names).await?;
    if let Some(id) = &args.topic_id {
        topics.retain(|topic| topic.id.to_string() == *id);
        if topics.is_empty() && !args.if_exists {
            return Err(Failure::new(format!(
                "TopicId '{id}' does not exist as expected"
            )));
        }
    }
    let configs = cluster.topic_configs(&names).await?;
    let min_isr = min_isr(cluster, &names, &args.only).await?;
    let live: Vec<BrokerId> = cluster.nodes().into_iter().map(|node| node.id).collect();
    let none = BTreeMap::new();
    let mut documents = Vec::new();
    for topic in &topics {
        let configs = configs.get(&topic.name).unwrap_or(&none);
        let shown = Shown {
            topic,
            configs,
            min_isr: min_isr.get(&topic.name).copied(),
            live: &live,
        };
        match args.output {
            Output::Text => print!("{}", shown.text(&args.only)),
            Output::Json => documents.push(shown.json(&args.only)),
        }
    }
    if args.output == Output::Json {
        println!("{}", serde_json::json!(documents));
    }
    Ok(())
}

/// min.insync.replicas of each topic, asked for only where a limit needs it.
async fn min_isr(
    cluster: &Cluster,
    names: &[String],
    only: &Only,
) -> Result<BTreeMap<String, usize>, Failure> {
    if !only.under_min_isr_partitions && !only.at_min_isr_partitions {
        return Ok(BTreeMap::new());
    }
    let settings = cluster.effective_topic_configs(names).await?;
    let value = |settings: &BTreeMap<String, String>| {
        settings
            .get("min.insync.replicas")
            .and_then(|value| value.parse().ok())
            .unwrap_or(1)
    };
    Ok(settings
        .iter()
        .map(|(topic, settings)| (topic.clone(), value(settings)))
        .collect())
}

/// A topic as it is printed.
struct Shown<'a> {
    topic: &'a TopicDescription,
    configs: &'a BTreeMap<String, String>,
    min_isr: Option<usize>,
    live: &'a [BrokerId],
}

impl Shown<'_> {
    fn partitions(
        &self,
        only: &Only,
    ) -> impl Iterator<Item = &millrace_client::PartitionDescription> {
        let min_isr = self.min_isr.unwrap_or(0);
        let everything = !only.under_replicated_partitions
            && !only.unavailable_partitions
            && !only.under_min_isr_partitions
            && !only.at_min_isr_partitions;
        let wanted = (
            only.under_replicated_partitions,
            only.unavailable_partitions,
            only.under_min_isr_partitions,
            only.at_min_isr_partitions,
        );
        self.topic.partitions.iter().filter(move |partition| {
            let unavailable = partition
                .leader
                .is_none_or(|leader| !self.live.contains(&leader));
            everything
                || wanted.0 && partition.isr.len() < partition.replicas.len()
                || wanted.1 && unavailable
                || wanted.2 && partition.isr.len() < min_isr
                || wanted.3 && partition.isr.len() == min_isr
        })
    }

    fn text(&self, only: &Only) -> String {
        if only.topics_with_overrides && self.configs.is_empty() {
            return String::new();
        }
        let limited = only.under_replicated_partitions
            || only.unavailable_partitions
            || only.under_min_isr_partitions
            || only.at_min_isr_partitions;
        let mut text = String::new();
        if !limited {
            let configs = self
                .configs
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            text += &format!(
                "Topic: {}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}\n",
                self.topic.name,
                self.topic.id,
                self.topic.partitions.len(),
                self.topic
                    .partitions
                    .first()
                    .map_or(0, |p| p.replicas.len()),
                configs.collect::<Vec<_>>().join(","),
            );
        }
        if only.topics_with_overrides {
            return text;
        }
        for partition in self.partitions(only) {
            let leader = partition
                .leader
                .map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            let or_not_known = |ids: &Option<Vec<BrokerId>>| match ids {
                Some(ids) => joined(ids),
                None => "N/A".to_owned(),
            };
            text += &format!(
                "\tTopic: {}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: {}\tLastKnownElr: {}\n",
                self.topic.name,
                partition.index,
                joined(&partition.replicas),
                joined(&partition.isr),
                or_not_known(&partition.eligible),
                or_not_known(&partition.last_known_eligible),
            );
        }
        text
    }

    fn json(&self, only: &Only) -> serde_json::Value {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect::<Vec<_>>();
        let partitions = self.partitions(only).map(|partition| {
            serde_json::json!({
                "partition": partition.index,
                "leader": partition.leader.map(BrokerId::get),
                "leaderEpoch": partition.leader_epoch.get(),
                "replicas": ids(&partition.replicas),
                "isr": ids(&partition.isr),
                "elr": partition.eligible.as_deref().map(ids),
                "lastKnownElr": partition.last_known_eligible.as_deref().map(ids),
            })
        });
        serde_json::json!({
            "topic": self.topic.name,
            "topicId": self.topic.id.to_string(),
            "internal": self.topic.is_internal,
            "configs": self.configs,
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }
}

fn joined(ids: &[BrokerId]) -> String {
    ids.iter()
        .map(BrokerId::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
