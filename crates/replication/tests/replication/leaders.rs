//! Leaders that change, and those that do not know it yet.

use millrace_model::limits::MAX_ENDS_ASKED;
use millrace_model::{BrokerId, LeaderEpoch, Offset};
use millrace_replication::{Acks, AppendFailure, Role};
use millrace_storage::AppendError;

use crate::cluster::{Cluster, Setup, end_of, partition, produce, run, until};
use crate::records::{batch, found, idempotent, values};

/// Each leader in turn is cut off with batches that only it holds, more than its successor has by
/// then; it learns late that it leads no longer.
#[test]
fn what_only_an_old_leader_holds_is_cut_off_by_epoch() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 2).await;
        let mut expected = Vec::new();
        for (round, (old, new, other)) in [(1, 2, 3), (2, 3, 1), (3, 1, 2)].into_iter().enumerate()
        {
            for n in 0..5 {
                expected.push((round as i32, format!("committed {round} {n}")));
                let batch = batch(expected[expected.len() - 1].1.as_bytes());
                cluster.produce(old, 0, batch, Acks::All).await.unwrap();
            }
            let committed = cluster.state(old, 0).high_watermark;
            cluster.hold(new, old);
            cluster.hold(other, old);
            for n in 0..3 {
                let batch = batch(format!("lost {round} {n}").as_bytes());
                cluster.produce(old, 0, batch, Acks::Leader).await.unwrap();
            }
            let last = batch(format!("lost {round} 3").as_bytes());
            let leader = cluster.replica(old, 0);
            let waiting = tokio::spawn(async move { produce(&leader, last, Acks::All).await });

            cluster.controller.keep_from(old);
            cluster.controller.elect(partition(0), new, &[new, other]);
            cluster.controller.fence(old);
            cluster.wait_to_lead(new, 0).await;
            expected.push((round as i32 + 1, format!("kept {round}")));
            let kept = batch(expected[expected.len() - 1].1.as_bytes());
            let kept = cluster.produce(new, 0, kept, Acks::All).await.unwrap();
            assert_eq!(kept.first, committed, "what was committed, and no more");
            assert_eq!(cluster.state(old, 0).high_watermark, committed);
            assert!(!waiting.is_finished(), "acknowledged by an old leader");

            cluster.controller.tell(old);
            let failure = waiting.await.unwrap().unwrap_err();
            assert!(matches!(failure, AppendFailure::NotLeader), "{failure}");
            cluster.release(new, old);
            cluster.release(other, old);
            cluster.controller.unfence(old);
            cluster.wait_for_isr(0, &[1, 2, 3]).await;
            let log = cluster.wait_to_agree(0, &[new, old, other]).await;
            let there = found(&log).into_iter().map(|(_, epoch, value)| {
                let value = String::from_utf8(value).unwrap();
                (epoch.get(), value)
            });
            assert_eq!(there.collect::<Vec<_>>(), expected);
        }
    });
}

