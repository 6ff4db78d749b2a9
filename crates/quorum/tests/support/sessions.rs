//! Brokers that live, die, stop and come back.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Stopwatch, trace, until};

pub fn registered(voters: usize, all: usize) -> (Cluster, Vec<millrace_quorum::BrokerSession>) {
    let cluster = Cluster::started(voters, all);
    let sessions: Vec<_> = (1..=all as i32).map(|id| cluster.register(id)).collect();
    for (id, session) in (1..).zip(&sessions) {
        cluster.wait_for_serving(id, session);
    }
    (cluster, sessions)
}

#[test]
fn brokers_register_and_are_unfenced() {
    trace();
    let begun = Instant::now();
    let (cluster, sessions) = registered(3, 4);
    println!("four brokers serve after {:?}", begun.elapsed());
    until("the sessions say so", || {
        sessions
            .iter()
            .all(|session| !session.state().borrow().fenced)
            .then_some(())
    });
    let epochs: std::collections::BTreeSet<_> = sessions
        .iter()
        .map(|session| session.epoch().unwrap())
        .collect();
    assert_eq!(epochs.len(), 4);
    let quorum = cluster.quorum(4).clone();
    let first = cluster
        .on(4, async move { quorum.allocate_producer_ids().await })
        .unwrap();
    let quorum = cluster.quorum(1).clone();
    let second = cluster
        .on(1, async move { quorum.allocate_producer_ids().await })
        .unwrap();
    assert!(first.end <= second.start || second.end <= first.start);
}

#[test]
fn a_killed_broker_is_fenced_at_once_and_comes_back() {
    trace();
    let (mut cluster, mut sessions) = registered(3, 4);
    let controller = cluster.wait_for_controller();
    let epoch = sessions[3].epoch().unwrap();
    let watch = Stopwatch::start();
    cluster.kill(4);
    cluster.wait_for_fenced(controller, 4, true);
    let limit = Duration::from_millis(400);
    watch.check("a killed broker is fenced", watch.elapsed(), limit);
    cluster.start(4).unwrap();
    sessions[3] = cluster.register(4);
    cluster.wait_for_serving(4, &sessions[3]);
    assert!(sessions[3].epoch().unwrap() > epoch);
}

#[test]
fn a_killed_controller_that_is_a_broker_is_fenced_by_the_next() {
    trace();
    let (mut cluster, mut sessions) = registered(3, 3);
    for _ in 0..5 {
        let controller = cluster.wait_for_controller();
        let other = cluster.another(controller);
        let watch = Stopwatch::start();
        cluster.kill(controller);
        cluster.wait_for_fenced(other, controller, true);
        watch.check("it is fenced", watch.elapsed(), Duration::from_secs(1));
        cluster.start(controller).unwrap();
        sessions[controller as usize - 1] = cluster.register(controller);
        for (id, session) in (1..).zip(&sessions) {
            cluster.wait_for_serving(id, session);
        }
    }
}

#[test]
fn a_broker_whose_stream_ends_is_given_a_moment() {
    trace();
    let (cluster, mut sessions) = registered(3, 4);
    let controller = cluster.wait_for_controller();
    // The process lives and listens, only its session is gone.
    drop(sessions.pop());
    let watch = Stopwatch::start();
    cluster.wait_for_fenced(controller, 4, true);
    let took = watch.elapsed();
    assert!(took > Duration::from_millis(200), "{took:?}");
    let limit = Duration::from_millis(800);
    watch.check("a broker without a session is fenced", took, limit);
}

#[test]
fn sessions_follow_the_controller() {
    trace();
    let (mut cluster, sessions) = registered(3, 4);
    let epochs: Vec<_> = sessions.iter().map(|session| session.epoch()).collect();
    let controller = cluster.wait_for_controller();
    cluster.kill(controller);
    let next = cluster.wait_for_controller();
    let since = Instant::now();
    let after: Vec<_> = (1..=4).filter(|id| *id != controller).collect();
    until("every session has moved", || {
        let moved = |id: &i32| sessions[*id as usize - 1].last_contact().into_std() > since;
        after.iter().all(moved).then_some(())
    });
    for id in after {
        assert_eq!(sessions[id as usize - 1].epoch(), epochs[id as usize - 1]);
        assert_eq!(cluster.is_fenced(next, id), Some(false));
    }
}

#[test]
fn a_controlled_shutdown_is_granted_and_ends_fenced() {
    trace();
    let (cluster, mut sessions) = registered(3, 4);
    let controller = cluster.wait_for_controller();
    let begun = Instant::now();
    let session = sessions.pop().unwrap();
    cluster.on(4, async move { session.controlled_shutdown().await });
    println!("a controlled shutdown took {:?}", begun.elapsed());
    cluster.wait_for_fenced(controller, 4, true);
}
