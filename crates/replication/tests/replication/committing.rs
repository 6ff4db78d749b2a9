//! What is acknowledged, and what is not while too few are in sync.

use std::time::Duration;

use millrace_model::Offset;
use millrace_replication::{Acks, AppendFailure, ReplicaSettings};
use tokio::time::Instant;

use crate::cluster::{Cluster, Setup, end_of, partition, produce, run, until};
use crate::records::{batch, values};

/// Sessions are over after so long.
fn with_session(session_timeout: Duration) -> Setup {
    Setup {
        settings: ReplicaSettings {
            session_timeout,
            ..ReplicaSettings::default()
        },
        ..Setup::default()
    }
}

#[test]
fn acks_all_is_durable_on_every_follower() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 2).await;
        let mut sent = Vec::new();
        for n in 0..20_usize {
            sent.push(format!("{n} ").repeat(1 + n * 37 % 500));
            let batch = batch(sent[n].as_bytes());
            let appended = cluster.produce(1, 0, batch, Acks::All).await.unwrap();
            for follower in [2, 3] {
                let durable_end = cluster.state(follower, 0).durable_end;
                assert!(durable_end >= end_of(&appended), "broker {follower}");
                assert_eq!(values(&cluster.on_disk(follower, 0)), sent);
            }
        }
        let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
        assert_eq!(values(&log), sent);
    });
}

/// Rule 8. That the leader did not merely miss the acknowledgement is shown by a later word of the
/// same follower on the same stream.
#[test]
fn what_a_follower_has_only_written_is_not_acknowledged() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        for index in [0, 1] {
            cluster.create(index, &[1, 2, 3], &[1, 2, 3], 2).await;
        }
        let first = cluster.produce(1, 0, batch(b"first"), Acks::All).await;
        let first = first.unwrap();
        cluster.broker(2).syncs.hold();
        let leader = cluster.replica(1, 0);
        let waiting = {
            let leader = leader.clone();
            tokio::spawn(async move { produce(&leader, batch(b"second"), Acks::All).await })
        };
        let is_written = || (cluster.state(2, 0).log_end.get() == 2).then_some(());
        until("the follower to have the batch", is_written).await;

        cluster.controller.elect(partition(1), 1, &[1, 2, 3]);
        let heard = || {
            let state = cluster.state(1, 1);
            let mut followers = state.followers.iter();
            let second = followers.find(|follower| follower.broker.get() == 2)?;
            let joined = second.durable_end == Some(Offset::ZERO);
            (state.leader_epoch.get() == 1 && joined).then_some(())
        };
        until("a later word of the follower", heard).await;
        assert_eq!(leader.state().high_watermark, end_of(&first));
        assert!(!waiting.is_finished(), "acknowledged before it was durable");

        cluster.broker(2).syncs.release();
        waiting.await.unwrap().unwrap();
        let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
        assert_eq!(values(&log), ["first", "second"]);
    });
}

#[test]
fn too_few_in_sync_are_told_before_and_after_the_append() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 2).await;
        cluster.create(0, &[1, 2], &[1, 2], 2).await;
        let first = cluster.produce(1, 0, batch(b"first"), Acks::All).await;
        let first = first.unwrap();
        let leader = cluster.replica(1, 0);

        cluster.hold(2, 1);
        let (uncertain, epoch) = leader.append(batch(b"uncertain"), Acks::All).unwrap();
        cluster.controller.fence(2);
        let outcome = leader.wait_committed(uncertain.last, epoch, Acks::All, Instant::now());
        let after = outcome.await.unwrap_err();
        assert!(
            matches!(
                after,
                AppendFailure::NotEnoughReplicasAfterAppend { isr: 1, min: 2 }
            ),
            "{after}"
        );
        let before = leader.append(batch(b"refused"), Acks::All).unwrap_err();
        assert!(
            matches!(before, AppendFailure::NotEnoughReplicas { isr: 1, min: 2 }),
            "{before}"
        );
        assert_eq!(leader.state().log_end, end_of(&uncertain));
        let one = cluster.produce(1, 0, batch(b"acks one"), Acks::Leader);
        one.await.unwrap();
        assert_eq!(leader.state().high_watermark, end_of(&first));

        cluster.controller.unfence(2);
        cluster.release(2, 1);
        cluster.wait_for_isr(0, &[1, 2]).await;
        let log = cluster.wait_to_agree(0, &[1, 2]).await;
        assert_eq!(values(&log), ["first", "uncertain", "acks one"]);
        let outcome = leader.wait_committed(uncertain.last, epoch, Acks::All, Instant::now());
        outcome.await.unwrap();
    });
}

