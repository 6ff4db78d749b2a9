//! `millrace groups`: lists, describes, deletes groups of consumers and moves their offsets, with the
//! options and the output of `kafka-consumer-groups.sh`.

mod describe;
mod list;
mod reset;
mod time;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use millrace_client::{ClientError, Cluster, TopicPartition};
use millrace_model::ErrorCode;

use crate::connect::Bootstrap;
use crate::failure::Failure;

pub use list::{AllGroupsArgs, run_all};

/// What stands in a column that has no value.
const MISSING: &str = "-";

/// List, describe or delete groups of consumers, or move their offsets.
#[derive(Args, Debug)]
pub struct GroupsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    action: Action,
    /// A group; may be repeated
    #[arg(long, value_name = "GROUP", action = ArgAction::Append)]
    group: Vec<String>,
    /// All groups
    #[arg(long, conflicts_with = "group")]
    all_groups: bool,
    /// A topic, or some of its partitions as TOPIC:0,1,2; may be repeated
    #[arg(long, value_name = "TOPIC", action = ArgAction::Append)]
    topic: Vec<String>,
    /// All topics that the group has offsets of
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    /// With --describe: who is in the group
    #[arg(long)]
    members: bool,
    /// With --describe: how far the group has come; this is what it does by itself
    #[arg(long)]
    offsets: bool,
    /// With --describe: the group's state. With --list: show states, or only groups in these
    #[arg(long, value_name = "STATE,STATE,...", num_args = 0..=1, default_missing_value = "")]
    state: Option<String>,
    /// With --list: show types, or only groups of these
    #[arg(long = "type", value_name = "TYPE,TYPE,...", num_args = 0..=1, default_missing_value = "")]
    kind: Option<String>,
    /// With --describe: more columns
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    reset: Reset,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    timeout: Option<u64>,
}

#[derive(Args, Debug)]
struct Action {
    /// List groups
    #[arg(long)]
    list: bool,
    /// Show offsets, members or the state of groups
    #[arg(long)]
    describe: bool,
    /// Delete groups without members, and their offsets
    #[arg(long)]
    delete: bool,
    /// Move the offsets of groups without members
    #[arg(long)]
    reset_offsets: bool,
    /// Delete offsets of a group
    #[arg(long)]
    delete_offsets: bool,
}

/// Where offsets shall be moved to, and whether they really are.
#[derive(Args, Debug)]
struct Reset {
    /// To this offset, or the nearest there is
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    to_offset: Option<i64>,
    /// To the first offset
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To where it is; to the end where the group has no offset
    #[arg(long)]
    to_current: bool,
    /// To the first record as new as YYYY-MM-DDThh:mm:ss.sss
    #[arg(long, value_name = "DATETIME")]
    to_datetime: Option<String>,
    /// To the first record that is at most as old as PnDTnHnMnS
    #[arg(long, value_name = "DURATION")]
    by_duration: Option<String>,
    /// By so many records forward, or back if negative
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To what lines of TOPIC,PARTITION,OFFSET say, or of GROUP,TOPIC,PARTITION,OFFSET
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Show only what would be done
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Really move them
    #[arg(long)]
    execute: bool,
    /// Print lines that --from-file reads
    #[arg(long)]
    export: bool,
}

/// Runs the command.
pub async fn run(args: GroupsArgs) -> Result<(), Failure> {
    let actions = [
        args.action.list,
        args.action.describe,
        args.action.delete,
        args.action.reset_offsets,
        args.action.delete_offsets,
    ];
    if actions.iter().filter(|given| **given).count() != 1 {
        return Err(Failure::new(
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, \
             --delete-offsets, --validate-regex.",
        ));
    }
    check(&args)?;
    let cluster = args.bootstrap.cluster("groups")?;
    let done = match actions.iter().position(|given| *given) {
        Some(0) => list::list(&cluster, &args).await,
        Some(1) => describe::describe(&cluster, &args).await,
        Some(2) => delete(&cluster, &args).await,
        Some(3) => reset::reset(&cluster, &args).await,
        _ => delete_offsets(&cluster, &args).await,
    };
    match done {
        Err(error) if error.exit_code == TOLD => {
            // The stock tool ends with 0 when a cluster refuses.
            println!(
                "\nError: Executing consumer group command failed due to {}",
                error.message
            );
            Ok(())
        }
        done => done,
    }
}