/// Rule 6. The push arrives by a stream that still lives, for the follower has other business with
/// the old leader, and it would continue the follower's log; a later batch of that other partition
/// shows that it has arrived.
#[test]
fn a_late_push_of_an_old_leader_is_refused() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        for index in [0, 1] {
            cluster.create(index, &[1, 2, 3], &[1, 2, 3], 2).await;
            let first = cluster.produce(1, index, batch(b"first"), Acks::All);
            first.await.unwrap();
            cluster.wait_to_agree(index, &[1, 2, 3]).await;
        }
        let end = cluster.state(2, 0).log_end;
        cluster.hold(2, 1);
        cluster.hold(3, 1);
        cluster.controller.keep_from(1);
        cluster.controller.elect(partition(0), 3, &[3, 2]);
        cluster.wait_to_lead(3, 0).await;
        let follows = || {
            let follower = cluster.state(2, 0);
            let role = follower.role == Role::Follower(Some(BrokerId(3)));
            let joined = cluster.state(3, 0).followers.iter().any(|follower| {
                follower.broker == BrokerId(2) && follower.durable_end == Some(end)
            });
            (role && joined && follower.leader_epoch == LeaderEpoch(1)).then_some(())
        };
        until("the follower to follow the new leader", follows).await;

        let late = cluster.produce(1, 0, batch(b"late"), Acks::Leader);
        assert_eq!(late.await.unwrap().first, end);
        let later = cluster.produce(1, 1, batch(b"later"), Acks::Leader);
        let later = later.await.unwrap();
        cluster.release(2, 1);
        let arrived = || (cluster.state(2, 1).log_end == end_of(&later)).then_some(());
        until("what was sent later", arrived).await;
        assert_eq!(cluster.state(2, 0).log_end, end, "obeyed an old leader");
        assert_eq!(cluster.state(1, 0).high_watermark, end);

        let kept = cluster.produce(3, 0, batch(b"kept"), Acks::All).await;
        assert_eq!(kept.unwrap().first, end);
        cluster.release(3, 1);
        cluster.controller.tell(1);
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
        let log = cluster.wait_to_agree(0, &[3, 1, 2]).await;
        assert_eq!(values(&log), ["first", "kept"]);
        let log = cluster.wait_to_agree(1, &[1, 2, 3]).await;
        assert_eq!(values(&log), ["first", "later"]);
    });
}

#[test]
fn a_batch_repeated_at_the_next_leader_is_known_there() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 2).await;
        let send = |n: i32| idempotent(format!("value {n}").as_bytes(), n);
        let mut firsts = Vec::new();
        for n in 0..3 {
            let appended = cluster.produce(1, 0, send(n), Acks::All).await.unwrap();
            assert!(!appended.duplicate);
            firsts.push(appended.first);
        }
        // The last one reaches the next leader, and nobody is told that it is committed.
        cluster.hold(3, 1);
        let (unanswered, _) = cluster.replica(1, 0).append(send(3), Acks::All).unwrap();
        firsts.push(unanswered.first);
        let reached = || (cluster.state(2, 0).log_end == end_of(&unanswered)).then_some(());
        until("the batch to reach a follower", reached).await;
        cluster.controller.elect(partition(0), 2, &[1, 2, 3]);
        cluster.release(3, 1);
        cluster.wait_to_lead(2, 0).await;

        for n in [3, 2, 0] {
            let repeated = cluster.produce(2, 0, send(n), Acks::All).await.unwrap();
            assert!(repeated.duplicate, "appended twice: {n}");
            assert_eq!(repeated.first, firsts[n as usize]);
        }
        let leader = cluster.replica(2, 0);
        let gap = leader.append(send(5), Acks::All).unwrap_err();
        assert!(
            matches!(gap, AppendFailure::Log(AppendError::OutOfOrderSequence(_))),
            "{gap}"
        );
        let next = cluster.produce(2, 0, send(4), Acks::All).await.unwrap();
        assert!(!next.duplicate);
        assert_eq!(next.first, end_of(&unanswered));
        let log = cluster.wait_to_agree(0, &[2, 1, 3]).await;
        let expected: Vec<_> = (0..5).map(|n| format!("value {n}")).collect();
        assert_eq!(values(&log), expected);
    });
}

#[test]
fn who_has_no_replica_asks_the_leader_where_a_log_ends() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        cluster.create(0, &[1, 2], &[1, 2], 2).await;
        let produced = cluster.produce(1, 0, batch(b"one"), Acks::All);
        produced.await.unwrap();
        let asks = &cluster.broker(3).replicas;
        let ids = [partition(7), partition(0)];
        let ends = asks.ends_at(BrokerId(1), &ids).await;
        assert_eq!(ends, [None, Some(Offset(1))]);
        // Who only follows, or is not there, does not say.
        assert_eq!(asks.ends_at(BrokerId(2), &ids).await, [None, None]);
        assert_eq!(asks.ends_at(BrokerId(9), &ids).await, [None, None]);
        let many = vec![partition(0); MAX_ENDS_ASKED + 5];
        let told = asks.ends_at(BrokerId(1), &many).await;
        assert_eq!(told.len(), many.len());
        assert_eq!(told.iter().flatten().count(), MAX_ENDS_ASKED);
    });
}
