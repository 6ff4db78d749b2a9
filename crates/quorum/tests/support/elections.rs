//! Leaders that die, and what becomes of what they had proposed.

use std::time::{Duration, Instant};

use millrace_quorum::ForwardError;

use crate::cluster::{Cluster, Stopwatch, trace, until};

pub fn wait_for_another_controller(cluster: &Cluster, not: i32) -> i32 {
    until("another controller", || {
        let mut others = cluster.running().filter(|node| node.id != not);
        others
            .find(|node| node.quorum.is_active())
            .map(|node| node.id)
    })
}

#[test]
fn a_killed_leader_is_replaced_without_waiting_for_the_timeout() {
    trace();
    let mut cluster = Cluster::started(3, 3);
    for round in 0..8 {
        let controller = cluster.wait_for_controller();
        let value = round.to_string();
        cluster.confirm("round", &value);
        cluster.wait_for_setting("round", &value);
        let watch = Stopwatch::start();
        cluster.kill(controller);
        wait_for_another_controller(&cluster, controller);
        watch.check("a new controller", watch.elapsed(), Duration::from_secs(1));
        cluster.start(controller).unwrap();
        cluster.wait_for_setting("round", &value);
    }
}

#[test]
fn a_leader_that_resigns_is_followed_at_once() {
    trace();
    let cluster = Cluster::started(3, 3);
    let controller = cluster.wait_for_controller();
    let quorum = cluster.quorum(controller).clone();
    let begun = Instant::now();
    cluster.on(controller, async move { quorum.resign().await });
    let next = wait_for_another_controller(&cluster, controller);
    println!(
        "a new controller after a resignation: {:?}",
        begun.elapsed()
    );
    assert_ne!(next, controller);
    cluster.confirm("a", "1");
    cluster.wait_for_setting("a", "1");
}

#[test]
fn what_was_confirmed_survives_and_is_decided_once() {
    trace();
    let mut cluster = Cluster::started(3, 3);
    let mut confirmed = Vec::new();
    for round in 0..3 {
        let controller = cluster.wait_for_controller();
        for n in 0..10 {
            let name = format!("r{round}-{n}");
            if cluster.set(controller, &name, "x").is_ok() {
                confirmed.push(name);
            }
        }
        cluster.kill(controller);
        wait_for_another_controller(&cluster, controller);
        cluster.start(controller).unwrap();
    }
    cluster.wait_for_controller();
    assert!(confirmed.len() > 10, "{confirmed:?}");
    for name in confirmed {
        cluster.wait_for_setting(&name, "x");
    }
}

#[test]
fn requests_find_the_controller_from_any_node() {
    trace();
    let mut cluster = Cluster::started(3, 4);
    let forward = |cluster: &Cluster, id: i32, value: &str| {
        let request = millrace_quorum::Forwarded {
            client_id: id.to_string(),
            body: value.to_owned().into(),
            deadline_ms: 10_000,
            ..Default::default()
        };
        // A connection that breaks while a request is on it leaves its outcome open.
        let answer = until("an answer", || {
            let (quorum, request) = (cluster.quorum(id).clone(), request.clone());
            match cluster.on(id, async move { quorum.forward(request).await }) {
                Err(ForwardError::Unconfirmed(_)) => None,
                answer => Some(answer.unwrap()),
            }
        });
        // The node that was asked holds what was done when it answers.
        assert_eq!(
            cluster.get(id, &format!("forwarded-by-{id}")).as_deref(),
            Some(value)
        );
        String::from_utf8(answer.to_vec()).unwrap()
    };
    for id in 1..=4 {
        forward(&cluster, id, "1");
    }
    let controller = cluster.wait_for_controller();
    cluster.kill(controller);
    for id in (1..=4).filter(|id| *id != controller) {
        let answer = forward(&cluster, id, "2");
        assert_ne!(answer, format!("done by {controller}"));
    }
}

#[test]
fn a_leader_without_a_majority_confirms_nothing() {
    trace();
    let mut cluster = Cluster::started(3, 3);
    let controller = cluster.wait_for_controller();
    let others: Vec<i32> = (1..=3).filter(|id| *id != controller).collect();
    others.iter().for_each(|id| cluster.kill(*id));
    let refused = cluster.set(controller, "late", "1");
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(cluster.get(controller, "late"), None);
    // The others go on without it; what it may still propose finds another image.
    cluster.kill(controller);
    others.iter().for_each(|id| cluster.start(*id).unwrap());
    cluster.confirm("late", "2");
    cluster.start(controller).unwrap();
    cluster.wait_for_setting("late", "2");
}