#[test]
fn a_silent_follower_leaves_the_isr_and_comes_back() {
    run(async {
        let setup = with_session(Duration::from_millis(300));
        let cluster = Cluster::started(setup, 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 2).await;
        let first = cluster.produce(1, 0, batch(b"first"), Acks::All).await;
        first.unwrap();
        cluster.hold(3, 1);
        for value in ["second", "third"] {
            let appended = cluster.produce(1, 0, batch(value.as_bytes()), Acks::All);
            appended.await.unwrap();
            let isr = cluster.controller.isr(partition(0));
            assert!(!isr.contains(&3), "acknowledged without a member: {isr:?}");
        }
        let granted = cluster.controller.granted();
        let without = |change: &millrace_replication::IsrChange| {
            change.isr.iter().all(|(id, _)| id.get() != 3)
        };
        assert!(granted.iter().any(without), "{granted:?}");
        assert!(cluster.broker(1).replicas.metrics().isr_shrinks > 0);

        cluster.release(3, 1);
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
        let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
        assert_eq!(values(&log), ["first", "second", "third"]);
    });
}

/// Its process lives, answers the controller and receives everything; only its disk takes nothing.
#[test]
fn a_follower_whose_disk_stands_still_holds_nobody_up_for_longer_than_a_session() {
    run(async {
        let setup = with_session(Duration::from_millis(300));
        let cluster = Cluster::started(setup, 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 2).await;
        let first = cluster.produce(1, 0, batch(b"first"), Acks::All).await;
        first.unwrap();
        cluster.broker(3).syncs.hold();
        for value in ["second", "third"] {
            let appended = cluster.produce(1, 0, batch(value.as_bytes()), Acks::All);
            appended.await.unwrap();
            let isr = cluster.controller.isr(partition(0));
            assert!(!isr.contains(&3), "acknowledged without a member: {isr:?}");
        }
        cluster.broker(3).syncs.release();
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
        let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
        assert_eq!(values(&log), ["first", "second", "third"]);
    });
}

/// It must not be left as the only member of the ISR, or nobody could be elected in its place; and
/// whoever waits for it would wait in vain.
#[test]
fn a_leader_that_hears_nobody_sends_callers_away_and_asks_for_no_removal() {
    run(async {
        let session_timeout = Duration::from_millis(200);
        let setup = with_session(session_timeout);
        let cluster = Cluster::started(setup, 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 1).await;
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
        cluster.controller.answers(false);
        for follower in [2, 3] {
            cluster.hold(follower, 1);
        }
        let begun = Instant::now();
        let outcome = cluster.produce(1, 0, batch(b"first"), Acks::All).await;
        assert!(
            matches!(outcome, Err(AppendFailure::NotLeader)),
            "{outcome:?}"
        );
        let took = begun.elapsed();
        assert!(
            took >= session_timeout && took < Duration::from_secs(5),
            "{took:?}"
        );
        let outcome = cluster.produce(1, 0, batch(b"second"), Acks::Leader).await;
        assert!(
            matches!(outcome, Err(AppendFailure::NotLeader)),
            "{outcome:?}"
        );
        // Long enough for a leader that is answered to ask, as the end shows.
        tokio::time::sleep(3 * session_timeout).await;
        let granted = cluster.controller.granted();
        assert!(granted.is_empty(), "{granted:?}");

        cluster.controller.answers(true);
        cluster.wait_for_isr(0, &[1]).await;
        for follower in [2, 3] {
            cluster.release(follower, 1);
        }
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
    });
}

/// The follower that is not heard may be the leader by now: what the leader alone acknowledges would be
/// lost. What all must have is not acknowledged in vain.
#[test]
fn a_leader_that_hears_not_everybody_acknowledges_nothing_on_its_own() {
    run(async {
        let session_timeout = Duration::from_millis(200);
        let setup = with_session(session_timeout);
        let cluster = Cluster::started(setup, 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 1).await;
        cluster.wait_for_isr(0, &[1, 2, 3]).await;
        cluster.controller.answers(false);
        cluster.hold(3, 1);
        let outcome = cluster.produce(1, 0, batch(b"first"), Acks::Leader).await;
        outcome.unwrap();
        cluster.wait_to_be_cut_off(1, 0).await;
        let outcome = cluster.produce(1, 0, batch(b"alone"), Acks::Leader).await;
        assert!(
            matches!(outcome, Err(AppendFailure::NotLeader)),
            "{outcome:?}"
        );
        let all = cluster.produce(1, 0, batch(b"second"), Acks::All);
        // Whoever waits for all is not sent away when a session is over.
        let (all, ()) = futures::join!(all, async {
            tokio::time::sleep(2 * session_timeout).await;
            cluster.release(3, 1);
        });
        all.unwrap();
        let outcome = cluster.produce(1, 0, batch(b"third"), Acks::Leader).await;
        outcome.unwrap();
        cluster.controller.answers(true);
        let log = cluster.wait_to_agree(0, &[1, 2, 3]).await;
        assert_eq!(values(&log), ["first", "second", "third"]);
    });
}
