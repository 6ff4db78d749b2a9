//! Asks all the time what a group has committed: that may never go back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_testkit::wait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::load::{STOPPING, client};

/// Looks on what a group has committed.
pub struct CommittedWatch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The newest offset of each partition.
    pub newest: BTreeMap<i32, i64>,
    /// Where an older offset was seen after a newer one.
    pub went_back: Vec<String>,
}

impl CommittedWatch {
    /// Begins to look, by a stock client that does not join the group.
    pub fn start(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> CommittedWatch {
        let mut settings = client(bootstrap);
        settings.set("group.id", group);
        let consumer: BaseConsumer = settings.create().expect("the settings are right");
        let mut wanted = TopicPartitionList::new();
        for partition in 0..partitions {
            wanted.add_partition(topic, partition);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (asked_to_stop, shared) = (stop.clone(), seen.clone());
        let thread = thread::spawn(move || {
            while !asked_to_stop.load(Ordering::Relaxed) {
                let limit = Duration::from_secs(5);
                if let Ok(found) = consumer.committed_offsets(wanted.clone(), limit) {
                    lock(&shared).take(&found);
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        CommittedWatch { stop, seen, thread }
    }

    /// The newest offset of each partition.
    pub fn newest(&self) -> BTreeMap<i32, i64> {
        lock(&self.seen).newest.clone()
    }

    /// What was seen in all.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        wait::joined("a watcher", STOPPING, self.thread);
        lock(&self.seen).clone()
    }
}

impl Seen {
    fn take(&mut self, found: &TopicPartitionList) {
        for element in found.elements() {
            let partition = element.partition();
            let before = self.newest.get(&partition).copied();
            match element.offset() {
                Offset::Offset(offset) => {
                    if before.is_some_and(|before| offset < before) {
                        let was = before.unwrap_or_default();
                        self.went_back
                            .push(format!("{partition} went back from {was} to {offset}"));
                    }
                    self.newest.insert(partition, offset);
                }
                other if before.is_some() && element.error().is_ok() => {
                    let was = before.unwrap_or_default();
                    self.went_back
                        .push(format!("{partition} was {was} and is {other:?}"));
                }
                _ => {}
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
