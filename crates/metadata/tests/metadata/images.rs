//! Applying batches, comparing images, and snapshots.

use crate::common::*;
use millrace_metadata::{
    ApplyError, Batch, Delta, Image, Load, PartitionChange, Record, Resource, SnapshotDecoder,
};
use millrace_model::{BrokerEpoch, ImageVersion, LeaderEpoch};

fn example() -> Image {
    let image = with_topic(
        &after(
            &cluster(&[1, 2, 3]),
            vec![Record::RegisterBroker(broker(1, 40))],
        ),
        1,
        "a.b",
        vec![
            partition(&[1, 2, 3], &[1, 2, 3]),
            partition(&[2, 3], &[2, 3]),
        ],
    );
    let image = with_topic(&image, 2, "c", vec![partition(&[3], &[3])]);
    after(
        &image,
        vec![
            Record::Config {
                resource: Resource::cluster(),
                name: "min.insync.replicas".into(),
                value: Some("2".into()),
            },
            Record::FeatureLevel {
                name: "metadata.version".into(),
                level: 30,
            },
        ],
    )
}

#[test]
fn a_batch_decided_on_another_image_changes_nothing() {
    let image = example();
    for based_on in [image.version().get() - 1, image.version().get() + 1] {
        let batch = Batch {
            based_on: ImageVersion(based_on),
            records: vec![Record::RemoveTopic { id: topic_id(1) }],
        };
        let refusal = image.apply(&batch, ImageVersion(100)).unwrap_err();
        assert!(refusal.is_harmless(), "{refusal}");
    }
}

#[test]
fn a_record_that_does_not_fit_is_no_change() {
    let image = example();
    let check = |record: Record, why: &str| {
        let batch = Batch {
            based_on: image.version(),
            records: vec![record],
        };
        let refusal = image.apply(&batch, ImageVersion(100)).unwrap_err();
        assert!(!refusal.is_harmless());
        assert!(refusal.to_string().contains(why), "{refusal}");
    };
    let (id, epoch) = (b(1), BrokerEpoch(40));
    check(
        Record::FenceBroker { id, epoch },
        "fenced or gone, but leads 1",
    );
    check(
        Record::FenceBroker { id: b(9), epoch },
        "broker 9 is not registered",
    );
    check(
        Record::FenceBroker {
            id,
            epoch: BrokerEpoch(0),
        },
        "broker 1 has epoch 40, not 0",
    );
    check(topic_record(7, "c"), "topic c");
    check(Record::RemoveTopic { id: topic_id(8) }, "does not exist");
    check(
        Record::RegisterBroker(broker(4, 2)),
        "epoch 2 was given before",
    );
    let change = PartitionChange::of(pid(1, 0), image.partition(pid(1, 0)).unwrap());
    let leader = PartitionChange {
        leader: Some(None),
        ..change.clone()
    };
    check(Record::PartitionChange(leader), "has leader epoch 0");
    let isr = PartitionChange {
        isr: Some(ids(&[2, 3])),
        ..change.clone()
    };
    check(Record::PartitionChange(isr), "the leader is in sync");
    let elr = PartitionChange {
        isr: Some(ids(&[1, 2])),
        elr: Some(ids(&[3])),
        ..change
    };
    check(Record::PartitionChange(elr), "has no ELR beside it");
    let batch = Batch {
        based_on: image.version(),
        records: vec![],
    };
    assert!(matches!(
        image.apply(&batch, image.version()),
        Err(ApplyError::OutOfOrder { .. })
    ));
}

#[test]
fn images_can_be_asked_by_name_by_broker_and_by_want_of_a_leader() {
    let image = example();
    assert_eq!(image.topic_named("a.b").unwrap().partitions, 2);
    let colliding = image.colliding_topic(&millrace_model::TopicName::new("a_b").unwrap());
    assert_eq!(colliding.unwrap().as_str(), "a.b");
    let hosted: Vec<_> = image.hosted_by(b(3)).map(|(id, _)| id).collect();
    assert_eq!(hosted, [pid(1, 0), pid(1, 1), pid(2, 0)]);
    let load = Load {
        replicas: 2,
        leaders: 1,
        preferred: 1,
        missed: 0,
    };
    assert_eq!(image.load(b(2)), load);
    let change = PartitionChange {
        leader: Some(None),
        leader_epoch: LeaderEpoch(1),
        ..PartitionChange::of(pid(1, 1), image.partition(pid(1, 1)).unwrap())
    };
    let image = after(&image, vec![Record::PartitionChange(change)]);
    assert_eq!(
        image.leaderless().map(|(id, _)| id).collect::<Vec<_>>(),
        [pid(1, 1)]
    );
    assert_eq!((image.load(b(2)).leaders, image.load(b(2)).missed), (0, 1));
    let image = after(&image, vec![Record::RemoveTopic { id: topic_id(1) }]);
    assert_eq!(image.leaderless().count(), 0);
    assert_eq!(image.load(b(2)), Load::default());
}

#[test]
fn a_delta_says_what_differs() {
    let old = example();
    let change = PartitionChange {
        isr: Some(ids(&[1, 2])),
        ..PartitionChange::of(pid(1, 0), old.partition(pid(1, 0)).unwrap())
    };
    let new = after(
        &old,
        vec![
            Record::PartitionChange(change),
            Record::RemoveTopic { id: topic_id(2) },
            topic_record(5, "c"),
            Record::Config {
                resource: Resource::broker(b(1)),
                name: "x".into(),
                value: Some("y".into()),
            },
            Record::RegisterBroker(broker(4, 50)),
        ],
    );
    let delta = Delta::between(&old, &new);
    let changed: Vec<_> = delta
        .partitions
        .iter()
        .map(|p| (p.id, p.after.is_some()))
        .collect();
    assert_eq!(changed, [(pid(1, 0), true), (pid(2, 0), false)]);
    assert_eq!(delta.topics_created[0].id, topic_id(5));
    assert_eq!(delta.topics_deleted[0].id, topic_id(2));
    assert_eq!(delta.configs, [Resource::broker(b(1))]);
    assert_eq!(delta.brokers.len(), 1);
    assert!(Delta::between(&new, &new).is_empty());
}

#[test]
fn a_snapshot_brings_the_same_image_however_it_is_cut() {
    let image = example();
    for piece_bytes in [1, 7, 100, 1 << 20] {
        let mut decoder = SnapshotDecoder::new();
        for piece in image.encode_snapshot(piece_bytes) {
            for byte in piece.chunks(5) {
                decoder.push(byte).unwrap();
            }
        }
        let read = decoder.finish().unwrap();
        assert_eq!(read, image);
        assert!(Delta::between(&image, &read).is_empty());
    }
    let empty: Vec<_> = Image::default().encode_snapshot(100).collect();
    let mut decoder = SnapshotDecoder::new();
    empty.iter().for_each(|piece| decoder.push(piece).unwrap());
    assert_eq!(decoder.finish().unwrap(), Image::default());
}

#[test]
fn a_snapshot_cut_short_is_damaged() {
    let whole: Vec<u8> = example().encode_snapshot(64).flatten().collect();
    for end in 0..whole.len() {
        let mut decoder = SnapshotDecoder::new();
        decoder.push(&whole[..end]).unwrap();
        assert!(decoder.finish().is_err(), "{end} of {}", whole.len());
    }
}
