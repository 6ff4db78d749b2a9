//! A driver for one shard: appends its records as bytes, replays them, keeps the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millrace_coordinator::group::{
    Call, Caller, Notice, Record, Request, Response, Settings, Topic, Topics, View,
};
use millrace_coordinator::{Effects, Groups, Input, Marker, Now, Origin, ReplyTo, Shard};
use millrace_model::{Offset, ProducerId, Timestamp, TopicId, TopicName, Uuid};

/// When every test begins; not zero, so that a time that was forgotten shows.
pub const START: Timestamp = Timestamp(1_000_000_000);

/// What stands in the log at one offset.
#[derive(Clone, Debug)]
pub enum Entry {
    Record {
        key: Bytes,
        value: Option<Bytes>,
        producer: Option<ProducerId>,
    },
    Marker(Marker),
}

/// What a step led to, in order.
#[derive(Clone, Debug)]
pub enum Event {
    Recorded(Record),
    Replied(ReplyTo, Response),
    /// The append failed: these got an error from the broker.
    Failed(Vec<ReplyTo>),
}

pub struct Bench {
    pub shard: Groups,
    pub now: Timestamp,
    /// How far the wall clock is ahead.
    pub wall_ahead_ms: i64,
    pub settings: Settings,
    pub topics: Map,
    pub log: Vec<Entry>,
    /// Whether the next append fails.
    pub append_fails: bool,
    /// Whether every step ends with [`Bench::validate`], which costs as much as the log is long.
    pub validates: bool,
    next_reply: u64,
    fresh: u128,
}

impl Bench {
    pub fn new() -> Bench {
        let mut bench = Bench {
            shard: Groups::default(),
            now: START,
            wall_ahead_ms: 0,
            settings: Settings::default(),
            topics: Map::default(),
            log: Vec::new(),
            append_fails: false,
            validates: true,
            next_reply: 0,
            fresh: 0,
        };
        bench.give(Input::Loaded);
        bench
    }

    pub fn ask(&mut self, version: i16, client: &str, call: Call) -> (ReplyTo, Vec<Event>) {
        self.next_reply += 1;
        self.fresh += 1;
        let from = ReplyTo(self.next_reply);
        let caller = Caller {
            version,
            client_id: client.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            fresh_id: Uuid(self.fresh.to_be_bytes()),
        };
        let request = Request { caller, call };
        (from, self.give(Input::Request { from, request }))
    }

    pub fn notice(&mut self, notice: Notice) -> Vec<Event> {
        self.give(Input::Notice(notice))
    }

    /// Lets the time pass until `to`, with a tick at each deadline, as a broker does.
    pub fn pass(&mut self, to: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        let mut ticks = 0;
        while let Some(due) = self.shard.next_deadline()
            && due <= to
        {
            ticks += 1;
            assert!(ticks < 100_000, "a shard that never stops ticking");
            self.now = self.now.max(due);
            events.extend(self.give(Input::Tick));
        }
        self.now = self.now.max(to);
        events
    }

    /// A new leader loads the log, of which it may lack the end. Whoever waits gets NOT_COORDINATOR from the broker.
    pub fn fail_over(&mut self) -> Vec<Event> {
        self.shard = self.load(self.log.len());
        self.give(Input::Loaded)
    }

    /// What a shard knows that has read so much of the log.
    pub fn load(&self, length: usize) -> Groups {
        let mut shard = Groups::default();
        for (offset, entry) in self.log[..length].iter().enumerate() {
            replay(&mut shard, entry, offset);
        }
        shard
    }

    pub fn end_transaction(&mut self, producer: i64, committed: bool) {
        let producer = ProducerId(producer);
        let entry = Entry::Marker(Marker {
            producer,
            committed,
        });
        replay(&mut self.shard, &entry, self.log.len());
        self.log.push(entry);
        self.validate();
    }

    fn give(&mut self, input: Input<Request, Notice>) -> Vec<Event> {
        let view = View {
            topics: &self.topics,
            settings: &self.settings,
        };
        let now = Now {
            steady: self.now,
            wall: Timestamp(self.now.get() + self.wall_ahead_ms),
        };
        let effects = self.shard.handle(input, now, view);
        let events = self.append(effects);
        if self.validates {
            self.validate();
        }
        events
    }

    fn append(&mut self, effects: Effects<Record, Response>) -> Vec<Event> {
        if self.append_fails && !effects.records.is_empty() {
            self.append_fails = false;
            let callers = effects.replies.iter().map(|(to, _)| *to);
            return vec![Event::Failed(callers.collect())];
        }
        let mut events = Vec::new();
        for record in effects.records {
            let entry = Entry::Record {
                key: record.encode_key().expect("fits the format"),
                value: record.encode_value().expect("fits the format"),
                producer: effects.producer.map(|(producer, _)| producer),
            };
            replay(&mut self.shard, &entry, self.log.len());
            self.log.push(entry);
            events.push(Event::Recorded(record));
        }
        let replies = effects.replies.into_iter();
        events.extend(replies.map(|(to, response)| Event::Replied(to, response)));
        events
    }

    /// Who has read the log knows what the leader knows.
    pub fn validate(&self) {
        let loaded = self.load(self.log.len());
        assert!(
            loaded.replicated() == self.shard.replicated(),
            "loaded: {:#?}\nleader: {:#?}",
            loaded.replicated(),
            self.shard.replicated()
        );
    }
}

fn replay(shard: &mut Groups, entry: &Entry, offset: usize) {
    match entry {
        Entry::Marker(marker) => shard.replay_marker(*marker),
        Entry::Record {
            key,
            value,
            producer,
        } => {
            let record = Record::decode(key, value.as_deref()).expect("written by ourselves");
            let origin = Origin {
                offset: Offset(offset as i64),
                producer: *producer,
            };
            shard.replay(record, origin);
        }
    }
}

/// Topics of a test.
#[derive(Debug, Default)]
pub struct Map {
    topics: BTreeMap<TopicName, Topic>,
    version: u64,
}

impl Map {
    pub fn create(&mut self, name: &str, partitions: i32) -> TopicId {
        self.version += 1;
        let id = TopicId(Uuid((u128::from(self.version) << 64).to_be_bytes()));
        let name = TopicName::new(name).expect("a legal name");
        self.topics.insert(name, Topic { id, partitions });
        id
    }

    pub fn delete(&mut self, name: &str) -> Option<(TopicName, TopicId)> {
        self.version += 1;
        let (name, topic) = self.topics.remove_entry(name)?;
        Some((name, topic.id))
    }
}

impl Topics for Map {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<Topic> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        let found = self.topics.iter().find(|(_, topic)| topic.id == id);
        found.map(|(name, _)| name.clone())
    }

    fn racks_of(&self, _: TopicId, _: i32) -> Vec<Arc<str>> {
        BTreeSet::new().into_iter().collect()
    }

    fn each(&self, visit: &mut dyn FnMut(&TopicName, Topic)) {
        for (name, topic) in &self.topics {
            visit(name, *topic);
        }
    }
}
