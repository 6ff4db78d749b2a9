//! A shard with what drives it: a log, a clock, topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_model::{Offset, Timestamp, TopicId, TopicName, Uuid};

use crate::consumer::State;
use crate::group::{Call, Caller, Record, Request, Response, Settings, Topic, Topics, View};
use crate::shard::{Input, Now, Origin, ReplyTo, Shard};
use crate::{Effects, Groups};

/// The only group.
pub(super) const GROUP: &str = "g";

/// Topics as a broker's image would show them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    version: u64,
    made: u128,
    topics: BTreeMap<TopicName, (Topic, Vec<Arc<str>>)>,
}

impl Shown {
    /// Makes a topic, or gives one more partitions.
    pub fn make(&mut self, name: &str, partitions: i32) {
        let name = TopicName::new(name).unwrap();
        self.version += 1;
        if let Some((topic, _)) = self.topics.get_mut(&name) {
            topic.partitions = partitions;
            return;
        }
        self.made += 1;
        let id = TopicId(Uuid(self.made.to_be_bytes()));
        self.topics
            .insert(name, (Topic { id, partitions }, Vec::new()));
    }

    pub fn drop(&mut self, name: &str) {
        self.version += 1;
        self.topics.remove(name);
    }

    /// Puts replicas of all its partitions onto these racks.
    pub fn place(&mut self, name: &str, racks: &[&str]) {
        self.version += 1;
        let topic = self.topics.get_mut(name).unwrap();
        topic.1 = racks.iter().map(|rack| Arc::from(*rack)).collect();
    }
}

impl Topics for Shown {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<Topic> {
        self.topics.get(name).map(|(topic, _)| *topic)
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        let mut topics = self.topics.iter();
        topics
            .find(|(_, (topic, _))| topic.id == id)
            .map(|(name, _)| name.clone())
    }

    fn racks_of(&self, id: TopicId, _: i32) -> Vec<Arc<str>> {
        let mut topics = self.topics.values();
        topics
            .find(|(topic, _)| topic.id == id)
            .map_or_else(Vec::new, |(_, racks)| racks.clone())
    }

    fn each(&self, visit: &mut dyn FnMut(&TopicName, Topic)) {
        for (name, (topic, _)) in &self.topics {
            visit(name, *topic);
        }
    }
}

#[derive(Debug)]
pub(super) struct Bench {
    pub groups: Groups,
    pub now: i64,
    /// How far the wall clock is ahead.
    pub wall_ahead: i64,
    pub topics: Shown,
    pub settings: Settings,
    /// Keys and values, as they lie on the disk.
    pub log: Vec<(Bytes, Option<Bytes>)>,
    /// Answers that nobody has looked at.
    pub replies: BTreeMap<u64, Response>,
    asked: u64,
    /// The next decision's records are not appended.
    pub loses_append: bool,
    /// Of the next decision's records, where they may be split, so many are appended before the
    /// leader dies.
    pub tears_at: Option<usize>,
    /// Whether the group is looked through after each decision.
    pub is_checked: bool,
}

impl Bench {
    pub fn new() -> Bench {
        let mut bench = Bench {
            groups: Groups::default(),
            now: 1_000_000,
            wall_ahead: 0,
            topics: Shown::default(),
            settings: Settings::default(),
            log: Vec::new(),
            replies: BTreeMap::new(),
            asked: 0,
            loses_append: false,
            tears_at: None,
            is_checked: true,
        };
        bench.decide(Input::Loaded);
        bench
    }

    /// Asks; the answer is among the replies, now or later.
    pub fn ask(&mut self, client: &str, version: i16, call: Call) -> u64 {
        self.asked += 1;
        let caller = Caller {
            version,
            client_id: client.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            fresh_id: Uuid(u128::from(0xf000 + self.asked).to_be_bytes()),
        };
        let request = Request { caller, call };
        let from = ReplyTo(self.asked);
        self.decide(Input::Request { from, request });
        self.asked
    }

    /// Lets time pass, with every deadline on the way.
    pub fn pass(&mut self, ms: i64) {
        let end = self.now + ms;
        while let Some(due) = self.groups.next_deadline()
            && due.get() <= end
        {
            self.now = self.now.max(due.get());
            self.decide(Input::Tick);
        }
        self.now = end;
    }

