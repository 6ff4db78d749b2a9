//! `millrace consume`: prints the records of a topic, with the options of
//! `kafka-console-consumer.sh`. Without a group it reads every partition itself.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use millrace_client::{Consumed, Consumer, ConsumerOptions, Start};
use millrace_model::Offset;

use crate::connect::Bootstrap;
use crate::failure::Failure;
use crate::properties;
use crate::topic_filter::TopicFilter;

/// Print the records of a topic.
#[derive(Args, Debug)]
pub struct ConsumeArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topic to read
    #[arg(long, value_name = "TOPIC", conflicts_with = "include")]
    topic: Option<String>,
    /// Topics to read, as a regular expression
    #[arg(long, value_name = "REGEX")]
    include: Option<String>,
    /// Read only this partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Begin at this offset, or at earliest or latest; needs --partition
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Begin with the oldest record
    #[arg(long)]
    from_beginning: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,
    /// End when no record came for so long, in milliseconds
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// read_committed or read_uncommitted
    #[arg(long, value_name = "LEVEL", default_value = "read_uncommitted")]
    isolation_level: String,
    /// How records are printed: print.key, print.value, print.timestamp, print.offset,
    /// print.partition, print.epoch, print.headers, key.separator, line.separator,
    /// headers.separator, null.literal, as NAME=VALUE
    #[arg(long, visible_alias = "formatter-property", value_name = "NAME=VALUE", action = ArgAction::Append)]
    property: Vec<String>,
    /// A properties file with the same
    #[arg(long, value_name = "FILE")]
    formatter_config: Option<PathBuf>,
    /// A consumer property; none has an effect here
    #[arg(long, visible_alias = "command-property", value_name = "NAME=VALUE", action = ArgAction::Append)]
    consumer_property: Vec<String>,
    /// A consumer group; this cluster has none yet
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Accepted for the stock tool's sake
    #[arg(long = "consumer.config", hide = true)]
    consumer_config: Option<PathBuf>,
    /// Accepted for the stock tool's sake: records are never unreadable text here
    #[arg(long, hide = true)]
    skip_message_on_error: bool,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    enable_systest_events: bool,
    /// Only the stock formatter exists here
    #[arg(long, hide = true)]
    formatter: Option<String>,
}

/// Runs the command: until it has printed what was asked for, or is interrupted.
pub async fn run(args: ConsumeArgs) -> Result<(), Failure> {
    if args.group.is_some() {
        return Err(Failure::new(
            "consumer groups are not there yet: leave --group out to read every partition",
        ));
    }
    let given = properties::collect(args.formatter_config.as_deref(), &args.property)?;
    let format = Format::new(&given)?;
    let mut consumer = assigned(&args).await?;
    let mut output = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut printed = 0;
    let idle_limit = args.timeout_ms.map(Duration::from_millis);
    let mut idle_since = tokio::time::Instant::now();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    'reading: while args.max_messages.is_none_or(|most| printed < most) {
        let polled = tokio::select! {
            biased;
            _ = &mut interrupted => break,
            polled = consumer.poll() => polled?,
        };
        if !polled.is_empty() {
            idle_since = tokio::time::Instant::now();
        } else if idle_limit.is_some_and(|limit| idle_since.elapsed() >= limit) {
            break;
        }
        for record in &polled {
            if args.max_messages.is_some_and(|most| printed >= most) {
                break 'reading;
            }
            // Whoever reads the output may have gone; there is nothing to tell them.
            if format.write(&mut output, record).is_err() {
                break 'reading;
            }
            printed += 1;
        }
        if output.flush().is_err() {
            break;
        }
    }
    let _ = output.flush();
    eprintln!("Processed a total of {printed} messages");
    Ok(())
}

