//! What the tests of this crate share: names for small clusters, and a builder of images.

use millrace_metadata::{
    Batch, Broker, FeatureRange, Image, Listener, Partition, Record, UnknownFields,
};
use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, ImageVersion, Incarnation, LeaderEpoch, PartitionEpoch,
    PartitionId, TopicId, TopicName, Uuid,
};

pub fn b(id: i32) -> BrokerId {
    BrokerId(id)
}

pub fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

pub fn uuid(number: u128) -> Uuid {
    Uuid(number.to_be_bytes())
}

pub fn topic_id(number: u128) -> TopicId {
    TopicId(uuid(number))
}

pub fn pid(topic: u128, index: i32) -> PartitionId {
    PartitionId {
        topic: topic_id(topic),
        index,
    }
}

/// The only directory of broker `id`.
pub fn dir(id: i32) -> DirectoryId {
    DirectoryId(uuid(0xd000 + id as u128))
}

/// A broker that serves.
pub fn broker(id: i32, epoch: i64) -> Broker {
    Broker {
        id: b(id),
        epoch: BrokerEpoch(epoch),
        incarnation: Incarnation(uuid(0x1000 + id as u128)),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: format!("host{id}"),
            port: 9092,
            security_protocol: 0,
        }],
        rack: None,
        features: FeatureRange::supported(),
        directories: vec![dir(id)],
        short: vec![],
        slow: vec![],
        fenced: false,
        shutting_down: false,
        registered_at: ImageVersion(0),
        unknown: UnknownFields::default(),
    }
}

/// A partition led by the first of its ISR.
pub fn partition(replicas: &[i32], isr: &[i32]) -> Partition {
    Partition {
        replicas: ids(replicas),
        directories: replicas.iter().map(|id| dir(*id)).collect(),
        isr: ids(isr),
        leader: isr.first().copied().map(BrokerId),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        ..Partition::default()
    }
}

pub fn topic_record(number: u128, name: &str) -> Record {
    Record::Topic {
        id: topic_id(number),
        name: TopicName::new(name).unwrap(),
        unknown: UnknownFields::default(),
    }
}

/// `image` after `records`.
pub fn after(image: &Image, records: Vec<Record>) -> Image {
    if records.is_empty() {
        return image.clone();
    }
    let batch = Batch {
        based_on: image.version(),
        records,
    };
    let decoded = Batch::decode(batch.encode()).unwrap();
    assert_eq!(decoded, batch);
    image.apply(&decoded, image.version().next()).unwrap()
}

/// A cluster of `brokers` that serve.
pub fn cluster(brokers: &[i32]) -> Image {
    let register = |id: &i32| Record::RegisterBroker(broker(*id, i64::from(*id)));
    let mut records = vec![Record::Cluster { id: "test".into() }];
    records.extend(brokers.iter().map(register));
    after(&Image::default(), records)
}

/// `image` with a topic of these partitions.
pub fn with_topic(image: &Image, number: u128, name: &str, partitions: Vec<Partition>) -> Image {
    let mut records = vec![topic_record(number, name)];
    for (index, partition) in partitions.into_iter().enumerate() {
        records.push(Record::Partition {
            id: pid(number, index as i32),
            partition,
        });
    }
    after(image, records)
}
