//! Followers that come late, or whose stream broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millrace_model::{BrokerId, Durability};
use millrace_replication::{Acks, Replica, ReplicaSettings, Throttled, Throttles};
use millrace_storage::LogSettings;
use tokio::time::Instant;

use crate::cluster::{Cluster, Setup, produce, run, until};
use crate::records::{batch, values};

/// The value of the batch of this number: about 2 KiB.
fn value(n: usize) -> String {
    format!("{n:04} ").repeat(400)
}

/// Little memory, small segments, small messages and small windows.
fn narrow() -> Setup {
    let setup = Setup::default();
    Setup {
        settings: ReplicaSettings {
            live_window_bytes: 64 << 10,
            catch_up_window_bytes: 64 << 10,
            chunk_bytes: 16 << 10,
            message_bytes: 32 << 10,
            ..setup.settings
        },
        log: LogSettings {
            segment_bytes: 128 << 10,
            durability: Durability::Fsync,
            ..setup.log
        },
        throttled: setup.throttled,
        tail_budget_bytes: 64 << 10,
    }
}

/// A producer that goes on until it is told to stop.
struct Producer {
    committed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Producer {
    fn start(leader: Arc<Replica>, first: usize) -> Producer {
        let committed = Arc::new(AtomicUsize::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let (counting, stopping) = (committed.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                let value = value(counting.load(Ordering::Relaxed));
                let appended = produce(&leader, batch(value.as_bytes()), Acks::All).await;
                appended.unwrap();
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        Producer {
            committed,
            stop,
            task,
        }
    }

    fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    /// Ends it; returns how many values there are in all.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.committed.load(Ordering::Relaxed)
    }
}

#[test]
fn a_late_follower_catches_up_from_the_disk_and_enters_the_isr() {
    const EARLIER: usize = 600;
    run(async {
        let mut cluster = Cluster::prepared(narrow(), 3).await;
        for early in [1, 2] {
            cluster.start(early).await;
        }
        cluster.create(0, &[1, 2, 3], &[1, 2], 2).await;
        let leader = cluster.replica(1, 0);
        for n in 0..EARLIER - 1 {
            leader
                .append(batch(value(n).as_bytes()), Acks::All)
                .unwrap();
        }
        let last = batch(value(EARLIER - 1).as_bytes());
        cluster.produce(1, 0, last, Acks::All).await.unwrap();
        let segments = cluster.segments(1, 0).len();
        assert!(segments >= 8, "{segments} segments");
        let mostly_on_disk = || {
            let in_memory = cluster.broker(1).store.tail_bytes() as u64;
            (in_memory < leader.log().size_bytes() / 4).then_some(())
        };
        until("the memory to be freed", mostly_on_disk).await;

        let producer = Producer::start(leader.clone(), EARLIER);
        let before = producer.committed();
        until("a batch", || (producer.committed() > before).then_some(())).await;
        cluster.start(3).await;
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
        let enough = producer.committed() + 5;
        until("more", || (producer.committed() >= enough).then_some(())).await;
        let all = producer.stop().await;

        let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
        let expected: Vec<_> = (0..all).map(value).collect();
        assert!(values(&log) == expected, "other values than were sent");
        assert!(cluster.segments(3, 0).len() >= segments);
        assert_eq!(
            cluster.replica(3, 0).log().bounds().log_end.get(),
            all as i64
        );
    });
}

/// Some of what was sent is lost with each connection, other batches arrived without the
/// acknowledgement getting back.
#[test]
fn a_follower_whose_stream_is_cut_goes_on_without_gap_or_repetition() {
    const BATCHES: usize = 10;
    run(async {
        let cluster = Cluster::started(narrow(), 2).await;
        cluster.create(0, &[1, 2], &[1, 2], 2).await;
        let leader = cluster.replica(1, 0);
        let mut sent = Vec::new();
        let mut send = |count: usize| {
            let mut last = None;
            for _ in 0..count {
                sent.push(value(sent.len()));
                let batch = batch(sent[sent.len() - 1].as_bytes());
                last = Some(leader.append(batch, Acks::All).unwrap());
            }
            last.unwrap()
        };
        let patience = || Instant::now() + std::time::Duration::from_secs(30);
        let (first, epoch) = send(1);
        let outcome = leader.wait_committed(first.last, epoch, Acks::All, patience());
        outcome.await.unwrap();
        for round in 0..8 {
            let opened = cluster.opened(2, 1);
            if round % 2 == 0 {
                cluster.hold(2, 1);
            }
            send(BATCHES);
            cluster.cut(2, 1);
            let (appended, epoch) = send(BATCHES);
            let outcome = leader.wait_committed(appended.last, epoch, Acks::All, patience());
            outcome.await.unwrap();
            assert!(cluster.opened(2, 1) > opened, "nothing was cut");
        }
        assert!(
            cluster.controller.granted().is_empty(),
            "the ISR has changed"
        );
        let log = cluster.wait_to_agree(0, &[1, 2]).await;
        assert!(values(&log) == sent, "other values than were sent");
    });
}

/// A follower that comes late gets what it lacks at the pace of its limit, and those in sync wait
/// for nothing.
async fn catch_up_under_a_limit(setup: Setup, throttles: impl Fn(u64) -> Throttles) {
    const BATCHES: usize = 60;
    const RATE: u64 = 100_000;
    let mut cluster = Cluster::prepared(setup, 3).await;
    for early in [1, 2] {
        cluster.start(early).await;
    }
    cluster.create(0, &[1, 2, 3], &[1, 2], 2).await;
    let leader = cluster.broker(1).replicas.clone();
    // Hours for what there is to send.
    leader.throttle(throttles(1));
    for n in 0..BATCHES {
        let batch = batch(value(n).as_bytes());
        cluster.produce(1, 0, batch, Acks::All).await.unwrap();
    }
    cluster.start(3).await;
    until("the follower to join", || {
        let followers = cluster.state(1, 0).followers;
        let late = followers.iter().find(|f| f.broker == BrokerId(3));
        late.and_then(|late| late.durable_end)
    })
    .await;
    let last = batch(value(BATCHES).as_bytes());
    cluster.produce(1, 0, last, Acks::All).await.unwrap();
    assert_eq!(cluster.controller.isr(crate::cluster::partition(0)), [1, 2]);

    let bytes = cluster.replica(1, 0).log().size_bytes();
    let began = Instant::now();
    leader.throttle(throttles(RATE));
    cluster.wait_for_isr(0, &[1, 2, 3]).await;
    let least = bytes as f64 / RATE as f64 * 0.6;
    let passed = began.elapsed().as_secs_f64();
    assert!(passed >= least, "{bytes} bytes in {passed} s");

    let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
    let expected: Vec<_> = (0..=BATCHES).map(value).collect();
    assert!(values(&log) == expected, "other values than were sent");
}

#[test]
fn a_throttled_leader_sends_no_more_than_it_may_from_the_disk() {
    let throttled = Throttled {
        leading: true,
        followers: Vec::new(),
    };
    let setup = Setup {
        throttled,
        ..narrow()
    };
    run(catch_up_under_a_limit(setup, |rate| Throttles {
        leading: Some(rate),
        ..Throttles::default()
    }));
}

#[test]
fn a_throttled_follower_gets_no_more_than_it_may_from_memory() {
    let throttled = Throttled {
        leading: false,
        followers: vec![BrokerId(3)],
    };
    let setup = Setup {
        throttled,
        ..Setup::default()
    };
    run(catch_up_under_a_limit(setup, |rate| Throttles {
        followers: [(BrokerId(3), rate)].into(),
        ..Throttles::default()
    }));
}
