//! `millrace bench produce`: throughput, and the time from when a record was meant to be sent to
//! its acknowledgement.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::Telling;
use super::client::ProducerArgs;
use super::gauge::Gauge;
use super::live::{Live, Stop};
use super::load::{Load, LoadArgs, Pool};
use super::report::{ProcessorTime, Report, merge, verdict};
use super::topic::TopicArgs;
use crate::connect::Bootstrap;
use crate::failure::Failure;

/// Write records, as fast as possible or at a steady rate, and measure acknowledgements.
///
/// At a steady rate (--throughput) latency counts from the moment at which a record was due, also
/// where the cluster fell behind and it was sent later, so that a stall counts for all it delayed.
/// Without a rate, latency is mostly the queue in the producer: read it with the throughput.
///
/// Ends with 0, with 1 when nothing could be measured, with 2 when records failed.
#[derive(Args, Debug)]
pub struct ProduceArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    topic: TopicArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Records a second of all producers together; -1 for as many as possible
    #[arg(
        long,
        value_name = "RECORDS/S",
        default_value_t = -1.0,
        allow_hyphen_values = true
    )]
    throughput: f64,
    #[command(flatten)]
    producer: ProducerArgs,
    #[command(flatten)]
    telling: Telling,
}

/// Runs the command.
pub async fn run(args: ProduceArgs) -> Result<(), Failure> {
    let options = args.producer.options()?;
    let cluster = args.bootstrap.cluster("bench-produce")?;
    let topic = args.topic.ready(&cluster).await?;
    let producers = usize::from(args.producer.producers);
    let stop = Stop::on_interrupt();
    let gauge = Gauge::new(args.load.window()?, producers);
    let load = Load {
        cluster: cluster.clone(),
        options,
        topic: args.topic.topic.clone(),
        rate: rate(args.throughput)?,
        producers,
        gauge: gauge.clone(),
        stop: stop.clone(),
        args: args.load.clone(),
    };
    let pool = Pool::new();
    let bytes = args.load.record_size;
    let mark = move |_, number, _| pool.piece(number, bytes);
    let processor = ProcessorTime::start();
    let live = Live::show(&args.telling, &gauge);
    load.run(Arc::new(mark), None).await?;
    drop(live);
    let mut settings = args.producer.settings();
    let topic_settings = json!({
        "topic": args.topic.topic,
        "partitions": topic.partitions.len(),
        "record_size": bytes,
        "throughput": args.throughput,
    });
    merge(&mut settings, topic_settings);
    let mut report = Report::of("produce", settings);
    report.throughput(&gauge);
    let label = match args.throughput > 0.0 {
        true => "latency",
        false => "in queue",
    };
    report.latencies(label, "latency_ms", &gauge.totals().latencies);
    report.client(processor.cores());
    report.print(&args.telling);
    args.topic.end(&cluster).await?;
    verdict(&gauge, 0, &stop)
}

/// Records a second; none where there is no limit.
pub fn rate(given: f64) -> Result<Option<f64>, Failure> {
    match given {
        -1.0 => Ok(None),
        rate if rate > 0.0 && rate.is_finite() => Ok(Some(rate)),
        other => Err(Failure::new(format!(
            "--throughput {other} is neither -1 nor a number of records a second"
        ))),
    }
}
