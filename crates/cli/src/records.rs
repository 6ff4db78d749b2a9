//! `millrace records`: deletes the oldest records of partitions, with the options and the output of
//! `kafka-delete-records.sh`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use millrace_model::Offset;
use serde_json::Value;

use crate::connect::Bootstrap;
use crate::failure::Failure;

/// Delete records.
#[derive(Args, Debug)]
pub struct RecordsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Delete the records of partitions before an offset
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
struct DeleteArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// A JSON file with an offset for each partition; -1 deletes all that is committed:
    /// {"partitions": [{"topic": "foo", "partition": 1, "offset": 1}], "version": 1}
    #[arg(long, value_name = "FILE")]
    offset_json_file: PathBuf,
}

/// Runs the command.
pub async fn run(args: RecordsArgs) -> Result<(), Failure> {
    let Action::Delete(args) = args.action;
    let text = std::fs::read_to_string(&args.offset_json_file)
        .map_err(|error| Failure::new(format!("{}: {error}", args.offset_json_file.display())))?;
    let wanted = parse(&text)?;
    let cluster = args.bootstrap.cluster("records")?;
    println!("Executing records delete operation");
    let mut lines = Vec::with_capacity(wanted.len());
    for (topic, partition, offset) in &wanted {
        lines.push(
            match cluster.delete_records(topic, *partition, *offset).await {
                Ok(low) => format!("partition: {topic}-{partition}\tlow_watermark: {low}"),
                Err(error) => format!("partition: {topic}-{partition}\terror: {error}"),
            },
        );
    }
    println!("Records delete operation completed:");
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

type Wanted = Vec<(String, i32, Offset)>;

/// Reads the file's text; each partition may be named once.
fn parse(text: &str) -> Result<Wanted, Failure> {
    let malformed =
        |what: &str| Failure::new(format!("The input string is not a valid JSON: {what}"));
    let root: Value = serde_json::from_str(text).map_err(|error| malformed(&error.to_string()))?;
    let version = root.get("version").map_or(Some(1), Value::as_i64);
    if version != Some(1) {
        let given = root
            .get("version")
            .map(Value::to_string)
            .unwrap_or_default();
        return Err(Failure::new(format!(
            "Not supported version field value {given}"
        )));
    }
    let partitions = root.get("partitions").and_then(Value::as_array);
    let partitions =
        partitions.ok_or_else(|| Failure::new("Missing partitions field in the JSON file"))?;
    let mut wanted = Wanted::new();
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for entry in partitions {
        let number = |name: &str| entry.get(name).and_then(Value::as_i64);
        let topic = entry.get("topic").and_then(Value::as_str);
        let partition = number("partition").and_then(|number| i32::try_from(number).ok());
        let (Some(topic), Some(partition), Some(offset)) = (topic, partition, number("offset"))
        else {
            return Err(malformed(
                "a partition needs a topic, a partition and an offset",
            ));
        };
        if !once.insert((topic, partition)) {
            twice.insert(format!("{topic}-{partition}"));
        }
        wanted.push((topic.to_owned(), partition, Offset(offset)));
    }
    if !twice.is_empty() {
        let twice = twice.into_iter().collect::<Vec<_>>().join(",");
        return Err(Failure::new(format!(
            "Offset json file contains duplicate topic partitions: {twice}"
        )));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_format_is_understood() {
        let text = r#"{"partitions": [{"topic": "a", "partition": 1, "offset": -1},
            {"topic": "b", "partition": 0, "offset": 7}], "version": 1}"#;
        let wanted = parse(text).expect("it is well formed");
        let expected = [("a", 1, -1), ("b", 0, 7)];
        let expected = expected.map(|(topic, index, to)| (topic.to_owned(), index, Offset(to)));
        assert_eq!(wanted, expected);
        let again = r#"{"partitions": [{"topic": "a", "partition": 1, "offset": 1},
            {"topic": "a", "partition": 1, "offset": 2}]}"#;
        let refused = parse(again).expect_err("it names a partition twice");
        assert!(refused.message.ends_with("duplicate topic partitions: a-1"));
        assert!(parse(r#"{"partitions": [{"topic": "a"}]}"#).is_err());
        assert!(parse(r#"{"version": 2, "partitions": []}"#).is_err());
    }
}
