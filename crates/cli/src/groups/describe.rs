//! `--describe`: offsets, members and states, in the columns of the stock tool.

use std::collections::BTreeMap;

use millrace_client::{Cluster, CommittedOffset, GroupDescription, GroupMember, TopicPartition};

use super::{GroupsArgs, MISSING, told, wanted};
use crate::failure::Failure;

pub(super) async fn describe(cluster: &Cluster, args: &GroupsArgs) -> Result<(), Failure> {
    for group in wanted(cluster, args).await? {
        let described = cluster.describe_group(&group).await;
        let described = described.map_err(|error| told(&error))?;
        if args.members {
            print_members(&described, args.verbose);
        } else if args.state.is_some() {
            print_state(&described, args.verbose);
        } else {
            let committed = cluster.committed_offsets(&group).await;
            let committed = committed.map_err(|error| told(&error))?;
            let rows = rows(cluster, &described, &committed).await;
            print_offsets(&described, &rows, args.verbose);
        }
    }
    Ok(())
}

/// Tells what the state means; whether there is anything to show.
fn tell_state(group: &GroupDescription, rows: usize) -> bool {
    let id = &group.id;
    match group.state.as_str() {
        "Dead" => println!("\nError: Consumer group '{id}' does not exist."),
        "Empty" => eprintln!("\nConsumer group '{id}' has no active members."),
        "Stable" => {}
        _ => eprintln!("\nWarning: Consumer group '{id}' is rebalancing."),
    }
    group.state != "Dead" && rows > 0
}

/// One partition of a group.
struct Row {
    partition: Option<TopicPartition>,
    committed: Option<CommittedOffset>,
    end: Option<i64>,
    member: Option<(String, String, String)>,
}

