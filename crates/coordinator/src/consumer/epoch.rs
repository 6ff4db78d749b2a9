//! What a group's topics look like, in one number that changes when any of them does (Kafka methods
//! `Utils.computeTopicHash`, `Utils.computeGroupHash`): XXH3 over the same bytes, so that a log
//! written by one is no reason for the other to rebalance. (It is one where two replicas of a
//! partition share a rack: Kafka hashes such a rack twice.)

use std::collections::BTreeMap;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::state::State;
use crate::group::{Topic, Topics};

/// Version of the way of hashing a topic.
const MAGIC: u8 = 0;

/// Hashes of topics, shared by the groups of a shard.
#[derive(Debug, Default)]
pub(crate) struct TopicHashes {
    version: u64,
    hashes: BTreeMap<Arc<str>, Option<u64>>,
}

/// The hash of all topics that the group subscribes to and that exist; 0 for none.
pub(super) fn metadata_hash(state: &State, topics: &dyn Topics, hashes: &mut TopicHashes) -> i64 {
    if hashes.version != topics.version() {
        hashes.version = topics.version();
        hashes.hashes.clear();
    }
    let mut stream = Stream::default();
    let mut any = false;
    for name in state.derived.topics.keys() {
        let hash = match hashes.hashes.get(name) {
            Some(known) => *known,
            None => {
                let hash = topics
                    .by_name(name)
                    .map(|topic| topic_hash(name, topic, topics));
                hashes.hashes.insert(name.clone(), hash);
                hash
            }
        };
        if let Some(hash) = hash {
            stream.long(hash as i64);
            any = true;
        }
    }
    if any { stream.finish() as i64 } else { 0 }
}

fn topic_hash(name: &str, topic: Topic, topics: &dyn Topics) -> u64 {
    let id = u128::from_be_bytes(topic.id.0.0);
    let mut stream = Stream::default();
    stream.0.push(MAGIC);
    stream.long((id >> 64) as i64);
    stream.long(id as i64);
    stream.text(name);
    stream.int(topic.partitions);
    for partition in 0..topic.partitions {
        stream.int(partition);
        for rack in topics.racks_of(topic.id, partition) {
            stream.int(utf16_length(&rack));
            stream.text(&rack);
        }
    }
    stream.finish()
}

fn utf16_length(text: &str) -> i32 {
    i32::try_from(text.encode_utf16().count()).unwrap_or(i32::MAX)
}

/// Bytes as hash4j's streams take them: little-endian, texts in UTF-16 with their length behind.
#[derive(Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn int(&mut self, value: i32) {
        self.0.extend(value.to_le_bytes());
    }

    fn long(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        for unit in text.encode_utf16() {
            self.0.extend(unit.to_le_bytes());
        }
        self.int(utf16_length(text));
    }

    fn finish(&self) -> u64 {
        XxHash3_64::oneshot(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use millrace_model::{TopicId, TopicName, Uuid};

    use super::*;

    /// One topic, of two partitions, with replicas of the first on two racks.
    struct Orders;

    impl Topics for Orders {
        fn version(&self) -> u64 {
            1
        }

        fn by_name(&self, name: &str) -> Option<Topic> {
            let id = Uuid(((0x1000u128 << 64) + 1).to_be_bytes()).into();
            (name == "orders").then_some(Topic { id, partitions: 2 })
        }

        fn name_of(&self, _: TopicId) -> Option<TopicName> {
            None
        }

        fn racks_of(&self, _: TopicId, partition: i32) -> Vec<Arc<str>> {
            match partition {
                0 => vec!["a".into(), "b".into()],
                _ => Vec::new(),
            }
        }

        fn each(&self, _: &mut dyn FnMut(&TopicName, Topic)) {}
    }

    /// Values that hash4j gives for the calls that Kafka makes.
    #[test]
    fn topics_and_groups_are_hashed_as_kafka_does() {
        let orders = Orders.by_name("orders").unwrap();
        assert_eq!(
            topic_hash("orders", orders, &Orders) as i64,
            -583733526234811413
        );
        let mut state = State::default();
        let hash = |state: &State| metadata_hash(state, &Orders, &mut TopicHashes::default());
        assert_eq!(hash(&state), 0);
        for name in ["orders", "unknown"] {
            state.derived.topics.insert(name.into(), 1);
        }
        assert_eq!(hash(&state), 4787655378384214837);
    }

    /// Values that hash4j 0.22 gives for the same calls.
    #[test]
    fn texts_and_numbers_are_hashed_as_hash4j_does() {
        let mut stream = Stream::default();
        stream.0.push(0);
        stream.long(1);
        stream.long(2);
        stream.text("foo");
        stream.int(3);
        assert_eq!(stream.finish() as i64, -6702374851761510537);

        let mut stream = Stream::default();
        stream.long(-583733526234811413);
        assert_eq!(stream.finish() as i64, 4787655378384214837);
        stream.long(5);
        assert_eq!(stream.finish() as i64, -3522660148008274190);
    }
}
