//! `--reset-offsets`: where a group without members shall go on reading, in seven ways.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_client::{Cluster, TopicPartition};
use millrace_model::Offset;

use super::{GroupsArgs, partitions_of, time, told, wanted};
use crate::failure::Failure;

/// ListOffsets' names for places that are no timestamps.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

type Plan = BTreeMap<TopicPartition, Offset>;

const SCENARIOS: &str = "[[shift-by], [from-file], [to-datetime], [by-duration], [to-latest], \
                         [to-current], [to-earliest], [to-offset]]";

pub(super) async fn reset(cluster: &Cluster, args: &GroupsArgs) -> Result<(), Failure> {
    let execute = args.reset.execute;
    if !execute && !args.reset.dry_run {
        eprintln!(
            "WARN: No action will be performed as the --execute option is missing. In version 5.0, \
             this command will require either --dry-run or --execute to be specified. You should add \
             the --dry-run option explicitly if you are scripting this command and want to keep the \
             current default behavior without prompting."
        );
    }
    check(args)?;
    let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
    for group in wanted(cluster, args).await? {
        // A group that is not there yet may be given offsets to begin with.
        let state = match cluster.describe_group(&group).await {
            Ok(described) => described.state,
            Err(error) if error.code() == Some(millrace_model::ErrorCode::GroupIdNotFound) => {
                "Dead".to_owned()
            }
            Err(error) => return Err(told(&error)),
        };
        if !matches!(state.as_str(), "Empty" | "Dead") {
            println!(
                "\nError: Assignments can only be reset if the group '{group}' is inactive, but the \
                 current state is {state}."
            );
            plans.insert(group, Plan::new());
            continue;
        }
        let plan = plan(cluster, args, &group).await?;
        if execute && !plan.is_empty() {
            let committed = cluster.commit_offsets(&group, &plan).await;
            committed.map_err(|error| told(&error))?;
        }
        plans.insert(group, plan);
    }
    match args.reset.export {
        true => export(args, &plans),
        false => print(&plans),
    }
    Ok(())
}

/// The scope and the way must be clear before a cluster is asked.
fn check(args: &GroupsArgs) -> Result<(), Failure> {
    let reset = &args.reset;
    let ways = [
        reset.to_offset.is_some(),
        reset.to_earliest,
        reset.to_latest,
        reset.to_current,
        reset.to_datetime.is_some(),
        reset.by_duration.is_some(),
        reset.shift_by.is_some(),
        reset.from_file.is_some(),
    ];
    let given = ways.iter().filter(|given| **given).count();
    if given > 1 {
        return Err(Failure::new(format!(
            "Option [reset-offsets] takes only one of these scenarios: {SCENARIOS}"
        )));
    }
    if !args.all_topics && args.topic.is_empty() && reset.from_file.is_none() {
        return Err(Failure::new(
            "One of the reset scopes should be defined: --all-topics, --topic.",
        ));
    }
    if given == 0 {
        return Err(Failure::new(format!(
            "Option '[reset-offsets]' requires one of the following scenarios: {SCENARIOS}"
        )));
    }
    Ok(())
}

async fn plan(cluster: &Cluster, args: &GroupsArgs, group: &str) -> Result<Plan, Failure> {
    let reset = &args.reset;
    if let Some(file) = &reset.from_file {
        let mut plans = read_plans(file, (args.group.len() == 1).then_some(group))?;
        let Some(plan) = plans.remove(group) else {
            println!("\nError: No reset plan for group {group} found");
            return Ok(Plan::new());
        };
        return within_range(cluster, plan).await;
    }
    let committed = cluster.committed_offsets(group).await;
    let committed = committed.map_err(|error| told(&error))?;
    let partitions: Vec<TopicPartition> = match args.all_topics {
        true => committed.keys().cloned().collect(),
        false => {
            let mut missing = None;
            let found = partitions_of(cluster, &args.topic, |_, error| missing = Some(told(error)));
            let found = found.await?;
            match missing {
                Some(failure) => return Err(failure),
                None => found,
            }
        }
    };
    let timestamp = match (&reset.to_datetime, &reset.by_duration) {
        (Some(text), _) => Some(time::datetime(text)?),
        (None, Some(text)) => {
            let now = cluster.machine().clock.wall().get();
            Some(now.saturating_sub(time::duration_ms(text)?))
        }
        (None, None) => None,
    };
    let mut plan = Plan::new();
    for partition in partitions {
        let current = committed.get(&partition).map(|committed| committed.offset);
        let offset = if let Some(offset) = reset.to_offset {
            Offset(offset)
        } else if let Some(by) = reset.shift_by {
            let (topic, index) = &partition;
            let current = current.ok_or_else(|| {
                Failure::new(format!(
                    "Cannot shift offset for partition {topic}-{index} since there is no current \
                     committed offset"
                ))
            })?;
            Offset(current.get().saturating_add(by))
        } else if let Some(timestamp) = timestamp {
            since(cluster, &partition, timestamp).await?
        } else if let (true, Some(current)) = (reset.to_current, current) {
            current
        } else if reset.to_earliest {
            at(cluster, &partition, EARLIEST).await?
        } else {
            at(cluster, &partition, LATEST).await?
        };
        plan.insert(partition, offset);
    }
    match reset.to_offset.is_some() || reset.shift_by.is_some() {
        true => within_range(cluster, plan).await,
        false => Ok(plan),
    }
}

