//! `millrace produce`: lines of standard input become records, with the options of
//! `kafka-console-producer.sh`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use millrace_client::{
    Acks, ClientError, Compression, Produced, Producer, ProducerOptions, ToSend,
};
use tokio::sync::{mpsc, oneshot};

use crate::connect::Bootstrap;
use crate::failure::Failure;
use crate::properties;

/// Lines read ahead of the brokers.
const LINES_AHEAD: usize = 4096;
/// Records whose acknowledgement is awaited at once.
const UNACKNOWLEDGED: usize = 20_000;

/// Write lines of standard input to a topic.
#[derive(Args, Debug)]
pub struct ProduceArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topic to write to
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    /// How lines are read: parse.key, key.separator, parse.headers, headers.delimiter,
    /// headers.separator, headers.key.separator, ignore.error, null.marker, as NAME=VALUE
    #[arg(long, visible_alias = "reader-property", value_name = "NAME=VALUE", action = ArgAction::Append)]
    property: Vec<String>,
    /// A properties file with the same
    #[arg(long, value_name = "FILE")]
    reader_config: Option<PathBuf>,
    /// A producer property: acks, linger.ms, batch.size, compression.type, enable.idempotence,
    /// max.in.flight.requests.per.connection, buffer.memory, request.timeout.ms,
    /// delivery.timeout.ms, as NAME=VALUE
    #[arg(long, visible_alias = "command-property", value_name = "NAME=VALUE", action = ArgAction::Append)]
    producer_property: Vec<String>,
    /// A properties file with the same
    #[arg(long = "producer.config", value_name = "FILE")]
    producer_config: Option<PathBuf>,
    /// Who must have a record: 0, 1, all or -1
    #[arg(long, visible_alias = "request-required-acks", value_name = "ACKS")]
    acks: Option<String>,
    /// none, gzip, snappy, lz4 or zstd; gzip where no name follows
    #[arg(long, value_name = "CODEC", num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// Bytes of a batch
    #[arg(
        long,
        visible_alias = "max-partition-memory-bytes",
        value_name = "BYTES"
    )]
    batch_size: Option<usize>,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// How long a broker may take, in milliseconds
    #[arg(long, value_name = "MS")]
    request_timeout_ms: Option<u64>,
    /// Wait for each record's acknowledgement before the next line
    #[arg(long)]
    sync: bool,
    /// Accepted for the stock tool's sake; this producer has no such setting
    #[arg(long, hide = true)]
    max_block_ms: Option<i64>,
    /// Bytes that records not acknowledged yet may take
    #[arg(long, value_name = "BYTES")]
    max_memory_bytes: Option<usize>,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    message_send_max_retries: Option<i32>,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    metadata_expiry_ms: Option<i64>,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    retry_backoff_ms: Option<i64>,
    /// Accepted for the stock tool's sake
    #[arg(long, hide = true)]
    socket_buffer_size: Option<i64>,
    /// Only the stock reader of lines exists here
    #[arg(long, hide = true)]
    line_reader: Option<String>,
}

/// Runs the command: until the end of standard input, and every record is acknowledged.
pub async fn run(args: ProduceArgs) -> Result<(), Failure> {
    let reader = LineReader::new(&properties::collect(
        args.reader_config.as_deref(),
        &args.property,
    )?)?;
    let options = options(&args)?;
    let cluster = args.bootstrap.cluster("console-producer")?;
    let producer = Producer::new(&cluster, options);
    // A topic that is not there yet is made where brokers do that, before the first line is read.
    if let Err(error) = cluster.topic_ready(&args.topic, true).await {
        return Err(Failure::new(format!("{}: {error}", args.topic)));
    }
    let mut lines = read_ahead();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut number = 0u64;
    while let Some(line) = lines.recv().await {
        number += 1;
        let record = reader.record(&line?, number)?;
        waiting.push_back(producer.send(&args.topic, record).await?);
        let keep = if args.sync { 0 } else { UNACKNOWLEDGED };
        while waiting.len() > keep {
            settle(waiting.pop_front().expect("it is longer than what is kept")).await?;
        }
    }
    for outcome in waiting {
        settle(outcome).await?;
    }
    Ok(())
}

type Waiting = oneshot::Receiver<Result<Produced, Arc<ClientError>>>;

