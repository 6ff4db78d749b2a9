//! The faults, and the chance that draws them.

use std::time::Duration;

use millrace_testkit::Cluster;
use millrace_testkit::admin::NodeId;
use millrace_tests::run::TOPIC;

/// Numbers from one seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// From this seed.
    pub fn of(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from)) as u64)
    }
}

/// Something bad, and its end.
#[derive(Clone, Debug)]
pub enum Fault {
    /// SIGKILL and a start, so much later.
    Kill(NodeId, Duration),
    /// SIGKILL of two, and starts.
    KillTwo(NodeId, NodeId, Duration),
    /// SIGKILL of all, and starts.
    KillAll(Duration),
    /// SIGTERM and a start.
    Stop(NodeId),
    /// SIGSTOP for so long.
    Pause(NodeId, Duration),
    /// Cut off from all others for so long.
    Isolate(NodeId, Duration),
    /// One direction between two carries nothing for so long.
    CutOneWay(NodeId, NodeId, Duration),
    /// Connections between two are reset again and again.
    Reset(NodeId, NodeId),
    /// SIGKILL, and an empty disk.
    Wipe(NodeId),
    /// Paused, and another killed and started meanwhile.
    PauseAndKill(NodeId, NodeId, Duration),
    /// Preferred leaders are elected.
    Elect,
}

impl Fault {
    /// Draws one.
    pub fn draw(chance: &mut Chance, ids: &[NodeId]) -> Fault {
        let one = ids[chance.below(ids.len())];
        let others: Vec<NodeId> = ids.iter().copied().filter(|id| *id != one).collect();
        let other = others[chance.below(others.len())];
        match chance.below(14) {
            0 | 1 => Fault::Kill(one, chance.millis(0, 3000)),
            2 => Fault::KillTwo(one, other, chance.millis(0, 1000)),
            3 => Fault::KillAll(chance.millis(0, 500)),
            4 => Fault::Stop(one),
            5 | 6 => Fault::Pause(one, chance.millis(100, 5000)),
            7 | 8 => Fault::Isolate(one, chance.millis(100, 5000)),
            9 => Fault::CutOneWay(one, other, chance.millis(100, 5000)),
            10 => Fault::Reset(one, other),
            11 => Fault::Wipe(one),
            12 => Fault::PauseAndKill(one, other, chance.millis(500, 3000)),
            _ => Fault::Elect,
        }
    }

    /// Lets it happen, and pass.
    pub fn happen(&self, cluster: &mut Cluster, chance: &mut Chance) {
        match self {
            Fault::Kill(one, pause) => kill_and_start(cluster, &[*one], *pause),
            Fault::KillTwo(one, other, pause) => kill_and_start(cluster, &[*one, *other], *pause),
            Fault::KillAll(pause) => kill_and_start(cluster, &cluster.ids(), *pause),
            Fault::Stop(one) => {
                cluster.stop(*one);
                cluster.restart(*one);
            }
            Fault::Pause(one, pause) => {
                cluster.pause(*one);
                std::thread::sleep(*pause);
                cluster.resume(*one);
            }
            Fault::Isolate(one, pause) => {
                cluster.links().isolate(*one, &cluster.ids());
                std::thread::sleep(*pause);
                cluster.links().heal();
            }
            Fault::CutOneWay(one, other, pause) => {
                cluster.links().cut(*one, *other);
                std::thread::sleep(*pause);
                cluster.links().heal();
            }
            Fault::Reset(one, other) => {
                for _ in 0..10 {
                    cluster.links().reset(*one, *other);
                    std::thread::sleep(chance.millis(10, 200));
                }
            }
            Fault::Wipe(one) => {
                cluster.kill(*one);
                // Until the others have taken it out, it is the one that may not be lost.
                wait_out_of_sync(cluster, *one);
                cluster.restart_wiped(*one);
            }
            Fault::PauseAndKill(one, other, pause) => {
                cluster.pause(*one);
                cluster.kill(*other);
                std::thread::sleep(*pause);
                cluster.node_mut(*other).start();
                cluster.resume(*one);
                cluster.wait_started(*other);
            }
            Fault::Elect => {
                let all: Vec<i32> = (0..6).collect();
                // Whether it is granted does not matter here.
                let _ = cluster.admin().elect_preferred(TOPIC, &all);
            }
        }
    }
}

fn kill_and_start(cluster: &mut Cluster, ids: &[NodeId], pause: Duration) {
    for id in ids {
        cluster.kill(*id);
    }
    std::thread::sleep(pause);
    for id in ids {
        cluster.node_mut(*id).start();
    }
    for id in ids {
        cluster.wait_started(*id);
    }
}

fn wait_out_of_sync(cluster: &Cluster, id: NodeId) {
    let what = format!("node {id} to be taken out");
    cluster.wait_partitions(TOPIC, &what, Duration::from_secs(60), |partitions| {
        partitions
            .iter()
            .all(|partition| !partition.isr.contains(&id))
    });
}