/// Marks a failure that is told on standard output, as the stock tool does.
const TOLD: u8 = 0;

/// A failure of the cluster, in Java's words.
fn told(error: &ClientError) -> Failure {
    Failure {
        message: java_words(error),
        exit_code: TOLD,
    }
}

/// What the combinations of options must hold to (Kafka class `ConsumerGroupCommandOptions`).
fn check(args: &GroupsArgs) -> Result<(), Failure> {
    let action = &args.action;
    let has_groups = args.all_groups || !args.group.is_empty();
    let missing = |name: &str| {
        Err(Failure::new(format!(
            "Option [{name}] takes one of these options: [all-groups], [group]"
        )))
    };
    if action.describe {
        if !has_groups {
            return missing("describe");
        }
        let ways = [args.members, args.offsets, args.state.is_some()];
        if ways.iter().filter(|given| **given).count() > 1 {
            return Err(Failure::new(
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ));
        }
        if args.state.as_deref().is_some_and(|state| !state.is_empty()) {
            return Err(Failure::new(
                "Option [describe] does not take a value for [state]",
            ));
        }
    }
    if action.delete {
        if !has_groups {
            return missing("delete");
        }
        if !args.topic.is_empty() {
            return Err(Failure::new(
                "The consumer does not support topic-specific offset deletion from a consumer group.",
            ));
        }
    }
    if action.delete_offsets && (args.group.len() != 1 || args.topic.is_empty()) {
        return Err(Failure::new(
            "Option [delete-offsets] takes the following options: [topic], [group]",
        ));
    }
    if action.reset_offsets && !has_groups {
        return missing("reset-offsets");
    }
    Ok(())
}

/// The groups that were named, or all.
async fn wanted(cluster: &Cluster, args: &GroupsArgs) -> Result<Vec<String>, Failure> {
    if !args.all_groups {
        let mut groups = args.group.clone();
        groups.sort();
        groups.dedup();
        return Ok(groups);
    }
    let all = cluster.list_groups(&[], &[]).await;
    let all = all.map_err(|error| told(&error))?;
    let of_consumers = all.into_iter().filter(list::is_of_consumers);
    Ok(of_consumers.map(|group| group.id).collect())
}

async fn delete(cluster: &Cluster, args: &GroupsArgs) -> Result<(), Failure> {
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for group in wanted(cluster, args).await? {
        match cluster.delete_group(&group).await {
            Ok(()) => deleted.push(group),
            Err(error) => failed.push((group, error)),
        }
    }
    let names = |groups: &[String]| {
        let quoted: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
        quoted.join(", ")
    };
    if failed.is_empty() {
        println!(
            "Deletion of requested consumer groups ({}) was successful.",
            names(&deleted)
        );
        return Ok(());
    }
    println!("\nError: Deletion of some consumer groups failed:");
    for (group, error) in failed {
        println!(
            "* Group '{group}' could not be deleted due to: {}",
            java_words(&error)
        );
    }
    if !deleted.is_empty() {
        println!(
            "\nThese consumer groups were deleted successfully: {}",
            names(&deleted)
        );
    }
    Ok(())
}

