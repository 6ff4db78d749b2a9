//! Groups under test: members as processes of stock clients, what they read and commit, and the
//! verdict over it.

mod local;
mod members;
mod offsets;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_testkit::admin::{NewTopic, NodeId};
use millrace_testkit::{Cluster, wait};

pub use members::{Client, Members, Protocol};
pub use offsets::CommittedWatch;

use crate::load::{Answers, Load, Pace};

/// The internal topic of offsets.
pub const OFFSETS: &str = "__consumer_offsets";

/// How long a group may take to get somewhere on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A group at work on a topic that is being written to.
pub struct GroupRun {
    /// The group's name.
    pub group: String,
    topic: String,
    partitions: i32,
    bootstrap: String,
    load: Load,
    watch: CommittedWatch,
    members: Vec<Members>,
    gone: Vec<Members>,
    next: u32,
    client: Client,
    protocol: Protocol,
}

impl GroupRun {
    /// Loads a topic that is there, and looks on what a group without members has committed.
    pub fn start(
        cluster: &Cluster,
        topic: &str,
        partitions: i32,
        client: Client,
        protocol: Protocol,
    ) -> GroupRun {
        let bootstrap = cluster.bootstrap();
        let pace = Pace {
            per_second: 300,
            producers: 1,
            ..Pace::default()
        };
        let group = format!("of-{topic}");
        GroupRun {
            load: Load::start(&bootstrap, topic, partitions, &pace),
            watch: CommittedWatch::start(&bootstrap, &group, topic, partitions),
            topic: topic.to_owned(),
            group,
            partitions,
            bootstrap,
            members: Vec::new(),
            gone: Vec::new(),
            next: 0,
            client,
            protocol,
        }
    }