async fn settle(outcome: Waiting) -> Result<(), Failure> {
    match outcome.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::new(format!("a record was not written: {error}"))),
        Err(_) => Err(Failure::new(
            "a record was not written: the producer has ended",
        )),
    }
}

/// Reads standard input on a thread of its own, since a read may wait for ever.
fn read_ahead() -> mpsc::Receiver<Result<Vec<u8>, Failure>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(1 << 16, std::io::stdin().lock());
        while let Some(line) = next_line(&mut input) {
            let failed = line.is_err();
            if sender.blocking_send(line.map_err(Failure::from)).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

/// A line without its end, which may be `\n`, `\r\n` or `\r`, as Java reads lines.
fn next_line(input: &mut impl BufRead) -> Option<std::io::Result<Vec<u8>>> {
    let mut line = Vec::new();
    match input.take(u64::MAX).read_until(b'\n', &mut line) {
        Ok(0) => None,
        Ok(_) => {
            if line.last() == Some(&b'\n') {
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
            }
            Some(Ok(line))
        }
        Err(error) => Some(Err(error)),
    }
}

fn options(args: &ProduceArgs) -> Result<ProducerOptions, Failure> {
    let given = properties::collect(args.producer_config.as_deref(), &args.producer_property)?;
    let mut options = ProducerOptions {
        linger: Duration::from_millis(5),
        ..Default::default()
    };
    let mut idempotent = None;
    for (name, value) in &given {
        let refuse = || Failure::new(format!("Invalid value {value} for configuration {name}"));
        let number = || value.parse::<u64>().map_err(|_| refuse());
        match name.as_str() {
            "acks" => options.acks = acks(value)?,
            "linger.ms" => options.linger = Duration::from_millis(number()?),
            "batch.size" => options.batch_bytes = value.parse().map_err(|_| refuse())?,
            "compression.type" => options.compression = compression(value)?,
            "max.in.flight.requests.per.connection" => {
                options.max_in_flight = value.parse().map_err(|_| refuse())?;
            }
            "buffer.memory" => options.memory_bytes = value.parse().map_err(|_| refuse())?,
            "enable.idempotence" => idempotent = Some(value.parse().map_err(|_| refuse())?),
            "request.timeout.ms" => options.request_limit = Duration::from_millis(number()?),
            "delivery.timeout.ms" => options.delivery_limit = Duration::from_millis(number()?),
            "bootstrap.servers" | "client.id" => {}
            _ => eprintln!("millrace produce: the producer property {name} has no effect here"),
        }
    }
    if let Some(text) = &args.acks {
        options.acks = acks(text)?;
    }
    if let Some(codec) = &args.compression_codec {
        options.compression = compression(codec)?;
    }
    options.batch_bytes = args.batch_size.unwrap_or(options.batch_bytes);
    options.memory_bytes = args.max_memory_bytes.unwrap_or(options.memory_bytes);
    options.linger = args.timeout.map_or(options.linger, Duration::from_millis);
    options.request_limit = args
        .request_timeout_ms
        .map_or(options.request_limit, Duration::from_millis);
    if idempotent == Some(true) && options.acks != Acks::All {
        return Err(Failure::new(
            "Must set acks to all in order to use the idempotent producer",
        ));
    }
    options.idempotent = idempotent.unwrap_or(options.acks == Acks::All);
    Ok(options)
}

fn acks(text: &str) -> Result<Acks, Failure> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err(Failure::new(format!(
            "Invalid value {text} for configuration acks"
        ))),
    }
}

fn compression(text: &str) -> Result<Compression, Failure> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err(Failure::new(format!("Unknown compression name: {text}"))),
    }
}

/// Turns lines into records (Kafka class `LineMessageReader`).
struct LineReader {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
}

