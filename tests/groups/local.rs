//! Members of a group as threads of this process, by librdkafka: for scenarios where none is killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use millrace_testkit::wait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;

use super::members::{Protocol, Said};
use super::millis;
use crate::load::{STOPPING, client};

/// A member that reads and commits.
pub struct LocalMember {
    stop: Arc<AtomicBool>,
    said: Arc<Mutex<Said>>,
    thread: JoinHandle<()>,
}

impl LocalMember {
    /// Starts one; it joins by itself.
    pub fn start(bootstrap: &str, topic: &str, group: &str, protocol: Protocol) -> LocalMember {
        let mut settings = client(bootstrap);
        settings
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50");
        match protocol {
            Protocol::Consumer => settings.set("group.protocol", "consumer"),
            Protocol::Eager => settings.set("partition.assignment.strategy", "range"),
            Protocol::Cooperative => {
                settings.set("partition.assignment.strategy", "cooperative-sticky")
            }
        };
        if protocol != Protocol::Consumer {
            settings
                .set("session.timeout.ms", "6000")
                .set("heartbeat.interval.ms", "200");
        }
        let consumer: BaseConsumer = settings.create().expect("the settings are right");
        consumer.subscribe(&[topic]).expect("a topic can be wanted");
        let stop = Arc::new(AtomicBool::new(false));
        let said = Arc::new(Mutex::new(Said::default()));
        let (asked_to_stop, shared) = (stop.clone(), said.clone());
        let thread = thread::spawn(move || {
            while !asked_to_stop.load(Ordering::Relaxed) {
                turn(&consumer, &shared);
            }
        });
        LocalMember { stop, said, thread }
    }

    /// What it has read and committed so far.
    pub fn said(&self) -> Said {
        lock(&self.said).clone()
    }

    /// Has it leave its group; what it has read and committed.
    pub fn finish(self) -> Said {
        self.stop.store(true, Ordering::Relaxed);
        wait::joined("a member", STOPPING, self.thread);
        lock(&self.said).clone()
    }
}

/// Reads what is there and commits it.
fn turn(consumer: &BaseConsumer, said: &Mutex<Said>) {
    let mut read = Vec::new();
    let mut wait = Duration::from_millis(50);
    while let Some(polled) = consumer.poll(wait) {
        if let Ok(message) = polled {
            read.push((message.partition(), message.offset()));
        }
        wait = Duration::ZERO;
        if read.len() >= 100 {
            break;
        }
    }
    let owned = consumer.assignment().map_or(0, |list| list.count());
    {
        let mut said = lock(said);
        said.owned = vec![owned];
        said.read.extend(&read);
    }
    let Some((partition, offset)) = read.last() else {
        return;
    };
    if consumer.commit_consumer_state(CommitMode::Sync).is_ok() {
        let commit = (*partition, offset + 1, millis(SystemTime::now()));
        lock(said).commits.push(commit);
    }
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
