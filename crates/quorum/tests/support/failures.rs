//! A node that is everything at once (leader of the quorum, broker, leader of partitions) dies or
//! stands still: how long until others have taken over all of it.

use std::time::Duration;

use millrace_quorum::{BrokerSession, DecideError};

use crate::cluster::{Cluster, Stopwatch, trace, until};
use crate::elections::wait_for_another_controller;
use crate::sessions::registered;

/// How long after a failure each part was taken over.
struct Phases {
    controller: Duration,
    fenced: Duration,
    /// Every node that is left knows the new leader of the partition.
    led: Duration,
}

impl std::fmt::Display for Phases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Phases {
            controller,
            fenced,
            led,
        } = self;
        write!(
            f,
            "a controller after {controller:?}, fenced {fenced:?}, led {led:?}"
        )
    }
}

fn wait_for_takeover(cluster: &Cluster, failed: i32, topic: &str, since: &Stopwatch) -> Phases {
    let next = match cluster.quorum_if_running(failed) {
        Some(quorum) if !quorum.is_active() => cluster.wait_for_controller(),
        _ => wait_for_another_controller(cluster, failed),
    };
    let controller = since.elapsed();
    cluster.wait_for_fenced(next, failed, true);
    let fenced = since.elapsed();
    for id in cluster.running().map(|node| node.id) {
        if id != failed {
            until("a new leader of the partition", || {
                cluster
                    .leader_of(id, topic)
                    .filter(|leader| *leader != failed)
            });
        }
    }
    Phases {
        controller,
        fenced,
        led: since.elapsed(),
    }
}

/// A topic that this broker leads, and the others hold as well.
fn create_topic_led_by(cluster: &Cluster, controller: i32, name: &str, leader: i32) {
    let others = (1..=3).filter(|id| *id != leader);
    let replicas: Vec<i32> = [leader].into_iter().chain(others).collect();
    cluster.create_topic(controller, name, &replicas);
    until("the topic", || {
        let mut running = cluster.running();
        running
            .all(|node| cluster.leader_of(node.id, name) == Some(leader))
            .then_some(())
    });
}

fn wait_for_all_serving(cluster: &Cluster, sessions: &[BrokerSession]) {
    for (id, session) in (1..).zip(sessions) {
        cluster.wait_for_serving(id, session);
    }
}

#[test]
fn killed_as_controller_and_partition_leader() {
    trace();
    let (mut cluster, mut sessions) = registered(3, 3);
    for round in 0..5 {
        let controller = cluster.wait_for_controller();
        let topic = format!("topic-{round}");
        create_topic_led_by(&cluster, controller, &topic, controller);
        let watch = Stopwatch::start();
        cluster.kill(controller);
        let phases = wait_for_takeover(&cluster, controller, &topic, &watch);
        println!("after a kill: {phases}");
        watch.check("a takeover", phases.led, Duration::from_secs(1));
        cluster.start(controller).unwrap();
        sessions[controller as usize - 1] = cluster.register(controller);
        wait_for_all_serving(&cluster, &sessions);
    }
}

#[test]
fn stopped_as_controller_and_partition_leader() {
    trace();
    let (cluster, sessions) = registered(3, 3);
    for round in 0..2 {
        let controller = cluster.wait_for_controller();
        let topic = format!("topic-{round}");
        create_topic_led_by(&cluster, controller, &topic, controller);
        let epoch = sessions[controller as usize - 1].epoch();
        let watch = Stopwatch::start();
        let frozen = cluster.freeze(controller);
        let phases = wait_for_takeover(&cluster, controller, &topic, &watch);
        println!("after SIGSTOP of the controller: {phases}");
        watch.check("a takeover", phases.led, Duration::from_secs(2));
        drop(frozen);
        // It finds itself deposed and fenced, and comes back as what it was.
        let next = cluster.wait_for_controller();
        println!("{next} is the controller now");
        wait_for_all_serving(&cluster, &sessions);
        assert_eq!(sessions[controller as usize - 1].epoch(), epoch);
    }
}

#[test]
fn stopped_as_a_broker() {
    trace();
    let (cluster, sessions) = registered(3, 4);
    let controller = cluster.wait_for_controller();
    cluster.create_topic(controller, "topic", &[4, 1, 2]);
    let epoch = sessions[3].epoch();
    let watch = Stopwatch::start();
    let frozen = cluster.freeze(4);
    let phases = wait_for_takeover(&cluster, 4, "topic", &watch);
    println!("after SIGSTOP of a broker: {phases}");
    assert!(phases.led > Duration::from_millis(800), "{phases}");
    watch.check("a takeover", phases.led, Duration::from_secs(2));
    drop(frozen);
    wait_for_all_serving(&cluster, &sessions);
    assert_eq!(sessions[3].epoch(), epoch);
}

#[test]
fn killed_and_started_again_at_once() {
    trace();
    let (mut cluster, mut sessions) = registered(3, 3);
    for round in 0..4 {
        let controller = cluster.wait_for_controller();
        let topic = format!("topic-{round}");
        create_topic_led_by(&cluster, controller, &topic, controller);
        let epoch = sessions[controller as usize - 1].epoch();
        let watch = Stopwatch::start();
        cluster.kill(controller);
        cluster.start(controller).unwrap();
        let session = cluster.register(controller);
        cluster.wait_for_serving(controller, &session);
        watch.check("it serves again", watch.elapsed(), Duration::from_secs(1));
        assert!(session.epoch() > epoch);
        sessions[controller as usize - 1] = session;
        let leaders = cluster
            .running()
            .map(|node| cluster.leader_of(node.id, &topic));
        assert!(leaders.flatten().all(|leader| leader != controller));
    }
}

#[test]
fn the_only_node_serves_at_once_after_a_restart() {
    trace();
    let (mut cluster, sessions) = registered(1, 1);
    cluster.create_topic(1, "topic", &[1]);
    drop(sessions);
    let watch = Stopwatch::start();
    cluster.kill(1);
    cluster.start(1).unwrap();
    let session = cluster.register(1);
    cluster.wait_for_serving(1, &session);
    until("it to lead again", || {
        (cluster.leader_of(1, "topic") == Some(1)).then_some(())
    });
    watch.check(
        "the only node serves again",
        watch.elapsed(),
        Duration::from_secs(1),
    );
}

#[test]
fn an_idle_cluster_writes_nothing() {
    trace();
    let (cluster, _sessions) = registered(3, 4);
    cluster.confirm("last", "1");
    cluster.wait_for_setting("last", "1");
    let before = cluster.contents_of_disks();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(cluster.contents_of_disks(), before);
}

#[test]
fn a_controller_that_nobody_answers_is_none() {
    trace();
    let (cluster, sessions) = registered(3, 3);
    let controller = cluster.wait_for_controller();
    let session = &sessions[controller as usize - 1];
    let others = (1..=3).filter(|id| *id != controller);
    let frozen: Vec<_> = others.map(|id| cluster.freeze(id)).collect();
    // Its own broker must not take its word for being in touch with the cluster.
    until("its broker to be out of touch", || {
        let silent = session.last_contact().elapsed() > Duration::from_millis(1500);
        // Nor what it would have said of the others: whoever is sent nowhere else stays here.
        assert!(session.silent().is_empty(), "{:?}", session.silent());
        silent.then_some(())
    });
    let refused = cluster.set(controller, "late", "1");
    assert!(
        matches!(refused, Err(DecideError::NotController { .. })),
        "{refused:?}"
    );
    drop(frozen);
    cluster.confirm("late", "2");
    cluster.wait_for_setting("late", "2");
    wait_for_all_serving(&cluster, &sessions);
}
