//! Producers at work: one thread each decides when a record is due, and hands it to a client that
//! sends in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use millrace_client::{Cluster, Producer, ProducerOptions, ToSend};
use tokio::runtime::Handle;

use super::gauge::Gauge;
use super::live::Stop;
use super::pace::{Pacer, Window};
use crate::failure::Failure;

/// Random letters that payloads are cut from.
const POOL_BYTES: usize = 1 << 20;

/// How much is written, and how fast.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// How many records after the warm-up; without it --duration decides
    #[arg(long, visible_alias = "num-records", value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// How long after the warm-up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// How long before anything counts, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    warm_up: f64,
    /// Bytes of a record's value: random letters
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub record_size: usize,
}

impl LoadArgs {
    /// The window that is measured, beginning with the warm-up now.
    pub fn window(&self) -> Result<Window, Failure> {
        let seconds = |seconds: f64, name: &str| {
            let length = Duration::try_from_secs_f64(seconds);
            length.map_err(|_| Failure::new(format!("--{name} {seconds} is no span of time")))
        };
        let warm_up = seconds(self.warm_up, "warm-up")?;
        let duration = seconds(self.duration, "duration")?;
        if self.record_size > POOL_BYTES {
            let message = format!("--record-size goes up to {POOL_BYTES}");
            return Err(Failure::new(message));
        }
        let now = Instant::now();
        Ok(match self.records {
            Some(_) => Window::open(now, warm_up),
            None => Window::timed(now, warm_up, duration),
        })
    }
}

/// Everything that producers share.
#[derive(Clone)]
pub struct Load {
    pub cluster: Cluster,
    pub options: ProducerOptions,
    pub topic: String,
    pub args: LoadArgs,
    /// Records a second of all producers; as fast as they go where there is none.
    pub rate: Option<f64>,
    pub producers: usize,
    pub gauge: Gauge,
    pub stop: Stop,
}

/// What goes into a record before it is sent: worker, its number there, and when it is due.
pub type Mark = Arc<dyn Fn(usize, u64, Instant) -> Bytes + Send + Sync>;
/// Who is told that a record was acknowledged: worker and number there.
pub type Acknowledged = Arc<dyn Fn(usize, u64) + Send + Sync>;

impl Load {
    /// Writes until all is acknowledged or failed.
    pub async fn run(self, mark: Mark, acknowledged: Option<Acknowledged>) -> Result<(), Failure> {
        let counted = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for index in 0..self.producers {
            let worker = Worker {
                producer: Producer::new(&self.cluster, self.options),
                pacer: Pacer::new(Instant::now(), self.rate, index, self.producers),
                load: self.clone(),
                index,
                counted: counted.clone(),
                mark: mark.clone(),
                acknowledged: acknowledged.clone(),
            };
            let runtime = Handle::current();
            let name = format!("producer-{index}");
            let thread = std::thread::Builder::new().name(name);
            threads.push(thread.spawn(move || worker.run(&runtime))?);
        }
        for thread in threads {
            while !thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let ended = thread.join();
            let ended = ended.map_err(|_| Failure::new("a producer's thread panicked"))?;
            ended?;
        }
        // Each record ends by itself, at the latest when its delivery timeout is over.
        while self.gauge.unsettled() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

struct Worker {
    producer: Producer,
    pacer: Pacer,
    load: Load,
    index: usize,
    counted: Arc<AtomicU64>,
    mark: Mark,
    acknowledged: Option<Acknowledged>,
}

impl Worker {
    fn run(mut self, runtime: &Handle) -> Result<(), Failure> {
        let window = *self.load.gauge.window();
        let wanted = self.load.args.records;
        for number in 0.. {
            let intended = self.pacer.wait();
            if window.is_over(intended) || self.load.stop.is_set() {
                break;
            }
            if let Some(wanted) = wanted
                && window.counts_start(intended)
                && self.counted.fetch_add(1, Ordering::Relaxed) >= wanted
            {
                break;
            }
            self.send(runtime, number, intended)?;
        }
        Ok(())
    }

    fn send(&self, runtime: &Handle, number: u64, intended: Instant) -> Result<(), Failure> {
        let value = (self.mark)(self.index, number, intended);
        let bytes = value.len() as u64;
        let record = ToSend {
            value: Some(value),
            ..ToSend::default()
        };
        let (gauge, index) = (self.load.gauge.clone(), self.index);
        let acknowledged = self.acknowledged.clone();
        gauge.sent();
        let done = move |outcome: millrace_client::Outcome| match outcome {
            Ok(_) => {
                gauge.done(index, intended, bytes);
                if let Some(acknowledged) = acknowledged {
                    acknowledged(index, number);
                }
            }
            Err(error) => gauge.failed(index, &error),
        };
        let sending = self.producer.send_then(&self.load.topic, record, done);
        Ok(runtime.block_on(sending)?)
    }
}

/// Random letters, of which every record is a piece.
pub struct Pool(Bytes);

impl Pool {
    /// A pool.
    pub fn new() -> Pool {
        Pool(letters(2 * POOL_BYTES).into())
    }

    /// A piece that differs from record to record.
    pub fn piece(&self, number: u64, bytes: usize) -> Bytes {
        // A large prime, so that records that follow one another share nothing.
        let from = number.wrapping_mul(7_368_787) as usize % POOL_BYTES;
        self.0.slice(from..from + bytes)
    }
}

/// Letters as `kafka-producer-perf-test.sh` makes them, so that they compress as well.
pub fn letters(bytes: usize) -> Vec<u8> {
    // A quick generator (xorshift); nothing depends on its quality.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'A' + (state >> 33).rem_euclid(26) as u8
    };
    (0..bytes).map(|_| letter()).collect()
}