async fn delete_offsets(cluster: &Cluster, args: &GroupsArgs) -> Result<(), Failure> {
    let group = &args.group[0];
    let mut outcomes: BTreeMap<TopicPartition, Option<String>> = BTreeMap::new();
    let partitions = partitions_of(cluster, &args.topic, |topic, error| {
        outcomes.insert((topic.to_owned(), -1), Some(java_words(error)));
    });
    let partitions = partitions.await?;
    match cluster.delete_offsets(group, &partitions).await {
        Ok(answers) => {
            let failed = answers.values().any(Result::is_err);
            outcomes.extend(
                answers
                    .into_iter()
                    .map(|(partition, outcome)| (partition, outcome.err().map(|e| java_words(&e)))),
            );
            match failed {
                true => println!(
                    "\nError: Encountered some partition-level error, see the follow-up details."
                ),
                false => println!("Request succeeded for deleting offsets from group {group}."),
            }
        }
        Err(error) => {
            println!("\nError: {}", words(&error));
            let refused = partitions.into_iter();
            outcomes.extend(refused.map(|partition| (partition, Some(java_words(&error)))));
        }
    }
    let widest = outcomes.keys().map(|(topic, _)| topic.len()).max();
    let width = widest.unwrap_or(0).max(15);
    print!("\n{:<width$} {:<10} {:<15}", "TOPIC", "PARTITION", "STATUS");
    for ((topic, partition), error) in outcomes {
        let partition = match partition {
            -1 => MISSING.to_owned(),
            partition => partition.to_string(),
        };
        let status = match error {
            Some(error) => format!("Error: {error}"),
            None => "Successful".to_owned(),
        };
        print!("\n{topic:<width$} {partition:<10} {status:<15}");
    }
    println!();
    Ok(())
}

/// The partitions that arguments like `t` and `t:0,1` name; topics that are not there go to `missing`.
async fn partitions_of(
    cluster: &Cluster,
    topics: &[String],
    mut missing: impl FnMut(&str, &ClientError),
) -> Result<Vec<TopicPartition>, Failure> {
    let mut partitions = Vec::new();
    for argument in topics {
        if let Some((topic, indexes)) = argument.split_once(':') {
            for index in indexes.split(',') {
                let index = index.parse().map_err(|_| {
                    Failure::new(format!(
                        "Invalid partition '{index}' specified in topic arg '{argument}''"
                    ))
                })?;
                partitions.push((topic.to_owned(), index));
            }
            continue;
        }
        match cluster.topic_afresh(argument, false).await {
            Ok(topic) => {
                let indexes = topic.partitions.iter().map(|partition| partition.index);
                partitions.extend(indexes.map(|index| (argument.clone(), index)));
            }
            Err(error) => missing(argument, &error),
        }
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}

/// An error as Java's clients name and explain it.
fn java_words(error: &ClientError) -> String {
    match error.code() {
        None => error.to_string(),
        Some(code) => {
            let class = match code {
                ErrorCode::UnknownTopicOrPartition => "UnknownTopicOrPartitionException".to_owned(),
                code => {
                    let words = code.name().split('_').map(|word| {
                        let (first, rest) = word.split_at(1);
                        first.to_owned() + &rest.to_lowercase()
                    });
                    words.collect::<String>() + "Exception"
                }
            };
            format!("org.apache.kafka.common.errors.{class}: {}", words(error))
        }
    }
}

/// The broker's own words, else Kafka's for the code.
fn words(error: &ClientError) -> String {
    let ClientError::Broker { code, message } = error else {
        return error.to_string();
    };
    if let Some(message) = message {
        return message.clone();
    }
    let text = match code {
        ErrorCode::GroupIdNotFound => "The group id does not exist.",
        ErrorCode::NonEmptyGroup => "The group is not empty.",
        ErrorCode::InvalidGroupId => "The configured groupId is invalid.",
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::GroupSubscribedToTopic => {
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed \
             to it."
        }
        ErrorCode::CoordinatorNotAvailable => "The coordinator is not available.",
        ErrorCode::UnknownMemberId => "The coordinator is not aware of this member.",
        code => code.name(),
    };
    text.to_owned()
}
