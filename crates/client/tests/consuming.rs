//! What a consumer must do: every record once and in order, from whoever leads, without one leader
//! waiting for another.

use std::time::Duration;

use bytes::Bytes;
use millrace_client::{Consumer, ConsumerOptions, Producer, ProducerOptions, Start, ToSend};
use millrace_model::LeaderEpoch;

use crate::support::{FakeCluster, TOPIC};

async fn send(producer: &Producer, partition: i32, number: usize) {
    let record = ToSend {
        partition: Some(partition),
        value: Some(Bytes::from(format!("{number:06}"))),
        ..ToSend::default()
    };
    producer.produce(TOPIC, record).await.unwrap();
}

async fn consumer(cluster: &FakeCluster, partitions: i32) -> Consumer {
    let mut consumer = Consumer::new(&cluster.client(), ConsumerOptions::default());
    for partition in 0..partitions {
        consumer
            .assign(TOPIC, partition, Start::Earliest)
            .await
            .unwrap();
    }
    consumer
}

#[tokio::test(start_paused = true)]
async fn a_record_arrives_though_other_leaders_have_nothing() {
    let cluster = FakeCluster::new(3);
    let mut consumer = consumer(&cluster, 3).await;
    let producer = Producer::new(&cluster.client(), ProducerOptions::default());
    send(&producer, 1, 0).await;
    for number in 1..50 {
        let began = tokio::time::Instant::now();
        let (_, arrived) = tokio::join!(send(&producer, 1, number), async {
            loop {
                let records = consumer.poll().await.unwrap();
                if records
                    .iter()
                    .any(|r| r.value.as_deref() == Some(format!("{number:06}").as_bytes()))
                {
                    return began.elapsed();
                }
            }
        });
        assert!(
            arrived < Duration::from_millis(100),
            "{number}: {arrived:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_that_asks_nobody_waits_as_one_that_brings_nothing() {
    let cluster = FakeCluster::new(1);
    let mut consumer = consumer(&cluster, 0).await;
    let began = tokio::time::Instant::now();
    assert!(consumer.poll().await.unwrap().is_empty());
    assert!(began.elapsed() >= ConsumerOptions::default().max_wait);
}

/// It may be cut off, and lack what others have read.
#[tokio::test(start_paused = true)]
async fn a_leader_of_an_older_epoch_is_not_asked() {
    let cluster = FakeCluster::new(1);
    let producer = Producer::new(&cluster.client(), ProducerOptions::default());
    send(&producer, 0, 0).await;
    for (epoch, records) in [(1, 1), (2, 0)] {
        let mut consumer = consumer(&cluster, 1).await;
        consumer.only_since(TOPIC, 0, LeaderEpoch(epoch));
        assert_eq!(consumer.poll().await.unwrap().len(), records);
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_comes_once_and_in_order_while_leaders_change() {
    let cluster = FakeCluster::new(3);
    let producer = Producer::new(&cluster.client(), ProducerOptions::default());
    let mut consumer = consumer(&cluster, 3).await;
    let mut seen = vec![Vec::new(); 3];
    for number in 0..100 {
        for partition in 0..3 {
            send(&producer, partition, number).await;
        }
        if number % 9 == 0 {
            cluster.state().move_leaders();
        }
        for record in consumer.poll().await.unwrap() {
            seen[record.partition as usize].push(record.value.unwrap());
        }
    }
    while seen.iter().map(Vec::len).sum::<usize>() < 300 {
        for record in consumer.poll().await.unwrap() {
            seen[record.partition as usize].push(record.value.unwrap());
        }
    }
    for (partition, written) in cluster.written().iter().enumerate() {
        let read: Vec<String> = seen[partition]
            .iter()
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
            .collect();
        assert_eq!(&read, written, "partition {partition}");
    }
}
