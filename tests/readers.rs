//! Those who look on: a reader at the tail, a watcher of watermarks and leaders, and the reading
//! back of everything at the end. All by stock clients or by plain requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use millrace_testkit::admin::Admin;
use millrace_testkit::history::{Leadership, Mark, Placed};
use millrace_testkit::wait;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::load::{STOPPING, client};

/// What a reader can meet that is no record.
type Corrupt = String;

/// Reads at the tail while the run goes on.
pub struct Tail {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Placed>, Vec<Corrupt>)>,
}

impl Tail {
    /// Begins at the first offset of every partition.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Tail {
        let stop = Arc::new(AtomicBool::new(false));
        let consumer = consumer(&consumer_settings(bootstrap), topic, partitions);
        let asked_to_stop = stop.clone();
        let thread = thread::spawn(move || {
            let (mut seen, mut corrupt) = (Vec::new(), Vec::new());
            while !asked_to_stop.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                    take(&message, &mut seen, &mut corrupt);
                }
            }
            (seen, corrupt)
        });
        Tail { stop, thread }
    }

    /// What it saw, in its order.
    pub fn finish(self) -> (Vec<Placed>, Vec<Corrupt>) {
        self.stop.store(true, Ordering::Relaxed);
        wait::joined("a reader", STOPPING, self.thread)
    }
}

/// Asks for leaders and high watermarks all the time.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Watched>,
}

/// What the watcher was told.
#[derive(Default)]
pub struct Watched {
    /// Partition and high watermark, in the order of the answers; what a deposed leader said of an
    /// older epoch is left out.
    pub watermarks: Vec<(i32, i64)>,
    /// Who was named as leader in which epoch.
    pub leaders: Vec<Leadership>,
    /// Answers that no broker may give: an end that is -1 without an error.
    pub nonsense: Vec<String>,
}

impl Watch {
    /// Over the brokers with these client ports, by node.
    pub fn start(ports: BTreeMap<i32, u16>, topic: &str) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let asked_to_stop = stop.clone();
        let topic = topic.to_owned();
        let thread = thread::spawn(move || {
            let mut watched = Watched::default();
            let mut epochs = BTreeMap::new();
            while !asked_to_stop.load(Ordering::Relaxed) {
                for port in ports.values() {
                    watched.look(*port, &topic, &ports, &mut epochs);
                }
                thread::sleep(Duration::from_millis(100));
            }
            watched
        });
        Watch { stop, thread }
    }

    /// What it was told.
    pub fn finish(self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        wait::joined("a watcher", STOPPING, self.thread)
    }
}

impl Watched {
    fn look(
        &mut self,
        port: u16,
        topic: &str,
        ports: &BTreeMap<i32, u16>,
        epochs: &mut BTreeMap<i32, i32>,
    ) {
        let Ok(partitions) = Admin::new(vec![port]).partitions(topic) else {
            return;
        };
        for partition in partitions {
            let Some(leader) = partition.leader else {
                continue;
            };
            self.leaders.push(Leadership {
                partition: partition.index,
                epoch: partition.leader_epoch,
                leader,
            });
            let Some(leader_port) = ports.get(&leader) else {
                continue;
            };
            let Ok(end) = Admin::list_offset(*leader_port, topic, partition.index, -1) else {
                return;
            };
            let epoch = epochs.entry(partition.index).or_insert(end.leader_epoch);
            if end.error == 0 && end.offset < 0 {
                self.nonsense
                    .push(format!("latest offset of {}: {end:?}", partition.index));
            } else if end.error == 0 && end.leader_epoch >= *epoch {
                *epoch = end.leader_epoch;
                self.watermarks.push((partition.index, end.offset));
            }
        }
    }
}

/// A whole log by partition: offset and record.
pub type Log = BTreeMap<i32, Vec<(i64, Mark)>>;

/// Reads a whole topic with a stock consumer: every record, by partition, in the order of offsets.
///
/// # Panics
/// When the end of every partition is not reached within `limit`.
pub fn read_back(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    limit: Duration,
) -> (Log, Vec<Corrupt>) {
    let mut settings = consumer_settings(bootstrap);
    settings.set("enable.partition.eof", "true");
    let consumer = consumer(&settings, topic, partitions);
    let began = Instant::now();
    let mut log: Log = (0..partitions).map(|p| (p, Vec::new())).collect();
    let (mut seen, mut corrupt) = (Vec::new(), Vec::new());
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < partitions as usize {
        assert!(
            began.elapsed() < limit,
            "only the ends of {ended:?} were reached in {limit:?}"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => take(&message, &mut seen, &mut corrupt),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(_)) | None => {}
        }
    }
    for placed in seen {
        let partition = log.entry(placed.partition).or_default();
        partition.push((placed.offset, placed.mark));
    }
    (log, corrupt)
}

fn take(message: &impl Message, seen: &mut Vec<Placed>, corrupt: &mut Vec<Corrupt>) {
    let place = format!("{}@{}", message.partition(), message.offset());
    match Mark::of_value(message.payload().unwrap_or_default()) {
        Ok(mark) => seen.push(Placed {
            partition: message.partition(),
            offset: message.offset(),
            mark,
        }),
        Err(why) => corrupt.push(format!("{place}: {why}")),
    }
}

fn consumer_settings(bootstrap: &str) -> ClientConfig {
    let mut config = client(bootstrap);
    config
        .set("group.id", "not-joined")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "20")
        .set("auto.offset.reset", "error");
    config
}

fn consumer(settings: &ClientConfig, topic: &str, partitions: i32) -> BaseConsumer {
    let consumer: BaseConsumer = settings
        .create()
        .expect("the settings of the consumer are right");
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a partition can be listed");
    }
    consumer.assign(&all).expect("partitions can be assigned");
    consumer
}
