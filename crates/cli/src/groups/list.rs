//! Lists of groups: those of consumers, and all of them (`kafka-groups.sh`).

use clap::Args;
use millrace_client::{Cluster, GroupListing};

use super::{GroupsArgs, told};
use crate::connect::Bootstrap;
use crate::failure::Failure;

/// Kafka's states of groups of consumers, in its order.
const STATES: [&str; 7] = [
    "Assigning",
    "Dead",
    "CompletingRebalance",
    "Reconciling",
    "Empty",
    "Stable",
    "PreparingRebalance",
];

/// Kafka's types of groups.
const TYPES: [&str; 4] = ["Classic", "Consumer", "Share", "Streams"];

/// List groups of all kinds.
#[derive(Args, Debug)]
pub struct AllGroupsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// List groups; there is nothing else to do
    #[arg(long)]
    list: bool,
    /// Only groups of consumers, also those that only have offsets
    #[arg(long)]
    consumer: bool,
    /// Only share groups
    #[arg(long)]
    share: bool,
    /// Only streams groups
    #[arg(long)]
    streams: bool,
    /// Only groups of this type: classic, consumer, share, streams
    #[arg(long, value_name = "TYPE")]
    group_type: Option<String>,
    /// Only groups of this protocol type
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
}

/// Whether it is a group of consumers, or one that only has offsets.
pub fn is_of_consumers(group: &GroupListing) -> bool {
    match group.kind.to_lowercase().as_str() {
        "consumer" => true,
        "classic" | "" => matches!(group.protocol_type.as_str(), "consumer" | ""),
        _ => false,
    }
}

pub(super) async fn list(cluster: &Cluster, args: &GroupsArgs) -> Result<(), Failure> {
    let states = match &args.state {
        Some(text) if !text.is_empty() => states_of(text)?,
        _ => Vec::new(),
    };
    let types = match &args.kind {
        Some(text) if !text.is_empty() => types_of(text)?,
        _ => Vec::new(),
    };
    let groups = cluster.list_groups(&states, &types).await;
    let groups = groups.map_err(|error| told(&error))?;
    let groups: Vec<GroupListing> = groups.into_iter().filter(is_of_consumers).collect();
    if args.state.is_none() && args.kind.is_none() {
        for group in groups {
            println!("{}", group.id);
        }
        return Ok(());
    }
    let widest = groups.iter().map(|group| group.id.len()).max();
    let width = widest.unwrap_or(0).max(15) + 10;
    let row = |id: &str, kind: &str, state: &str| {
        print!("{id:<width$}");
        if args.kind.is_some() {
            print!(" {kind:<20}");
        }
        if args.state.is_some() {
            print!(" {state:<20}");
        }
        println!();
    };
    row("GROUP", "TYPE", "STATE");
    for group in groups {
        row(&group.id, type_name(&group.kind), &group.state);
    }
    Ok(())
}

/// Runs `millrace all-groups`.
pub async fn run_all(args: AllGroupsArgs) -> Result<(), Failure> {
    if !args.list {
        return Err(Failure::new(
            "Command must include exactly one action: --list.",
        ));
    }
    let given = [
        args.consumer,
        args.share,
        args.streams,
        args.group_type.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(Failure::new(
            "Only one of --consumer, --share, --streams and --group-type may be given.",
        ));
    }
    let wanted = match &args.group_type {
        Some(text) => Some(types_of(text)?.remove(0)),
        None if args.share => Some("Share".to_owned()),
        None if args.streams => Some("Streams".to_owned()),
        None => None,
    };
    let cluster = args.bootstrap.cluster("groups")?;
    let mut groups = cluster.list_groups(&[], &[]).await?;
    groups.retain(|group| {
        let kind = type_name(&group.kind);
        wanted.as_ref().is_none_or(|wanted| kind == wanted)
            && (!args.consumer || is_of_consumers(group))
            && args
                .protocol
                .as_ref()
                .is_none_or(|protocol| *protocol == group.protocol_type)
    });
    let widest = groups.iter().map(|group| group.id.len()).max();
    let width = widest.unwrap_or(0).max(20);
    println!("{:<width$} {:<20} {:<20}", "GROUP", "TYPE", "PROTOCOL");
    for group in groups {
        let kind = type_name(&group.kind);
        println!(
            "{:<width$} {kind:<20} {:<20}",
            group.id, group.protocol_type
        );
    }
    Ok(())
}

fn type_name(kind: &str) -> &'static str {
    let known = TYPES.iter().find(|name| name.eq_ignore_ascii_case(kind));
    known.copied().unwrap_or("Unknown")
}

fn states_of(text: &str) -> Result<Vec<String>, Failure> {
    let known = |name: &str| {
        STATES
            .iter()
            .find(|state| state.eq_ignore_ascii_case(name.trim()))
    };
    let found: Option<Vec<_>> = text.split(',').map(known).collect();
    match found {
        Some(states) => Ok(states
            .into_iter()
            .map(|state| (*state).to_owned())
            .collect()),
        None => Err(Failure::new(format!(
            "Invalid state list '{text}'. Valid states are: {}",
            STATES.join(", ")
        ))),
    }
}

fn types_of(text: &str) -> Result<Vec<String>, Failure> {
    let known = |name: &str| {
        TYPES
            .iter()
            .find(|kind| kind.eq_ignore_ascii_case(name.trim()))
    };
    let found: Option<Vec<_>> = text.split(',').map(known).collect();
    match found {
        Some(types) => Ok(types.into_iter().map(|kind| (*kind).to_owned()).collect()),
        None => Err(Failure::new(format!(
            "Invalid types list '{}'. Valid types are: Classic, Consumer",
            text.to_lowercase()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_types_are_known_in_any_case() {
        assert_eq!(states_of("stable, EMPTY").unwrap(), ["Stable", "Empty"]);
        assert!(states_of("bogus").unwrap_err().message.contains("'bogus'"));
        assert_eq!(types_of("CLASSIC").unwrap(), ["Classic"]);
        assert!(types_of("none").is_err());
    }

    #[test]
    fn groups_of_other_programs_are_none_of_consumers() {
        let listing = |kind: &str, protocol: &str| GroupListing {
            id: "g".to_owned(),
            protocol_type: protocol.to_owned(),
            state: "Stable".to_owned(),
            kind: kind.to_owned(),
        };
        assert!(is_of_consumers(&listing("classic", "consumer")));
        assert!(is_of_consumers(&listing("classic", "")));
        assert!(is_of_consumers(&listing("consumer", "consumer")));
        assert!(!is_of_consumers(&listing("classic", "connect")));
        assert!(!is_of_consumers(&listing("share", "share")));
    }
}