async fn at(
    cluster: &Cluster,
    (topic, index): &TopicPartition,
    timestamp: i64,
) -> Result<Offset, Failure> {
    let offset = cluster.offset(topic, *index, timestamp).await;
    offset.map_err(|error| told(&error))
}

/// The first record as new as this, else the end.
async fn since(
    cluster: &Cluster,
    partition: &TopicPartition,
    timestamp: i64,
) -> Result<Offset, Failure> {
    let found = at(cluster, partition, timestamp).await?;
    if found.get() >= 0 {
        return Ok(found);
    }
    let (topic, index) = partition;
    println!(
        "\nWarn: Partition {index} from topic {topic} is empty. Falling back to latest known offset."
    );
    at(cluster, partition, LATEST).await
}

/// The same with every offset moved to the nearest that the log has.
async fn within_range(cluster: &Cluster, plan: Plan) -> Result<Plan, Failure> {
    let mut moved = Plan::new();
    for (partition, offset) in plan {
        let (topic, index) = &partition;
        let end = at(cluster, &partition, LATEST).await?;
        let start = at(cluster, &partition, EARLIEST).await?;
        let nearest = offset.min(end).max(start);
        if nearest < offset {
            eprintln!(
                "WARN New offset ({offset}) is higher than latest offset for topic partition \
                 {topic}-{index}. Value will be set to {nearest}"
            );
        } else if nearest > offset {
            eprintln!(
                "WARN New offset ({offset}) is lower than earliest offset for topic partition \
                 {topic}-{index}. Value will be set to {nearest}"
            );
        }
        moved.insert(partition, nearest);
    }
    Ok(moved)
}

/// Lines of `topic,partition,offset` for the only group that is named, or with the group before.
fn read_plans(file: &Path, only: Option<&str>) -> Result<BTreeMap<String, Plan>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    parse_plans(&text, only)
}

fn parse_plans(text: &str, only: Option<&str>) -> Result<BTreeMap<String, Plan>, Failure> {
    let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let refuse = || Failure::new(format!("this is no line of a reset plan: {line}"));
        let cells: Vec<&str> = line
            .trim()
            .split(',')
            .map(|cell| cell.trim_matches('"'))
            .collect();
        let (group, topic, index, offset) = match (&cells[..], only) {
            ([topic, index, offset], Some(group)) => (group, *topic, *index, *offset),
            ([group, topic, index, offset], _) => (*group, *topic, *index, *offset),
            _ => return Err(refuse()),
        };
        let index: i32 = index.parse().map_err(|_| refuse())?;
        let offset: i64 = offset.parse().map_err(|_| refuse())?;
        let plan = plans.entry(group.to_owned()).or_default();
        plan.insert((topic.to_owned(), index), Offset(offset));
    }
    Ok(plans)
}

fn export(args: &GroupsArgs, plans: &BTreeMap<String, Plan>) {
    for (group, plan) in plans {
        for ((topic, index), offset) in plan {
            match args.group.len() {
                1 => println!("{topic},{index},{offset}"),
                _ => println!("{group},{topic},{index},{offset}"),
            }
        }
    }
    println!();
}

fn print(plans: &BTreeMap<String, Plan>) {
    let groups = plans.keys().map(String::len).max().unwrap_or(0).max(15);
    let topics = plans.values().flat_map(|plan| plan.keys());
    let topics = topics
        .map(|(topic, _)| topic.len())
        .max()
        .unwrap_or(0)
        .max(15);
    print!(
        "\n{:<groups$} {:<topics$} {:<10} NEW-OFFSET",
        "GROUP", "TOPIC", "PARTITION"
    );
    for (group, plan) in plans {
        for ((topic, index), offset) in plan {
            print!("\n{group:<groups$} {topic:<topics$} {index:<10} {offset}");
        }
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_with_and_without_groups() {
        let one = parse_plans("t,0,5\nt,1,6\n\n", Some("g")).unwrap();
        let expected = [
            (("t".to_owned(), 0), Offset(5)),
            (("t".to_owned(), 1), Offset(6)),
        ];
        assert_eq!(one["g"], Plan::from(expected));
        let two = parse_plans("a,t,0,5\n\"b\",t,0,7\n", None).unwrap();
        assert_eq!(two["b"][&("t".to_owned(), 0)], Offset(7));
        for bad in ["t,0\n", "t,x,5\n", "a,t,0,5,6\n"] {
            assert!(parse_plans(bad, Some("g")).is_err(), "{bad}");
        }
    }
}