    /// A topic of this name with six partitions, and three members of librdkafka in this process that
    /// share it and have come some way.
    pub fn of_three(cluster: &Cluster, topic: &str, protocol: Protocol) -> GroupRun {
        const PARTITIONS: usize = 6;
        let replicas = [vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]];
        let new = NewTopic {
            name: topic,
            partitions: PARTITIONS as i32,
            replication: 3,
            assignment: (0..PARTITIONS).map(|i| replicas[i % 3].clone()).collect(),
            configs: Vec::new(),
        };
        wait::until("the topic to be made", PATIENCE, || {
            cluster.admin().create_topic(&new)
        });
        cluster.wait_in_sync(topic, PATIENCE);
        let partitions = PARTITIONS as i32;
        let mut run = GroupRun::start(cluster, topic, partitions, Client::Local, protocol);
        for _ in 0..3 {
            run.add(1);
        }
        run.wait_shared(3);
        run.wait_progress(20);
        run
    }

    /// The topic that it reads.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Starts a process with so many members.
    pub fn add(&mut self, count: u32) {
        self.add_with(self.protocol, count);
    }

    /// The same with members that speak another protocol.
    pub fn add_with(&mut self, protocol: Protocol, count: u32) {
        let members = Members::start(
            self.client,
            [&self.bootstrap, &self.topic, &self.group],
            protocol,
            self.next,
            count,
        );
        self.next += count;
        self.members.push(members);
    }

    /// Kills the process that was started last.
    pub fn kill_last(&mut self) {
        let mut last = self.members.pop().expect("there are members");
        last.kill();
        self.gone.push(last);
    }

    /// Has the process that was started last leave its group and end.
    pub fn stop_last(&mut self) {
        let mut last = self.members.pop().expect("there are members");
        last.stop();
        self.gone.push(last);
    }

    /// The same with the one that was started first.
    pub fn stop_first(&mut self) {
        let mut first = self.members.remove(0);
        first.stop();
        self.gone.push(first);
    }

    /// Waits until every partition has been committed further than now by `more` records.
    pub fn wait_progress(&self, more: i64) {
        let before = self.watch.newest();
        wait::until("the group to go on", PATIENCE, || {
            let now = self.watch.newest();
            let went_on = (0..self.partitions).all(|partition| {
                let at = |offsets: &BTreeMap<i32, i64>| offsets.get(&partition).copied();
                at(&now).unwrap_or(0) >= at(&before).unwrap_or(0) + more
            });
            match went_on {
                true => Ok(()),
                false => Err(format!("from {before:?} to {now:?}; {}", self.last_words())),
            }
        });
    }

    /// Waits until each of so many members owns a partition, and together they own all.
    pub fn wait_shared(&self, count: usize) {
        wait::until("the partitions to be shared", PATIENCE, || {
            let owned: Vec<usize> = self.members.iter().map(Members::owned).collect();
            let members: usize = self.members.iter().map(Members::owners).sum();
            match owned.iter().sum::<usize>() == self.partitions as usize && members == count {
                true => Ok(()),
                false => Err(format!(
                    "{members} members own {owned:?}; {}",
                    self.last_words()
                )),
            }
        });
    }

    fn last_words(&self) -> String {
        let words = self.members.iter().map(|members| members.tail(5));
        words.collect::<Vec<_>>().join("\n--\n")
    }

    /// The partition of the internal topic that holds this group.
    pub fn coordinator_partition(&self) -> i32 {
        place_of(&self.group) % 50
    }

    /// The broker that coordinates the group.
    pub fn coordinator(&self, cluster: &Cluster) -> NodeId {
        cluster.leader_of(OFFSETS, self.coordinator_partition())
    }

    /// When a member committed first after `moment`.
    pub fn first_commit_after(&self, moment: SystemTime) -> Duration {
        let moment = millis(moment);
        let first = wait::until("a commit", PATIENCE, || {
            let commits = self.members.iter().flat_map(|m| m.said().commits);
            let after = commits.map(|(_, _, at)| at).filter(|at| *at > moment);
            after.min().ok_or_else(|| "none so far".to_owned())
        });
        Duration::from_millis(first - moment)
    }

    /// Stops the load, waits until the group has caught up, and judges: every record was read by
    /// some member, no committed offset ever went back, and none is beyond what was read.
    pub fn finish(self) -> Judged {
        let GroupRun {
            load,
            watch,
            members,
            mut gone,
            ..
        } = self;
        let answers = load.finish();
        let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
        for placed in &answers.acked {
            let end = ends.entry(placed.partition).or_default();
            *end = (*end).max(placed.offset + 1);
        }
        wait::until("the group to catch up", PATIENCE, || {
            let now = watch.newest();
            match ends.iter().all(|(p, end)| now.get(p) >= Some(end)) {
                true => Ok(()),
                false => Err(format!("{now:?} of {ends:?}")),
            }
        });
        for mut last in members {
            last.stop();
            gone.push(last);
        }
        let watched = watch.finish();
        let mut findings = watched.went_back;
        let mut read: BTreeMap<i32, std::collections::BTreeSet<i64>> = BTreeMap::new();
        for members in &gone {
            for (partition, offset) in members.said().read {
                read.entry(partition).or_default().insert(offset);
            }
        }
        for (partition, end) in &ends {
            let seen = read.remove(partition).unwrap_or_default();
            let missing: Vec<i64> = (0..*end).filter(|offset| !seen.contains(offset)).collect();
            if !missing.is_empty() {
                let first: Vec<_> = missing.iter().take(5).collect();
                let count = missing.len();
                findings.push(format!("{count} of {partition} were never read: {first:?}"));
            }
        }
        Judged { answers, findings }
    }
}

/// How a run of a group ended.
pub struct Judged {
    /// What the producers were told.
    pub answers: Answers,
    /// Broken promises.
    pub findings: Vec<String>,
}

impl Judged {
    /// Wants every promise kept.
    ///
    /// # Panics
    /// When one was broken.
    pub fn expect_sound(self) {
        assert!(self.findings.is_empty(), "{}", self.findings.join("\n"));
        let errors = &self.answers.errors;
        assert!(errors.is_empty(), "producers were told of {errors:?}");
        assert!(
            self.answers.acked.len() > 100,
            "hardly anything was written"
        );
    }
}

/// Kafka's place for a group, before the modulo.
fn place_of(group: &str) -> i32 {
    let units = group.encode_utf16();
    let hash = units.fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    if hash == i32::MIN { 0 } else { hash.abs() }
}

fn millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
