//! Records that a client deletes are gone on every replica, and stay gone.

use std::time::Duration;

use millrace_model::Offset;
use millrace_replication::{Acks, AppendFailure, DeleteFailure};
use tokio::time::Instant;

use crate::cluster::{Cluster, Setup, partition, run, until};
use crate::records::batch;

fn soon(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

#[test]
fn a_deletion_is_answered_when_every_live_replica_keeps_it() {
    run(async {
        let cluster = Cluster::started(Setup::default(), 3).await;
        cluster.create(0, &[1, 2, 3], &[1, 2, 3], 2).await;
        for n in 0..5 {
            let batch = batch(format!("{n}").as_bytes());
            cluster.produce(1, 0, batch, Acks::All).await.unwrap();
        }
        let leader = cluster.replica(1, 0);
        let low = leader.delete_records(Some(Offset(2)), soon(60_000)).await;
        assert_eq!(low.unwrap(), Offset(2));
        for broker in [1, 2, 3] {
            let log = cluster.replica(broker, 0).log().clone();
            assert_eq!(log.bounds().log_start, Offset(2), "broker {broker}");
            assert_eq!(log.durable_start(), Offset(2), "broker {broker}");
        }
        let beyond = leader.delete_records(Some(Offset(6)), soon(60_000)).await;
        let beyond = beyond.unwrap_err();
        assert!(
            matches!(beyond, DeleteFailure::OutOfRange { .. }),
            "{beyond}"
        );

        // One that hears nothing is waited for, until it is known to be gone.
        cluster.hold(3, 1);
        let late = leader.delete_records(Some(Offset(3)), soon(300)).await;
        let late = late.unwrap_err();
        let timed_out = DeleteFailure::Leadership(AppendFailure::TimedOut);
        assert_eq!(late.to_string(), timed_out.to_string());
        let waiting = {
            let leader = leader.clone();
            tokio::spawn(async move { leader.delete_records(None, soon(60_000)).await })
        };
        cluster.controller.fence(3);
        assert_eq!(waiting.await.unwrap().unwrap(), Offset(5));

        // The next leader knows, and tells the one that came back.
        cluster.controller.elect(partition(0), 2, &[2, 1]);
        cluster.wait_to_lead(2, 0).await;
        assert_eq!(cluster.state(2, 0).log_start, Offset(5));
        cluster.controller.unfence(3);
        cluster.release(3, 1);
        let told = || (cluster.state(3, 0).log_start == Offset(5)).then_some(());
        until("the third replica to begin there too", told).await;
    });
}
