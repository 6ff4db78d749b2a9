//! Consumer groups: members of both protocols that join, read, commit, leave and vanish, and an
//! observer of what their groups have committed.

mod classic;

use std::time::Duration;

use millrace_client::{
    ClientError, Cluster, Consumed, ConsumerOptions, Member, Start, TopicPartition,
};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Client, Stage, millis};
use crate::book::SharedBook;
use crate::trace::event;
use classic::Classic;

/// How members find out what is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// One of them says, at each rebalance of all (JoinGroup, SyncGroup).
    Classic,
    /// The coordinator says (KIP-848).
    Consumer,
}

/// A group of the workload.
#[derive(Debug)]
pub struct Group {
    /// Its id.
    pub name: &'static str,
    /// What it reads; all of it counts.
    pub topic: &'static str,
    /// The partitions of that.
    pub partitions: i32,
    protocol: Protocol,
}

/// All of them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "told",
        topic: "kept",
        partitions: 4,
        protocol: Protocol::Consumer,
    },
    Group {
        name: "agreed",
        topic: "exact",
        partitions: 5,
        protocol: Protocol::Classic,
    },
];

/// Members of each group on a machine, at most.
pub const MEMBERS: u64 = 2;
/// How long a member stays while there is load, in milliseconds, and how long until the next.
const STAY: std::ops::Range<u64> = 2_000..15_000;
const PAUSE: std::ops::Range<u64> = 50..2_500;
/// How long a member takes to deal with what one answer brings, at most, in milliseconds.
const WORK: std::ops::Range<u64> = 0..25;
/// How many vanish instead of leaving.
const VANISHING: f64 = 0.3;

/// A member of either kind.
enum Either {
    Classic(Box<Classic>),
    Consumer(Box<Member>),
}

/// Has a member in a group, and another when that is gone, until everything is read.
pub async fn keep_a_member(client: Client, group: &'static Group, part: u64) {
    let mut rng = client.rng(part);
    while client.stage() < Stage::ReadBack {
        let number = {
            let mut book = client.book.open();
            book.members += 1;
            book.members
        };
        let name = format!("member-{number}");
        let mut member = Either::new(&client.cluster(&name), group, &mut rng);
        let work = millis(&mut rng, WORK);
        let leaving = client.host.clock.now() + millis(&mut rng, STAY);
        let stays = || match client.stage() {
            Stage::Load => client.host.clock.now() < leaving,
            Stage::Drain => true,
            Stage::ReadBack => false,
        };
        event!("{name} joins {}", group.name);
        while stays() {
            member.round(&client.book, group, &name).await;
            tokio::time::sleep(work).await;
        }
        if rng.random_bool(VANISHING) {
            event!("{name} vanishes from {}", group.name);
            drop(member);
        } else {
            event!("{name} leaves {}", group.name);
            member.leave(&client.book).await;
        }
        tokio::time::sleep(millis(&mut rng, PAUSE)).await;
    }
}

impl Either {
    fn new(cluster: &Cluster, group: &Group, rng: &mut StdRng) -> Either {
        let options = ConsumerOptions {
            max_wait: millis(rng, 20..300),
            max_partition_bytes: rng.random_range(3_000..20_000),
            ..ConsumerOptions::default()
        };
        match group.protocol {
            Protocol::Classic => Either::Classic(Box::new(Classic::new(cluster, group, options))),
            Protocol::Consumer => {
                let topics = vec![group.topic.to_owned()];
                let member = Member::new(cluster, group.name, topics, Start::Earliest, options);
                Either::Consumer(Box::new(member))
            }
        }
    }

    async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        match self {
            Either::Classic(member) => member.poll().await,
            Either::Consumer(member) => member.poll().await,
        }
    }

    /// The epoch or generation, and what this member takes for its own in it.
    fn owned(&self) -> (i32, &[TopicPartition]) {
        match self {
            Either::Classic(member) => member.owned(),
            Either::Consumer(member) => member.owned(),
        }
    }

    fn done(&mut self, record: &Consumed) {
        match self {
            Either::Classic(member) => member.done(record),
            Either::Consumer(member) => member.done(record),
        }
    }

    async fn round(&mut self, book: &SharedBook, group: &Group, name: &str) {
        let polled = self.poll().await;
        {
            let mut book = book.open();
            let seen = book.groups.entry(group.name.to_owned()).or_default();
            let (epoch, owned) = self.owned();
            for (_, partition) in owned {
                let owners = seen.owners.entry((epoch, *partition)).or_default();
                if !owners.contains(name) {
                    owners.insert(name.to_owned());
                }
            }
            for record in polled.iter().flatten() {
                let consumed = seen.consumed.entry(record.partition).or_default();
                consumed.insert(record.offset.get());
            }
        }
        match polled {
            Ok(records) => records.iter().for_each(|record| self.done(record)),
            Err(error) => {
                book.met("reading in a group", &error);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn leave(self, book: &SharedBook) {
        let left = match self {
            Either::Classic(member) => member.leave().await,
            Either::Consumer(member) => member.leave().await,
        };
        if let Err(error) = left {
            book.met("leaving a group", &error);
        }
    }
}

/// Asks all the time what a group has committed.
pub async fn watch_commits(client: Client, group: &'static Group, part: u64) {
    let mut rng = client.rng(part);
    let cluster = client.cluster(&format!("watch-{}", group.name));
    while client.stage() < Stage::ReadBack {
        tokio::time::sleep(millis(&mut rng, 50..300)).await;
        match cluster.committed_offsets(group.name).await {
            Ok(offsets) => {
                let offsets = offsets.into_iter();
                let offsets = offsets.map(|((_, partition), at)| (partition, at.offset.get()));
                let mut book = client.book.open();
                let seen = book.groups.entry(group.name.to_owned()).or_default();
                seen.committed.push(offsets.collect());
            }
            Err(error) => client.book.met("asking for commits", &error),
        }
    }
}