    fn decide(&mut self, input: Input<Request, crate::group::Notice>) {
        let now = Now {
            steady: Timestamp(self.now),
            wall: Timestamp(self.now + self.wall_ahead),
        };
        let view = View {
            topics: &self.topics,
            settings: &self.settings,
        };
        let effects = self.groups.handle(input, now, view);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, mut effects: Effects<Record, Response>) {
        if std::mem::take(&mut self.loses_append) && !effects.records.is_empty() {
            return;
        }
        if let Some(place) = self.tears_at.take().filter(|_| !effects.records.is_empty()) {
            let appended = if effects.atomic {
                0
            } else {
                place % effects.records.len()
            };
            effects.records.truncate(appended);
            effects.replies.clear();
            self.append(effects.records);
            self.fail_over();
            return;
        }
        self.append(effects.records);
        if let Some(state) = self.state().filter(|_| self.is_checked) {
            state.validate();
        }
        for (ReplyTo(to), response) in effects.replies {
            let earlier = self.replies.insert(to, response);
            assert!(earlier.is_none(), "one answer for one question");
        }
    }

    fn append(&mut self, records: Vec<Record>) {
        for record in records {
            let key = record.encode_key().unwrap();
            let value = record.encode_value().unwrap();
            let read = decoded(&key, value.as_ref());
            assert_eq!(read, record, "a record is read as it was written");
            self.groups.replay(read, origin(self.log.len()));
            self.log.push((key, value));
        }
    }

    /// The group, if it is a consumer group.
    pub fn state(&self) -> Option<&State> {
        self.groups.state().consumer(GROUP)
    }

    /// Another broker reads the log and takes over; what the old one alone knew is gone.
    pub fn fail_over(&mut self) {
        let groups = self.replayed(self.log.len());
        assert_eq!(
            groups.state(),
            self.groups.state(),
            "the log gives the state back"
        );
        self.groups = groups;
        self.decide(Input::Loaded);
    }

    /// What the first records of the log give.
    pub fn replayed(&self, records: usize) -> Groups {
        let mut groups = Groups::default();
        for offset in 0..records {
            self.apply_to(&mut groups, offset);
        }
        groups
    }

    /// Applies one record of the log to a shard.
    pub fn apply_to(&self, groups: &mut Groups, offset: usize) {
        let (key, value) = &self.log[offset];
        groups.replay(decoded(key, value.as_ref()), origin(offset));
    }

    /// What the log gives once each key's newest record is all that is left of it.
    pub fn compacted(&self) -> Groups {
        let newest: BTreeMap<&Bytes, usize> = self
            .log
            .iter()
            .enumerate()
            .map(|(offset, (key, _))| (key, offset))
            .collect();
        let mut groups = Groups::default();
        for (offset, (key, _)) in self.log.iter().enumerate() {
            if newest[key] == offset {
                self.apply_to(&mut groups, offset);
            }
        }
        groups
    }
}

/// A number that the environment may set, for longer runs.
pub(super) fn from_environment(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn origin(offset: usize) -> Origin {
    Origin {
        offset: Offset(offset as i64),
        producer: None,
    }
}

fn decoded(key: &Bytes, value: Option<&Bytes>) -> Record {
    Record::decode(key, value.map(|value| &**value)).unwrap()
}

impl State {
    /// What is kept for speed is what follows from the rest, and nothing has two owners.
    pub(super) fn validate(&self) {
        let mut derived = super::super::state::Derived::default();
        for (id, member) in &self.members {
            derived.add(id, member);
            assert_ne!(member.epoch, -1, "{id} is gone");
        }
        for resolved in self.expressions.values() {
            derived.add_topics(resolved.topics.iter());
        }
        assert_eq!(derived, self.derived);
        for (topic, holders) in &derived.holders {
            for (partition, count) in holders {
                assert_eq!(*count, 1, "{topic}-{partition} is held twice");
            }
        }
        assert!(self.assignment_epoch <= self.epoch);
        for member in self.target.keys() {
            assert!(
                self.members.contains_key(member),
                "a target of {member}, who is gone"
            );
        }
        if self.assignment_epoch == self.epoch {
            let mut seen = std::collections::BTreeSet::new();
            for partition in self.target.values().flat_map(|target| target.iter()) {
                assert!(seen.insert(partition), "{partition:?} is given twice");
            }
        }
    }
}
