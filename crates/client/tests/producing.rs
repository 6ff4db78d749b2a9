//! What a producer must do whatever the brokers do: every record acknowledged is there once, at its
//! offset, in the order of the calls.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use millrace_client::{Acks, Compression, Outcome, Producer, ProducerOptions, ToSend};
use millrace_model::ErrorCode;
use tokio::sync::oneshot;

use crate::support::{FakeCluster, Fault, TOPIC, values};

fn record(partition: i32, number: usize) -> ToSend {
    ToSend {
        partition: Some(partition),
        value: Some(Bytes::from(format!("{number:06}"))),
        ..ToSend::default()
    }
}

/// Batches of some records, so that there are many.
fn small_batches() -> ProducerOptions {
    ProducerOptions {
        batch_bytes: 200,
        request_limit: Duration::from_secs(1),
        ..ProducerOptions::default()
    }
}

/// Sends `count` records to each partition, in turn and with pauses, and waits for all.
async fn send_all(
    cluster: &FakeCluster,
    options: ProducerOptions,
    partitions: i32,
    count: usize,
) -> Vec<Vec<Outcome>> {
    let producer = Producer::new(&cluster.client(), options);
    let mut waiting: Vec<Vec<oneshot::Receiver<Outcome>>> = Vec::new();
    waiting.resize_with(partitions as usize, Vec::new);
    for number in 0..count {
        for partition in 0..partitions {
            let sent = producer.send(TOPIC, record(partition, number)).await;
            waiting[partition as usize].push(sent.unwrap());
        }
        if number % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    drop(producer);
    let mut outcomes = Vec::new();
    for partition in waiting {
        let mut all = Vec::new();
        for outcome in partition {
            all.push(outcome.await.expect("everybody is told"));
        }
        outcomes.push(all);
    }
    outcomes
}

/// Holds the logs against what the producer was told.
fn check(cluster: &FakeCluster, outcomes: &[Vec<Outcome>], seed: u64) {
    for (partition, (written, told)) in cluster.written().iter().zip(outcomes).enumerate() {
        let place = format!("partition {partition}, seed {seed}");
        let once: BTreeSet<&String> = written.iter().collect();
        assert_eq!(
            once.len(),
            written.len(),
            "{place}: written twice: {written:?}"
        );
        assert!(written.is_sorted(), "{place}: out of order: {written:?}");
        for (number, outcome) in told.iter().enumerate() {
            let Ok(produced) = outcome else { continue };
            let value = format!("{number:06}");
            match usize::try_from(produced.offset.get()) {
                Ok(offset) => assert_eq!(written.get(offset), Some(&value), "{place}"),
                Err(_) => assert!(once.contains(&value), "{place}: {value} is lost"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn faults_neither_lose_nor_double_nor_reorder_while_there_is_time() {
    for seed in 0..60 {
        let cluster = FakeCluster::new(3);
        cluster.fail_at_random(seed, 4);
        let outcomes = send_all(&cluster, small_batches(), 3, 100).await;
        check(&cluster, &outcomes, seed);
        for told in &outcomes {
            assert!(told.iter().all(Result::is_ok), "seed {seed}: {told:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_leaves_the_rest_sound() {
    let mut given_up = 0;
    for seed in 0..60 {
        let cluster = FakeCluster::new(2);
        cluster.fail_at_random(seed, 2);
        let options = ProducerOptions {
            delivery_limit: Duration::from_millis(60),
            request_limit: Duration::from_millis(200),
            ..small_batches()
        };
        let outcomes = send_all(&cluster, options, 2, 200).await;
        check(&cluster, &outcomes, seed);
        given_up += outcomes
            .iter()
            .flatten()
            .filter(|told| told.is_err())
            .count();
    }
    assert!(
        given_up > 0,
        "nothing was ever given up, so nothing was tried"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_fails_alone() {
    let cluster = FakeCluster::new(1);
    let mut requests = 0;
    cluster.state().fault = Box::new(move || {
        requests += 1;
        (requests == 4).then_some(Fault::Refuse(ErrorCode::MessageTooLarge))
    });
    let outcomes = send_all(&cluster, small_batches(), 1, 60).await;
    check(&cluster, &outcomes, 0);
    let failed: Vec<_> = outcomes[0]
        .iter()
        .filter_map(|told| told.as_ref().err())
        .collect();
    assert!((1..10).contains(&failed.len()), "{failed:?}");
    let too_large = |error: &&std::sync::Arc<_>| {
        millrace_client::ClientError::code(error) == Some(ErrorCode::MessageTooLarge)
    };
    assert!(failed.iter().all(too_large), "{failed:?}");
    assert!(outcomes[0].last().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn five_requests_are_in_flight_and_no_more() {
    let cluster = FakeCluster::new(1);
    cluster.state().latency = Duration::from_millis(50);
    let outcomes = send_all(&cluster, small_batches(), 1, 300).await;
    check(&cluster, &outcomes, 0);
    assert_eq!(cluster.state().most_waiting, 5);
}

#[tokio::test(start_paused = true)]
async fn records_wait_for_one_another_as_long_as_they_linger() {
    for (linger_ms, most) in [(0, 20), (20, 1)] {
        let cluster = FakeCluster::new(1);
        let options = ProducerOptions {
            linger: Duration::from_millis(linger_ms),
            ..ProducerOptions::default()
        };
        let producer = Producer::new(&cluster.client(), options);
        let mut waiting = Vec::new();
        for number in 0..4 {
            waiting.push(producer.send(TOPIC, record(0, number)).await.unwrap());
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        for outcome in waiting {
            outcome.await.unwrap().unwrap();
        }
        let batches = cluster.state().logs[0].count;
        assert!(batches <= most, "{batches} batches with linger {linger_ms}");
        assert!(linger_ms > 0 || batches == 4, "{batches} batches without");
    }
}

#[tokio::test(start_paused = true)]
async fn batches_of_all_partitions_of_a_leader_share_a_request() {
    let cluster = FakeCluster::new(30);
    let options = ProducerOptions {
        linger: Duration::from_millis(10),
        ..ProducerOptions::default()
    };
    let outcomes = send_all(&cluster, options, 30, 1).await;
    check(&cluster, &outcomes, 0);
    assert!(
        cluster.state().requests <= 6,
        "{}",
        cluster.state().requests
    );
    let connections = cluster.state().connections.values().sum::<usize>();
    assert!(
        connections <= 4,
        "three to produce and one to ask: {connections}"
    );
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_given_back() {
    let cluster = FakeCluster::new(2);
    let options = ProducerOptions {
        memory_bytes: 2_000,
        linger: Duration::from_secs(3600),
        ..ProducerOptions::default()
    };
    let outcomes = send_all(&cluster, options, 2, 500).await;
    check(&cluster, &outcomes, 0);
    assert!(outcomes.iter().flatten().all(Result::is_ok));
    assert!(
        cluster.state().logs[0].count >= 10,
        "it never held all at once"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_record_fails_when_its_time_is_over() {
    let cluster = FakeCluster::new(1);
    cluster.state().leaders = vec![-1];
    let options = ProducerOptions {
        delivery_limit: Duration::from_secs(3),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(&cluster.client(), options);
    let began = tokio::time::Instant::now();
    let outcome = producer.produce(TOPIC, record(0, 0)).await;
    assert!(outcome.is_err());
    let took = began.elapsed();
    assert!((3..4).contains(&took.as_secs()), "{took:?}");
    cluster.state().leaders = vec![2];
    let produced = producer.produce(TOPIC, record(0, 1)).await.unwrap();
    assert_eq!(produced.offset.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_cut_off_is_not_asked_for_ever() {
    let cluster = FakeCluster::new(2);
    {
        let mut state = cluster.state();
        // It is the one behind the bootstrap address, and the first of those that are known.
        state.cut_off = Some(1);
        state.leaders = vec![2, 3];
    }
    let outcomes = send_all(&cluster, small_batches(), 2, 10).await;
    check(&cluster, &outcomes, 0);
    let acked = outcomes.iter().flatten().filter(|outcome| outcome.is_ok());
    assert_eq!(acked.count(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_may_not_be_seen_fails_at_once() {
    let cluster = FakeCluster::new(1);
    cluster.state().topic_error = ErrorCode::TopicAuthorizationFailed;
    let producer = Producer::new(&cluster.client(), ProducerOptions::default());
    let error = producer.produce(TOPIC, record(0, 0)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_acknowledgement_and_codec_is_written() {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for compression in codecs {
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let cluster = FakeCluster::new(2);
            let options = ProducerOptions {
                acks,
                idempotent: acks == Acks::All,
                compression,
                ..small_batches()
            };
            let outcomes = send_all(&cluster, options, 2, 50).await;
            assert!(outcomes.iter().flatten().all(Result::is_ok));
            // With acks=0 the last request may still be on its way.
            tokio::time::sleep(Duration::from_secs(1)).await;
            check(&cluster, &outcomes, 0);
            assert_eq!(values(&cluster.state().logs[1].batches).len(), 50);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_without_a_key_go_to_every_partition_and_those_with_one_to_its_own() {
    let cluster = FakeCluster::new(4);
    let producer = Producer::new(&cluster.client(), small_batches());
    let mut waiting = Vec::new();
    for number in 0..200 {
        let record = ToSend {
            key: (number % 2 == 0).then(|| Bytes::from_static(b"key")),
            value: Some(Bytes::from(format!("{number}"))),
            ..ToSend::default()
        };
        waiting.push((number, producer.send(TOPIC, record).await.unwrap()));
    }
    let mut keyed = BTreeSet::new();
    let mut free = BTreeSet::new();
    for (number, outcome) in waiting {
        let partition = outcome.await.unwrap().unwrap().partition;
        match number % 2 {
            0 => keyed.insert(partition),
            _ => free.insert(partition),
        };
    }
    assert_eq!(keyed.len(), 1);
    assert_eq!(free.len(), 4);
}