async fn rows(
    cluster: &Cluster,
    group: &GroupDescription,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Vec<Row> {
    let mut members: Vec<&GroupMember> = group.members.iter().collect();
    let owned = |member: &GroupMember| member.owns.values().map(Vec::len).sum::<usize>();
    members.sort_by_key(|member| std::cmp::Reverse(owned(member)));
    let mut left = committed.clone();
    let mut rows = Vec::new();
    for member in members {
        for (topic, indexes) in &member.owns {
            let mut indexes = indexes.clone();
            indexes.sort_unstable();
            for index in indexes {
                let partition = (topic.clone(), index);
                rows.push(Row {
                    committed: left.remove(&partition),
                    end: end_of(cluster, &partition).await,
                    partition: Some(partition),
                    member: Some((
                        member.id.clone(),
                        member.host.clone(),
                        member.client_id.clone(),
                    )),
                });
            }
        }
    }
    for (partition, committed) in left {
        rows.push(Row {
            committed: Some(committed),
            end: end_of(cluster, &partition).await,
            partition: Some(partition),
            member: None,
        });
    }
    rows
}

/// Where a partition ends; none where nobody says so.
async fn end_of(cluster: &Cluster, (topic, index): &TopicPartition) -> Option<i64> {
    let end = cluster.offset(topic, *index, -1).await;
    end.ok().map(|end| end.get())
}

fn print_offsets(group: &GroupDescription, rows: &[Row], verbose: bool) {
    if !tell_state(group, rows.len()) {
        return;
    }
    let (id, missing) = (&group.id, MISSING.to_owned());
    let widest = |text: &dyn Fn(&Row) -> usize| rows.iter().map(text).max().unwrap_or(0).max(15);
    let group_width = id.len().max(15);
    let topic_width = widest(&|row| row.partition.as_ref().map_or(1, |(topic, _)| topic.len()));
    let member_width = widest(&|row| row.member.as_ref().map_or(1, |(id, ..)| id.len()));
    let host_width = widest(&|row| row.member.as_ref().map_or(1, |(_, host, _)| host.len()));
    let print = |cells: [&str; 10]| {
        let [
            group,
            topic,
            partition,
            epoch,
            offset,
            end,
            lag,
            member,
            host,
            client,
        ] = cells;
        print!("\n{group:<group_width$} {topic:<topic_width$} {partition:<10} ");
        if verbose {
            print!("{epoch:<15} ");
        }
        print!("{offset:<15} {end:<15} {lag:<15} ");
        print!("{member:<member_width$} {host:<host_width$} {client}");
    };
    print([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "LEADER-EPOCH",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    for row in rows {
        let or_missing = |text: Option<String>| text.unwrap_or_else(|| missing.clone());
        let offset = row.committed.map(|committed| committed.offset.get());
        let epoch = row.committed.map(|committed| committed.leader_epoch.get());
        let lag = row.end.zip(offset).map(|(end, offset)| end - offset);
        let (topic, index) = row.partition.clone().unzip();
        let (member, host, client) = match &row.member {
            Some((member, host, client)) => (member.as_str(), host.as_str(), client.as_str()),
            None => (MISSING, MISSING, MISSING),
        };
        print([
            id,
            &or_missing(topic),
            &or_missing(index.map(|index| index.to_string())),
            &or_missing(epoch.filter(|epoch| *epoch >= 0).map(|e| e.to_string())),
            &or_missing(offset.map(|offset| offset.to_string())),
            &or_missing(row.end.map(|end| end.to_string())),
            &or_missing(lag.map(|lag| lag.to_string())),
            member,
            host,
            client,
        ]);
    }
    println!();
}

fn print_members(group: &GroupDescription, verbose: bool) {
    tell_state(group, group.members.len());
    let widest = |least: usize, text: &dyn Fn(&GroupMember) -> usize| {
        let widest = group.members.iter().map(text).max();
        widest.unwrap_or(0).max(least)
    };
    let group_width = group.id.len().max(15);
    let id_width = widest(15, &|member| member.id.len());
    let instance_width = widest(17, &|member| member.instance.len());
    let host_width = widest(15, &|member| member.host.len());
    let client_width = widest(15, &|member| member.client_id.len());
    let has_instances = group
        .members
        .iter()
        .any(|member| !member.instance.is_empty());
    let (owned, target): (Vec<String>, Vec<String>) = group.members.iter().map(assignments).unzip();
    let column = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0).max(20);
    let (owned_width, target_width) = (column(&owned), column(&target));
    let print = |cells: [&str; 6], more: [&str; 4]| {
        let [group, id, instance, host, client, partitions] = cells;
        print!("{group:<group_width$} {id:<id_width$} ");
        if has_instances {
            print!("{instance:<instance_width$} ");
        }
        print!("{host:<host_width$} {client:<client_width$} {partitions:<15} ");
        if verbose {
            let [epoch, owned, target_epoch, target] = more;
            print!("{epoch:<15} {owned:<owned_width$} {target_epoch:<15} {target:<target_width$}");
        }
        println!();
    };
    println!();
    print(
        [
            "GROUP",
            "CONSUMER-ID",
            "GROUP-INSTANCE-ID",
            "HOST",
            "CLIENT-ID",
            "#PARTITIONS",
        ],
        [
            "CURRENT-EPOCH",
            "CURRENT-ASSIGNMENT",
            "TARGET-EPOCH",
            "TARGET-ASSIGNMENT",
        ],
    );
    for ((member, owned), target) in group.members.iter().zip(&owned).zip(&target) {
        let count: usize = member.owns.values().map(Vec::len).sum();
        let epoch = member.target.as_ref().map(|(epoch, _)| epoch.to_string());
        let target_epoch = group.epochs.map(|(_, target)| target.to_string());
        print(
            [
                &group.id,
                &member.id,
                &member.instance,
                &member.host,
                &member.client_id,
                &count.to_string(),
            ],
            [
                epoch.as_deref().unwrap_or(MISSING),
                owned,
                target_epoch.as_deref().unwrap_or(MISSING),
                target,
            ],
        );
    }
}

/// What a member owns and shall own, as `t:0,1;u:2`.
fn assignments(member: &GroupMember) -> (String, String) {
    let text = |topics: &BTreeMap<String, Vec<i32>>| {
        let topics = topics.iter().map(|(topic, indexes)| {
            let mut indexes = indexes.clone();
            indexes.sort_unstable();
            let indexes: Vec<String> = indexes.iter().map(i32::to_string).collect();
            format!("{topic}:{}", indexes.join(","))
        });
        let topics: Vec<String> = topics.collect();
        match topics.is_empty() {
            true => MISSING.to_owned(),
            false => topics.join(";"),
        }
    };
    let target = member.target.as_ref().map(|(_, target)| text(target));
    (
        text(&member.owns),
        target.unwrap_or_else(|| MISSING.to_owned()),
    )
}

fn print_state(group: &GroupDescription, verbose: bool) {
    if !tell_state(group, 1) {
        return;
    }
    let node = &group.coordinator;
    let coordinator = format!("{}:{}  ({})", node.host, node.port, node.id);
    let (group_width, coordinator_width) = (group.id.len().max(15), coordinator.len().max(25));
    let print = |cells: [&str; 7]| {
        let [group, coordinator, assignor, state, epoch, target, members] = cells;
        print!("\n{group:<group_width$} {coordinator:<coordinator_width$} ");
        print!("{assignor:<20} {state:<20} ");
        if verbose {
            print!("{epoch:<15} {target:<25} ");
        }
        print!("{members}");
    };
    print([
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "GROUP-EPOCH",
        "TARGET-ASSIGNMENT-EPOCH",
        "#MEMBERS",
    ]);
    let epochs = group.epochs;
    let text =
        |epoch: Option<i32>| epoch.map_or_else(|| MISSING.to_owned(), |epoch| epoch.to_string());
    let assignor = match group.assignor.as_str() {
        "" => MISSING,
        assignor => assignor,
    };
    print([
        &group.id,
        &coordinator,
        assignor,
        &group.state,
        &text(epochs.map(|(epoch, _)| epoch)),
        &text(epochs.map(|(_, target)| target)),
        &group.members.len().to_string(),
    ]);
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_topics_and_partitions() {
        let owns = BTreeMap::from([("t".to_owned(), vec![2, 0]), ("u".to_owned(), vec![1])]);
        let member = GroupMember {
            owns,
            ..GroupMember::default()
        };
        assert_eq!(
            assignments(&member),
            ("t:0,2;u:1".to_owned(), MISSING.to_owned())
        );
        let idle = GroupMember {
            target: Some((3, BTreeMap::new())),
            ..GroupMember::default()
        };
        assert_eq!(assignments(&idle), (MISSING.to_owned(), MISSING.to_owned()));
    }
}
