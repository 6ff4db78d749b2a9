//! `millrace bench e2e`: the time from when a record was meant to be sent until a consumer at the
//! end of the topic has it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use millrace_client::{Consumer, ConsumerOptions, Start};
use serde_json::json;

use super::Telling;
use super::client::ProducerArgs;
use super::gauge::Gauge;
use super::live::{Live, Stop};
use super::load::{Load, LoadArgs, Pool};
use super::produce::rate;
use super::report::{ProcessorTime, Report, merge, verdict};
use super::topic::TopicArgs;
use crate::connect::Bootstrap;
use crate::failure::Failure;

/// Run, producer, number there and due time, which every value begins with.
const MARK_BYTES: usize = 8 + 4 + 8 + 8;
/// How long after the last acknowledgement a record may still come.
const GRACE: Duration = Duration::from_secs(10);

/// Write at a steady rate, and measure until a consumer has each record.
///
/// Latency counts from the moment at which a record was due. Every acknowledged record must reach
/// the consumers once.
///
/// Ends with 0, with 1 when nothing could be measured, with 2 when records failed or were lost.
#[derive(Args, Debug)]
pub struct E2eArgs {
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
        default_value_t = 1000.0,
        allow_hyphen_values = true
    )]
    throughput: f64,
    /// How many consumers, which share the partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    consumers: u16,
    #[command(flatten)]
    producer: ProducerArgs,
    #[command(flatten)]
    telling: Telling,
}