async fn assigned(args: &ConsumeArgs) -> Result<Consumer, Failure> {
    let read_committed = match args.isolation_level.as_str() {
        "read_uncommitted" => false,
        "read_committed" => true,
        other => return Err(Failure::new(format!("{other} is not an isolation level"))),
    };
    let max_wait = Duration::from_millis(args.timeout_ms.unwrap_or(500).clamp(1, 500));
    let cluster = args.bootstrap.cluster("console-consumer")?;
    let topics: Vec<String> = match (&args.topic, &args.include) {
        (Some(topic), None) => vec![topic.clone()],
        (None, Some(expression)) => {
            let filter = TopicFilter::new(expression)?;
            let all = cluster.list_topics().await?;
            all.into_iter()
                .map(|(name, _)| name)
                .filter(|name| filter.matches(name))
                .collect()
        }
        _ => {
            return Err(Failure::new(
                "Exactly one of --include/--topic is required. ",
            ));
        }
    };
    let start = start(args)?;
    let options = ConsumerOptions {
        max_wait,
        read_committed,
        ..Default::default()
    };
    let mut consumer = Consumer::new(&cluster, options);
    for topic in &topics {
        let seen = cluster.topic_ready(topic, true).await;
        let seen = seen.map_err(|error| Failure::new(format!("{topic}: {error}")))?;
        for partition in seen.partitions {
            if args.partition.is_none_or(|only| only == partition.index) {
                consumer.assign(topic, partition.index, start).await?;
            }
        }
    }
    Ok(consumer)
}

fn start(args: &ConsumeArgs) -> Result<Start, Failure> {
    if args.offset.is_some() && args.partition.is_none() {
        return Err(Failure::new("The partition is required."));
    }
    if args.from_beginning && args.offset.is_some() {
        return Err(Failure::new(
            "Options from-beginning and offset cannot be specified together.",
        ));
    }
    match args.offset.as_deref() {
        Some("earliest") => Ok(Start::Earliest),
        Some("latest") => Ok(Start::Latest),
        None if args.from_beginning => Ok(Start::Earliest),
        None => Ok(Start::Latest),
        Some(number) => match number.parse() {
            Ok(offset) if offset >= 0 => Ok(Start::At(Offset(offset))),
            _ => Err(Failure::new(format!(
                "The provided offset value '{number}' is incorrect. Valid values are 'earliest', \
                 'latest', or a non-negative long."
            ))),
        },
    }
}

/// How a record is printed (Kafka class `DefaultMessageFormatter`).
struct Format {
    timestamp: bool,
    partition: bool,
    offset: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
}

impl Format {
    fn new(given: &BTreeMap<String, String>) -> Result<Format, Failure> {
        let flag = |name: &str, default: bool| {
            given
                .get(name)
                .map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
        };
        let bytes = |name: &str, default: &str| {
            given
                .get(name)
                .map_or(default, String::as_str)
                .as_bytes()
                .to_vec()
        };
        if let Some(name) = given.keys().find(|name| name.contains("deserializer")) {
            return Err(Failure::new(format!(
                "{name}: there are no Java classes here"
            )));
        }
        Ok(Format {
            timestamp: flag("print.timestamp", false),
            partition: flag("print.partition", false),
            offset: flag("print.offset", false),
            epoch: flag("print.epoch", false),
            headers: flag("print.headers", false),
            key: flag("print.key", false),
            value: flag("print.value", true),
            key_separator: bytes("key.separator", "\t"),
            line_separator: bytes("line.separator", "\n"),
            headers_separator: bytes("headers.separator", ","),
            null_literal: bytes("null.literal", "null"),
        })
    }

    fn write(&self, output: &mut impl Write, record: &Consumed) -> std::io::Result<()> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        if self.timestamp {
            let kind = if record.is_append_time {
                "LogAppendTime"
            } else {
                "CreateTime"
            };
            parts.push(format!("{kind}:{}", record.timestamp).into_bytes());
        }
        if self.partition {
            parts.push(format!("Partition:{}", record.partition).into_bytes());
        }
        if self.offset {
            parts.push(format!("Offset:{}", record.offset).into_bytes());
        }
        if self.epoch {
            parts.push(format!("Epoch:{}", record.leader_epoch).into_bytes());
        }
        if self.headers {
            parts.push(self.headers(record));
        }
        if self.key {
            parts.push(self.or_null(record.key.as_deref()));
        }
        if self.value {
            parts.push(self.or_null(record.value.as_deref()));
        }
        output.write_all(&parts.join(&self.key_separator[..]))?;
        output.write_all(&self.line_separator)
    }

    fn headers(&self, record: &Consumed) -> Vec<u8> {
        if record.headers.is_empty() {
            return b"NO_HEADERS".to_vec();
        }
        let headers = record.headers.iter().map(|(name, value)| {
            let value = self.or_null(value.as_deref());
            [name.as_bytes(), b":", &value].concat()
        });
        headers
            .collect::<Vec<_>>()
            .join(&self.headers_separator[..])
    }

    fn or_null(&self, bytes: Option<&[u8]>) -> Vec<u8> {
        bytes.unwrap_or(&self.null_literal).to_vec()
    }
}
