//! `millrace bench consume`: how fast a topic is read.

use std::time::{Duration, Instant};

use clap::Args;
use millrace_client::{Cluster, Consumer, ConsumerOptions, Start, TopicView};
use millrace_model::Offset;
use serde_json::json;

use super::Telling;
use super::gauge::Gauge;
use super::live::{Live, Stop};
use super::pace::Window;
use super::report::{ProcessorTime, Report, verdict};
use crate::connect::Bootstrap;
use crate::failure::Failure;

/// ListOffsets' names for the ends of a partition.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Read a topic from its beginning, as fast as possible.
///
/// Reads what was there at the start, once; with --duration over and over for so long. Batches are
/// checked and counted, not taken apart. Megabytes are those on the wire, compressed if they are.
///
/// Ends with 0, and with 1 when nothing could be measured.
#[derive(Args, Debug)]
pub struct ConsumeArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topic
    #[arg(long, value_name = "TOPIC", default_value = "millrace-bench")]
    topic: String,
    /// Stop after so many records
    #[arg(long, visible_alias = "messages", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Read from the beginning again until so many seconds are over
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// How long before anything counts, in seconds; needs --duration
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0.0,
        requires = "duration"
    )]
    warm_up: f64,
    /// How many consumers, which share the partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    consumers: u16,
    /// Bytes of one answer
    #[arg(long, value_name = "BYTES", default_value_t = 50 << 20, value_parser = clap::value_parser!(i32).range(1..))]
    fetch_size: i32,
    /// Bytes of one partition in an answer
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(i32).range(1..))]
    max_partition_bytes: i32,
    #[command(flatten)]
    telling: Telling,
}

/// Runs the command.
pub async fn run(args: ConsumeArgs) -> Result<(), Failure> {
    let cluster = args.bootstrap.cluster("bench-consume")?;
    let topic = cluster.topic_ready(&args.topic, false).await;
    let topic = topic.map_err(|error| Failure::new(format!("{}: {error}", args.topic)))?;
    let consumers = usize::from(args.consumers).min(topic.partitions.len().max(1));
    let shares = share_out(&cluster, &topic, consumers).await?;
    let window = window(&args)?;
    let stop = Stop::on_interrupt();
    let gauge = Gauge::new(window, consumers);
    let processor = ProcessorTime::start();
    let live = Live::show(&args.telling, &gauge);
    let mut tasks = Vec::new();
    for (index, share) in shares.into_iter().enumerate() {
        let reader = Reader {
            cluster: cluster.clone(),
            options: ConsumerOptions {
                max_bytes: args.fetch_size,
                max_partition_bytes: args.max_partition_bytes,
                ..ConsumerOptions::default()
            },
            topic: args.topic.clone(),
            share,
            index,
            again: args.duration.is_some(),
            most: args.records,
            gauge: gauge.clone(),
            stop: stop.clone(),
        };
        tasks.push(tokio::spawn(reader.run()));
    }
    for task in tasks {
        let ended = task.await;
        ended.map_err(|_| Failure::new("a consumer panicked"))??;
    }
    drop(live);
    let settings = json!({
        "topic": args.topic,
        "partitions": topic.partitions.len(),
        "consumers": consumers,
        "fetch_size": args.fetch_size,
        "max_partition_bytes": args.max_partition_bytes,
    });
    let mut report = Report::of("consume", settings);
    report.throughput(&gauge);
    report.client(processor.cores());
    report.print(&args.telling);
    verdict(&gauge, 0, &stop)
}

fn window(args: &ConsumeArgs) -> Result<Window, Failure> {
    let span = |seconds: f64| {
        let span = Duration::try_from_secs_f64(seconds);
        span.map_err(|_| Failure::new(format!("{seconds} is no span of time")))
    };
    let (now, warm_up) = (Instant::now(), span(args.warm_up)?);
    Ok(match args.duration {
        Some(duration) => Window::timed(now, warm_up, span(duration)?),
        None => Window::open(now, warm_up),
    })
}

/// A partition, and what to read of it.
struct Range {
    partition: i32,
    from: Offset,
    to: Offset,
}

/// The partitions of each consumer, without those that are empty.
async fn share_out(
    cluster: &Cluster,
    topic: &TopicView,
    consumers: usize,
) -> Result<Vec<Vec<Range>>, Failure> {
    let mut shares: Vec<Vec<Range>> = Vec::new();
    shares.resize_with(consumers, Vec::new);
    let mut filled = 0;
    for partition in topic.partitions.iter().map(|partition| partition.index) {
        let from = cluster.offset(&topic.name, partition, EARLIEST).await?;
        let to = cluster.offset(&topic.name, partition, LATEST).await?;
        if from < to {
            shares[filled % consumers].push(Range {
                partition,
                from,
                to,
            });
            filled += 1;
        }
    }
    if filled == 0 {
        let name = &topic.name;
        return Err(Failure::new(format!(
            "{name} holds no records; `millrace bench produce --topic {name}` writes some"
        )));
    }
    Ok(shares)
}

struct Reader {
    cluster: Cluster,
    options: ConsumerOptions,
    topic: String,
    share: Vec<Range>,
    index: usize,
    again: bool,
    most: Option<u64>,
    gauge: Gauge,
    stop: Stop,
}

impl Reader {
    async fn run(self) -> Result<(), Failure> {
        if self.share.is_empty() {
            return Ok(());
        }
        let mut consumer = Consumer::new(&self.cluster, self.options);
        loop {
            for range in &self.share {
                let start = Start::At(range.from);
                consumer.assign(&self.topic, range.partition, start).await?;
            }
            while !self.is_through(&consumer) {
                for fetched in consumer.poll_batches().await? {
                    let counted = fetched.count()?;
                    let bytes = fetched.batches.len() as u64;
                    self.gauge.read(self.index, counted, bytes);
                }
                if self.is_over() {
                    return Ok(());
                }
            }
            if !self.again {
                return Ok(());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop.is_set()
            || self.gauge.window().is_over(Instant::now())
            || self
                .most
                .is_some_and(|most| self.gauge.totals().records >= most)
    }

    fn is_through(&self, consumer: &Consumer) -> bool {
        self.share.iter().all(|range| {
            let position = consumer.position(&self.topic, range.partition);
            position.is_some_and(|(next, _)| next >= range.to)
        })
    }
}
