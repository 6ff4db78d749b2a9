//! A broker's disk fills up, with its metadata on it: it refuses writes and lives on, the others lead
//! instead of it, and when there is space again everything is as before by itself. (R30)

use std::time::Duration;

use millrace_testkit::admin::{Admin, NewTopic, PartitionState};
use millrace_testkit::{Cluster, Options, wait};
use millrace_tests::load::send_one;
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, SmallDisk, Workload};

const MINUTE: Duration = Duration::from_secs(60);

/// Three brokers, each with a small disk of its own.
fn on_small_disks() -> (Vec<SmallDisk>, Cluster) {
    let disks: Vec<SmallDisk> = (0..3).map(|_| SmallDisk::of_kilobytes(256 << 10)).collect();
    let mut options = Options::three().with("log.segment.bytes", "16777216");
    options.data = (1..)
        .zip(disks.iter().map(|disk| disk.path().join("data")))
        .collect();
    let cluster = Cluster::start(&options);
    (disks, cluster)
}

fn full(name: &str, pick: impl FnOnce(&Cluster) -> i32) {
    // Every node gets a small disk, since who controls is known only later.
    let (disks, cluster) = on_small_disks();
    let victim = pick(&cluster);
    let mut run = Run::on(name, cluster, &Workload::default());
    run.strike(victim, |_, node| disks[node as usize - 1].fill());
    // Whoever has room leads, so every partition goes on.
    let others = run.cluster.all_but(victim);
    let admin = Admin::new(
        others
            .iter()
            .map(|id| run.cluster.node(*id).client_port())
            .collect(),
    );
    wait::until("the leaders to leave the full disk", MINUTE, || {
        let partitions = admin.partitions(TOPIC)?;
        let elsewhere = |of: &PartitionState| of.leader.is_some_and(|leader| leader != victim);
        match partitions.iter().all(elsewhere) {
            true => Ok(()),
            false => Err(format!("{partitions:?}")),
        }
    });
    run.wait_progress(MINUTE);
    let alive = run.cluster.node_mut(victim).is_running();
    assert!(alive, "a full disk ends no broker");
    let victims = Admin::new(vec![run.cluster.node(victim).client_port()]);
    victims.partitions(TOPIC).expect("metadata is still served");
    disks[victim as usize - 1].free();
    run.cluster.wait_in_sync(TOPIC, MINUTE);
    // They come back by themselves.
    run.cluster
        .wait_partitions(TOPIC, "the preferred leaders", MINUTE, |partitions| {
            let preferred = |of: &PartitionState| of.leader == of.replicas.first().copied();
            partitions.iter().all(preferred)
        });
    run.wait_progress(MINUTE);
    run.finish().expect_sound();
}

#[test]
fn all_disks_full() {
    let (disks, cluster) = on_small_disks();
    let mut run = Run::on("all disks full", cluster, &Workload::default());
    // One that nobody judges: what is asked there may be taken before the disks are known as full.
    let asked = NewTopic {
        name: "asked",
        partitions: 1,
        replication: 3,
        assignment: Vec::new(),
        configs: Vec::new(),
    };
    let admin = run.cluster.admin();
    admin.create_topic(&asked).expect("it can be made");
    run.cluster.wait_in_sync("asked", MINUTE);
    run.strike_all(|_| disks.iter().for_each(SmallDisk::fill));
    // Nobody is better than anybody else, and whoever asks is told to try again.
    wait::until("a refusal", MINUTE, || {
        let leader = run.cluster.leader_of("asked", 0);
        let at = format!("127.0.0.1:{}", run.cluster.node(leader).client_port());
        let sent = send_one(&at, "asked", 0, b"full", "all");
        match sent {
            Err(error) if error.contains("KafkaStorageError") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for id in run.cluster.ids() {
        assert!(run.cluster.node_mut(id).is_running(), "node {id} ended");
    }
    disks.iter().for_each(SmallDisk::free);
    run.wait_progress(MINUTE);
    run.finish().expect_sound();
}

#[test]
fn disk_full() {
    full("disk full", |cluster| {
        cluster.other_than(cluster.controller())
    });
}

#[test]
fn disk_of_the_controller_full() {
    full("disk of the controller full", Cluster::controller);
}