impl LineReader {
    fn new(given: &BTreeMap<String, String>) -> Result<LineReader, Failure> {
        let flag = |name: &str| {
            given
                .get(name)
                .is_some_and(|v| v.trim().eq_ignore_ascii_case("true"))
        };
        let text = |name: &str, default: &str| {
            given
                .get(name)
                .cloned()
                .unwrap_or_else(|| default.to_owned())
        };
        let reader = LineReader {
            parse_key: flag("parse.key"),
            key_separator: text("key.separator", "\t"),
            parse_headers: flag("parse.headers"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            ignore_error: flag("ignore.error"),
            null_marker: given.get("null.marker").cloned(),
        };
        if reader.parse_headers && reader.headers_delimiter == reader.headers_separator {
            return Err(Failure::new(
                "headers.delimiter and headers.separator may not be equal",
            ));
        }
        Ok(reader)
    }

    fn record(&self, line: &[u8], number: u64) -> Result<ToSend, Failure> {
        let mut rest = line;
        let mut record = ToSend::default();
        if self.parse_headers
            && let Some(headers) =
                self.split(&mut rest, &self.headers_delimiter, "headers", number)?
        {
            record.headers = self.headers(headers, number)?;
        }
        if self.parse_key
            && let Some(key) = self.split(&mut rest, &self.key_separator, "key", number)?
        {
            record.key = self.or_null(key);
        }
        record.value = self.or_null(rest);
        Ok(record)
    }

    /// Takes what stands before `separator` off `rest`; `None` where it is missing and that is to be
    /// ignored.
    fn split<'a>(
        &self,
        rest: &mut &'a [u8],
        separator: &str,
        what: &str,
        number: u64,
    ) -> Result<Option<&'a [u8]>, Failure> {
        let separator_bytes = separator.as_bytes();
        let found = rest
            .windows(separator_bytes.len().max(1))
            .position(|w| w == separator_bytes);
        match found {
            Some(place) => {
                let before = &rest[..place];
                *rest = &rest[place + separator_bytes.len()..];
                Ok(Some(before))
            }
            None if self.ignore_error => Ok(None),
            None => Err(Failure::new(format!(
                "No {what} separator found on line number {number}: '{}'",
                String::from_utf8_lossy(rest)
            ))),
        }
    }

    fn or_null(&self, bytes: &[u8]) -> Option<bytes::Bytes> {
        let is_null = self
            .null_marker
            .as_ref()
            .is_some_and(|marker| marker.as_bytes() == bytes);
        (!is_null).then(|| bytes::Bytes::copy_from_slice(bytes))
    }

    fn headers(
        &self,
        text: &[u8],
        number: u64,
    ) -> Result<Vec<(String, Option<bytes::Bytes>)>, Failure> {
        let text = String::from_utf8_lossy(text).into_owned();
        let mut headers = Vec::new();
        for pair in text.split(self.headers_separator.as_str()) {
            match pair.split_once(self.headers_key_separator.as_str()) {
                Some((name, value)) => {
                    headers.push((name.to_owned(), self.or_null(value.as_bytes())));
                }
                None if self.ignore_error => headers.push((pair.to_owned(), None)),
                None => {
                    return Err(Failure::new(format!(
                        "No header key separator found in pair '{pair}' on line number {number}"
                    )));
                }
            }
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&str, &str)], line: &str, key: Option<&str>, value: Option<&str>) {
        let given = given
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let record = LineReader::new(&given)
            .unwrap()
            .record(line.as_bytes(), 1)
            .unwrap();
        let text =
            |bytes: Option<bytes::Bytes>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
        assert_eq!(text(record.key).as_deref(), key, "key of {line}");
        assert_eq!(text(record.value).as_deref(), value, "value of {line}");
    }

    #[test]
    fn lines_become_records() {
        check(&[], "a\tb", None, Some("a\tb"));
        check(&[("parse.key", "true")], "a\tb", Some("a"), Some("b"));
        check(
            &[("parse.key", "true"), ("key.separator", ":")],
            "k:v:w",
            Some("k"),
            Some("v:w"),
        );
        check(
            &[("parse.key", "true"), ("key.separator", "::")],
            "k::v",
            Some("k"),
            Some("v"),
        );
        check(
            &[("parse.key", "true"), ("ignore.error", "true")],
            "alone",
            None,
            Some("alone"),
        );
        check(&[("null.marker", "NULL")], "NULL", None, None);
    }

    #[test]
    fn a_missing_separator_names_the_line() {
        let given = [("parse.key".to_owned(), "true".to_owned())].into();
        let failure = LineReader::new(&given)
            .unwrap()
            .record(b"alone", 7)
            .unwrap_err();
        assert_eq!(
            failure.message,
            "No key separator found on line number 7: 'alone'"
        );
    }
}
