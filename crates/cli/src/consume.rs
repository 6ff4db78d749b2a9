//! `millrace consume`: prints the records of a topic, with the options of
//! `kafka-console-consumer.sh`. Without a group it reads every partition itself; with one it reads
//! what the coordinator gives it, by the consumer protocol (KIP-848).

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use millrace_client::{ClientError, Cluster, Consumed, Consumer, ConsumerOptions, Member, Start};
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
    /// Share the topic with the other members of this group, and go on where it stands
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["partition", "offset"])]
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
    let given = properties::collect(args.formatter_config.as_deref(), &args.property)?;
    let format = Format::new(&given)?;
    let mut reader = Reader::new(&args).await?;
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
            polled = reader.poll() => polled?,
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
            reader.done(record);
            printed += 1;
        }
        if output.flush().is_err() {
            break;
        }
    }
    let _ = output.flush();
    eprintln!("Processed a total of {printed} messages");
    reader.end().await
}

/// Who reads.
enum Reader {
    /// Every partition, by itself.
    Alone(Consumer),
    /// What a group has for it.
    InGroup(Box<Member>),
}

impl Reader {
    async fn new(args: &ConsumeArgs) -> Result<Reader, Failure> {
        let cluster = args.bootstrap.cluster("console-consumer")?;
        let topics = topics(&cluster, args).await?;
        let start = start(args)?;
        let options = options(args)?;
        let Some(group) = &args.group else {
            let consumer = assigned(&cluster, args, &topics, start, options).await?;
            return Ok(Reader::Alone(consumer));
        };
        for topic in &topics {
            let seen = cluster.topic_ready(topic, true).await;
            seen.map_err(|error| Failure::new(format!("{topic}: {error}")))?;
        }
        let member = Member::new(&cluster, group, topics, start, options);
        Ok(Reader::InGroup(Box::new(member)))
    }

    async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        match self {
            Reader::Alone(consumer) => consumer.poll().await,
            Reader::InGroup(member) => member.poll().await,
        }
    }

    /// This record need not be read again by the group.
    fn done(&mut self, record: &Consumed) {
        if let Reader::InGroup(member) = self {
            member.done(record);
        }
    }

    async fn end(self) -> Result<(), Failure> {
        match self {
            Reader::Alone(_) => Ok(()),
            Reader::InGroup(member) => Ok(member.leave().await?),
        }
    }
}

fn options(args: &ConsumeArgs) -> Result<ConsumerOptions, Failure> {
    let read_committed = match args.isolation_level.as_str() {
        "read_uncommitted" => false,
        "read_committed" => true,
        other => return Err(Failure::new(format!("{other} is not an isolation level"))),
    };
    Ok(ConsumerOptions {
        max_wait: Duration::from_millis(args.timeout_ms.unwrap_or(500).clamp(1, 500)),
        read_committed,
        ..Default::default()
    })
}

async fn topics(cluster: &Cluster, args: &ConsumeArgs) -> Result<Vec<String>, Failure> {
    match (&args.topic, &args.include) {
        (Some(topic), None) => Ok(vec![topic.clone()]),
        (None, Some(expression)) => {
            let filter = TopicFilter::new(expression)?;
            let all = cluster.list_topics().await?;
            let names = all.into_iter().map(|(name, _)| name);
            Ok(names.filter(|name| filter.matches(name)).collect())
        }
        _ => Err(Failure::new(
            "Exactly one of --include/--topic is required. ",
        )),
    }
}

async fn assigned(
    cluster: &Cluster,
    args: &ConsumeArgs,
    topics: &[String],
    start: Start,
    options: ConsumerOptions,
) -> Result<Consumer, Failure> {
    let mut consumer = Consumer::new(cluster, options);
    for topic in topics {
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
