//! What clients do, under a good sky and under a bad one.

mod admin;
mod consumers;
mod groups;
mod pipelines;
mod producers;

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_client::{Cluster, NewTopic};
use millrace_host::Host;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::book::{Promise, SharedBook};

pub use groups::GROUPS;

/// How long a client waits for one answer.
const ANSWER: Duration = Duration::from_secs(3);

/// How long segments are written where disks change what they hold.
const CLOSED_SOON_MS: &str = "3000";

/// Producers pipeline in the first two seeds of this many, and all others do what they did before
/// there was that.
const PIPELINES_IN: u64 = 5;

/// Whether some producers of the run of this seed pipeline.
pub fn pipelines(seed: u64) -> bool {
    seed % PIPELINES_IN < 2
}

/// A topic of the workload.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// How many partitions.
    pub partitions: i32,
    /// What is promised of it.
    pub promise: Promise,
    /// Settings that differ.
    pub configs: &'static [(&'static str, &'static str)],
}

/// All of them: 12 partitions.
pub const TOPICS: &[Topic] = &[
    Topic {
        name: "exact",
        partitions: 5,
        promise: Promise::Exact,
        configs: &[("segment.bytes", "1048576")],
    },
    Topic {
        name: "kept",
        partitions: 4,
        promise: Promise::Kept,
        configs: &[("segment.ms", "4000")],
    },
    Topic {
        name: "hoped",
        partitions: 3,
        promise: Promise::Hoped,
        configs: &[("min.insync.replicas", "1")],
    },
];

/// Where the workload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everything is written, read and administered.
    Load,
    /// Nothing new is written.
    Drain,
    /// Readers read to the end, and the whole log is read once more.
    ReadBack,
}

/// What every client is made of.
#[derive(Clone)]
pub struct Client {
    host: Host,
    bootstrap: String,
    book: SharedBook,
    stage: watch::Receiver<Stage>,
    seed: u64,
}

impl Client {
    /// A client on this machine.
    pub fn new(
        host: Host,
        bootstrap: String,
        book: SharedBook,
        stage: watch::Receiver<Stage>,
    ) -> Client {
        let seed = host.random.u64();
        Client {
            host,
            bootstrap,
            book,
            stage,
            seed,
        }
    }

    fn cluster(&self, name: &str) -> Cluster {
        Cluster::new(&self.host, &self.bootstrap, name, ANSWER)
            .expect("the simulation's own addresses are sound")
    }

    fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    async fn reached(&self, stage: Stage) {
        let mut watched = self.stage.clone();
        // The simulation outlives its clients.
        let _ = watched.wait_for(|now| *now >= stage).await;
    }

    /// Another sequence of numbers for each part of a client.
    fn rng(&self, part: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(part))
    }

    /// Makes the topics; gives up never.
    pub async fn prepare(self) {
        let cluster = self.cluster("prepare");
        for topic in TOPICS {
            let configs = topic.configs.iter();
            let mut configs: BTreeMap<String, String> = configs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            if self.book.open().loses_disks {
                // Where one replica is enough, its disk may be the only one with everything.
                configs.remove("min.insync.replicas");
            }
            if self.book.open().bits_flip {
                configs.insert("segment.ms".to_owned(), CLOSED_SOON_MS.to_owned());
            }
            let new = NewTopic {
                name: topic.name.to_owned(),
                partitions: Some(topic.partitions),
                configs,
                ..NewTopic::default()
            };
            while let Err(error) = cluster.create_topic(&new).await {
                let exists = error.code() == Some(millrace_model::ErrorCode::TopicAlreadyExists);
                if exists {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Starts everything that a client machine does.
    pub async fn work(self, administers: bool) {
        for (number, topic) in TOPICS.iter().enumerate() {
            let tasks = &self.host.tasks;
            let part = number as u64 * 10;
            let pipelines = self.book.open().pipelines && !administers;
            match topic.promise {
                Promise::Exact if pipelines => pipelines::spawn(&self, topic, part),
                _ => {
                    tasks.spawn(producers::keep_producing(self.clone(), topic.clone(), part));
                }
            }
            tasks.spawn(consumers::keep_reading(self.clone(), topic.clone(), part));
        }
        for (number, group) in GROUPS.iter().enumerate() {
            for place in 0..groups::MEMBERS {
                let part = 2_000 + number as u64 * 10 + place;
                let keeping = groups::keep_a_member(self.clone(), group, part);
                self.host.tasks.spawn(keeping);
            }
            if administers {
                let part = 3_000 + number as u64;
                let watching = groups::watch_commits(self.clone(), group, part);
                self.host.tasks.spawn(watching);
            }
        }
        if administers {
            self.host.tasks.spawn(admin::administer(self.clone()));
            for topic in TOPICS {
                let reading = consumers::read_back(self.clone(), topic.clone());
                self.host.tasks.spawn(reading);
            }
        }
        self.reached(Stage::ReadBack).await;
    }
}

/// A number of milliseconds.
fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}