/// Runs the command.
pub async fn run(args: E2eArgs) -> Result<(), Failure> {
    if args.load.record_size < MARK_BYTES {
        let message = format!("--record-size must be at least {MARK_BYTES}");
        return Err(Failure::new(message));
    }
    let options = args.producer.options()?;
    let cluster = args.bootstrap.cluster("bench-e2e")?;
    let topic = args.topic.ready(&cluster).await?;
    let (producers, consumers) = (args.producer.producers.into(), args.consumers.into());
    let tails = tails(&args, &cluster, &topic.partitions, consumers).await?;
    let stop = Stop::on_interrupt();
    let window = args.load.window()?;
    let (acked, arrived) = (Gauge::new(window, producers), Gauge::new(window, consumers));
    let run = Arc::new(Run {
        id: cluster.machine().random.u64(),
        epoch: Instant::now(),
        seen: Mutex::default(),
        acked: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let processor = ProcessorTime::start();
    let live = Live::show(&args.telling, &arrived);
    let mut tasks = Vec::new();
    for (index, consumer) in tails.into_iter().enumerate() {
        let (run, arrived) = (run.clone(), arrived.clone());
        tasks.push(tokio::spawn(async move {
            run.read(consumer, index, &arrived).await
        }));
    }
    let load = Load {
        cluster: cluster.clone(),
        options,
        topic: args.topic.topic.clone(),
        rate: rate(args.throughput)?,
        producers,
        gauge: acked.clone(),
        stop: stop.clone(),
        args: args.load.clone(),
    };
    load.run(
        run.clone().mark(args.load.record_size),
        Some(run.clone().note_acked()),
    )
    .await?;
    run.wait_for_the_last().await;
    for task in tasks {
        let ended = task.await;
        ended.map_err(|_| Failure::new("a consumer panicked"))??;
    }
    drop(live);
    let (lost, twice) = run.compare();
    let settings = settings(&args, topic.partitions.len());
    let mut report = Report::of("e2e", settings);
    report.throughput(&arrived);
    let text = format!("{lost} acknowledged but never read, {twice} read twice");
    report.line(
        "lost",
        text,
        &[("lost", lost.into()), ("read_twice", twice.into())],
    );
    report.latencies("to consumer", "latency_ms", &arrived.totals().latencies);
    report.latencies("to ack", "ack_latency_ms", &acked.totals().latencies);
    report.client(processor.cores());
    report.print(&args.telling);
    args.topic.end(&cluster).await?;
    verdict(&acked, lost, &stop)
}

fn settings(args: &E2eArgs, partitions: usize) -> serde_json::Value {
    let mut settings = args.producer.settings();
    let topic_settings = json!({
        "topic": args.topic.topic,
        "partitions": partitions,
        "record_size": args.load.record_size,
        "throughput": args.throughput,
        "consumers": args.consumers,
    });
    merge(&mut settings, topic_settings);
    settings
}

/// Consumers at the end of their partitions.
async fn tails(
    args: &E2eArgs,
    cluster: &millrace_client::Cluster,
    partitions: &[millrace_client::PartitionView],
    consumers: usize,
) -> Result<Vec<Consumer>, Failure> {
    let mut tails: Vec<Consumer> = Vec::new();
    tails.resize_with(consumers, || {
        Consumer::new(cluster, ConsumerOptions::default())
    });
    for (place, partition) in partitions.iter().enumerate() {
        let tail = &mut tails[place % consumers];
        let topic = &args.topic.topic;
        tail.assign(topic, partition.index, Start::Latest).await?;
    }
    Ok(tails)
}

/// What producers and consumers of one run know of each other.
struct Run {
    /// Tells this run's records from others'.
    id: u64,
    /// Due times are counted from here.
    epoch: Instant,
    seen: Mutex<Numbers>,
    acked: Mutex<Numbers>,
    over: AtomicBool,
}

/// For each producer, how often each of its numbers came up.
#[derive(Default)]
struct Numbers(Vec<Vec<u8>>);

impl Numbers {
    fn note(&mut self, producer: usize, number: u64) {
        if self.0.len() <= producer {
            self.0.resize_with(producer + 1, Vec::new);
        }
        let counts = &mut self.0[producer];
        let place = usize::try_from(number).expect("numbers count what is in memory");
        if counts.len() <= place {
            counts.resize(place + 1, 0);
        }
        counts[place] = counts[place].saturating_add(1);
    }

    fn count(&self, producer: usize, place: usize) -> u8 {
        let counts = self.0.get(producer).and_then(|counts| counts.get(place));
        counts.copied().unwrap_or(0)
    }
}

fn locked(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// Values that begin with what is needed to recognise them.
    fn mark(self: Arc<Run>, bytes: usize) -> super::load::Mark {
        let pool = Pool::new();
        Arc::new(move |producer, number, due| {
            let mut value = BytesMut::with_capacity(bytes);
            value.put_u64(self.id);
            value.put_u32(producer as u32);
            value.put_u64(number);
            let since = due.saturating_duration_since(self.epoch);
            value.put_u64(since.as_nanos() as u64);
            value.put(pool.piece(number, bytes - MARK_BYTES));
            value.freeze()
        })
    }

    fn note_acked(self: Arc<Run>) -> super::load::Acknowledged {
        Arc::new(move |producer, number| locked(&self.acked).note(producer, number))
    }

    /// Producer, number and due time of a record, if it is of this run.
    fn recognise(&self, value: &Bytes) -> Option<(usize, u64, Instant)> {
        let number = |from: usize| -> Option<u64> {
            let bytes = value.get(from..from + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        if number(0)? != self.id {
            return None;
        }
        let producer = u32::from_be_bytes(value.get(8..12)?.try_into().ok()?);
        let due = self.epoch + Duration::from_nanos(number(20)?);
        Some((producer as usize, number(12)?, due))
    }

    async fn read(&self, mut tail: Consumer, index: usize, gauge: &Gauge) -> Result<(), Failure> {
        while !self.over.load(Ordering::Relaxed) {
            for record in tail.poll().await? {
                let value = record.value.unwrap_or_default();
                if let Some((producer, number, due)) = self.recognise(&value) {
                    gauge.done(index, due, value.len() as u64);
                    locked(&self.seen).note(producer, number);
                }
            }
        }
        Ok(())
    }

    /// Waits until consumers have everything that was acknowledged, or too long.
    async fn wait_for_the_last(&self) {
        let deadline = Instant::now() + GRACE;
        while self.compare().0 > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.over.store(true, Ordering::Relaxed);
    }

    /// How many records were acknowledged and never read, and how many read more than once.
    fn compare(&self) -> (u64, u64) {
        let (seen, acked) = (locked(&self.seen), locked(&self.acked));
        let (mut lost, mut twice) = (0, 0);
        for (producer, counts) in acked.0.iter().enumerate() {
            let unread =
                |(place, acked): &(usize, &u8)| **acked > 0 && seen.count(producer, *place) == 0;
            lost += counts.iter().enumerate().filter(unread).count() as u64;
        }
        for counts in &seen.0 {
            twice += counts.iter().filter(|count| **count > 1).count() as u64;
        }
        (lost, twice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u64) -> Arc<Run> {
        Arc::new(Run {
            id,
            epoch: Instant::now(),
            seen: Mutex::default(),
            acked: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    #[test]
    fn a_record_is_recognised_by_its_own_run_only() {
        let (ours, other) = (run(7), run(8));
        let due = ours.epoch + Duration::from_micros(1234);
        let value = ours.clone().mark(100)(3, 99, due);
        assert_eq!(value.len(), 100);
        assert_eq!(ours.recognise(&value), Some((3, 99, due)));
        assert_eq!(other.recognise(&value), None);
        assert_eq!(ours.recognise(&Bytes::from_static(b"short")), None);
    }

    #[test]
    fn what_is_missing_and_what_came_twice_is_counted() {
        let run = run(1);
        for number in 0..10 {
            locked(&run.acked).note(0, number);
            if number != 4 {
                locked(&run.seen).note(0, number);
            }
        }
        locked(&run.seen).note(0, 9);
        // Read, though nobody was told that it was written.
        locked(&run.seen).note(1, 0);
        assert_eq!(run.compare(), (1, 1));
    }
}
