//! Forming a quorum, and nodes that come, go, lag and lose their disks.

use std::time::{Duration, Instant};

use millrace_model::BrokerId;
use millrace_quorum::Timing;

use crate::cluster::{Cluster, Knowing, Stopwatch, trace, until};

#[test]
fn a_single_voter_forms_a_quorum_and_keeps_it() {
    trace();
    let mut cluster = Cluster::started(1, 1);
    assert_eq!(cluster.wait_for_controller(), 1);
    cluster.confirm("a", "1");
    assert_eq!(cluster.get(1, "a").as_deref(), Some("1"));
    cluster.kill(1);
    cluster.start(1).unwrap();
    cluster.wait_for_controller();
    cluster.wait_for_setting("a", "1");
}

#[test]
fn three_voters_form_a_quorum_within_a_second() {
    trace();
    let watch = Stopwatch::start();
    let cluster = Cluster::started(3, 3);
    let controller = cluster.wait_for_controller();
    watch.check(
        "three nodes formed a quorum",
        watch.elapsed(),
        Duration::from_secs(1),
    );
    cluster.confirm("a", "1");
    cluster.wait_for_setting("a", "1");
    let other = cluster.another(controller);
    assert!(cluster.set(other, "a", "2").is_err());
    for node in cluster.running() {
        assert_eq!(
            node.quorum.image().cluster_id(),
            Some(crate::cluster::CLUSTER)
        );
    }
}

#[test]
fn no_quorum_is_formed_before_every_voter_is_there() {
    trace();
    let mut cluster = Cluster::new(3, 3);
    cluster.start(1).unwrap();
    cluster.start(2).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(cluster.running().all(|node| !node.quorum.is_member()));
    cluster.start(3).unwrap();
    cluster.wait_for_controller();
}

#[test]
fn a_restart_of_all_finds_a_leader_at_once() {
    trace();
    let mut cluster = Cluster::started(3, 3);
    for value in 0..20 {
        cluster.confirm("a", &value.to_string());
    }
    (1..=3).for_each(|id| cluster.kill(id));
    let begun = Instant::now();
    cluster.start_all();
    cluster.wait_for_controller();
    println!("three nodes started again in {:?}", begun.elapsed());
    cluster.wait_for_setting("a", "19");
}

#[test]
fn learners_get_what_voters_agree_on() {
    trace();
    let mut cluster = Cluster::started(3, 5);
    let controller = cluster.wait_for_controller();
    cluster.confirm("a", "1");
    cluster.wait_for_setting("a", "1");
    cluster.kill(5);
    cluster.confirm("a", "2");
    cluster.start(5).unwrap();
    cluster.wait_for_setting("a", "2");
    // A learner whose disk was wiped comes back as another one; the old one is forgotten.
    cluster.kill(5);
    cluster.wipe(5);
    cluster.start(5).unwrap();
    cluster.wait_for_setting("a", "2");
    let quorum = cluster.quorum(4).clone();
    let described = cluster
        .on(4, async move { quorum.describe().await })
        .unwrap();
    assert_eq!(described.leader, BrokerId(controller));
    let ids: Vec<_> = described
        .replicas
        .iter()
        .map(|r| (r.id.get(), r.voter))
        .collect();
    assert_eq!(
        ids,
        [(1, true), (2, true), (3, true), (4, false), (5, false)]
    );
    assert!(described.high_watermark > 0);
}

#[test]
fn a_lagging_node_gets_a_checkpoint() {
    trace();
    let mut cluster = Cluster::new(3, 3);
    cluster.timing = Timing {
        entries_per_checkpoint: 20,
        ..Timing::default()
    };
    cluster.start_all();
    let controller = cluster.wait_for_controller();
    let lagging = cluster.another(controller);
    cluster.kill(lagging);
    for value in 0..200 {
        cluster.confirm(&format!("a{}", value % 7), &value.to_string());
    }
    cluster.confirm("last", "1");
    cluster.start(lagging).unwrap();
    cluster.wait_for_setting("last", "1");
    cluster.wait_for_setting("a3", "199");
    // What it got is on its disk as well.
    cluster.kill(lagging);
    cluster.start(lagging).unwrap();
    cluster.wait_for_setting("last", "1");
}

#[test]
fn a_wiped_voter_takes_its_place_again_and_then_another_one_does() {
    trace();
    let mut cluster = Cluster::started(3, 3);
    cluster.confirm("kept", "yes");
    cluster.wait_for_setting("kept", "yes");
    for wiped in 1..=3 {
        wipe_and_wait(&mut cluster, wiped);
    }
    cluster.confirm("after", "all");
    cluster.wait_for_setting("after", "all");
}

/// Replaces a voter's disk and waits until it votes again, as the only one of its number.
fn wipe_and_wait(cluster: &mut Cluster, wiped: i32) {
    cluster.kill(wiped);
    cluster.wipe(wiped);
    cluster.start(wiped).unwrap();
    cluster.wait_for_setting("kept", "yes");
    until("the wiped voter votes again", || {
        let active = cluster.running().find(|node| node.quorum.is_active())?;
        let (at, quorum) = (active.id, active.quorum.clone());
        let described = cluster
            .on(at, async move { quorum.describe().await })
            .ok()?;
        let mut of_it = described
            .replicas
            .iter()
            .filter(|r| r.id == BrokerId(wiped));
        let back = of_it.next()?;
        let is_back = back.voter && back.directory == cluster.directory(wiped);
        let voters = described.replicas.iter().filter(|r| r.voter).count();
        (voters == 3 && is_back && of_it.next().is_none()).then_some(())
    });
}

fn formatted_with_initial_controllers(voters: usize, all: usize) -> Cluster {
    let mut cluster = Cluster::new(voters, all);
    cluster.knowing = Knowing::BootstrapServers;
    cluster
}

#[test]
fn a_standalone_controller_is_found_by_brokers_through_bootstrap_servers() {
    trace();
    let mut cluster = formatted_with_initial_controllers(1, 3);
    cluster.start_all();
    assert_eq!(cluster.wait_for_controller(), 1);
    cluster.confirm("a", "1");
    cluster.wait_for_setting("a", "1");
    for id in [1, 3] {
        cluster.kill(id);
        cluster.start(id).unwrap();
    }
    cluster.wait_for_controller();
    cluster.confirm("a", "2");
    cluster.wait_for_setting("a", "2");
}

#[test]
fn initial_controllers_form_a_quorum_and_take_back_a_wiped_one() {
    trace();
    let mut cluster = formatted_with_initial_controllers(3, 4);
    cluster.start_all();
    cluster.confirm("kept", "yes");
    cluster.wait_for_setting("kept", "yes");
    wipe_and_wait(&mut cluster, 2);
    // It knows the others by what they told it.
    (1..=4).for_each(|id| cluster.kill(id));
    cluster.start_all();
    cluster.wait_for_setting("kept", "yes");
    cluster.confirm("after", "all");
    cluster.wait_for_setting("after", "all");
}

#[test]
fn no_quorum_is_formed_with_another_directory_than_the_initial_one() {
    trace();
    let mut cluster = formatted_with_initial_controllers(3, 3);
    cluster.formatted[2] = cluster.directory(1);
    cluster.start_all();
    std::thread::sleep(Duration::from_millis(400));
    assert!(cluster.running().all(|node| !node.quorum.is_member()));
}
