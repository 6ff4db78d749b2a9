//! The power fails between two writes of a group, or between a write and its sync.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, running};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let changes = rng.random_range(1..60);
    cluster.broker(id).machine.disk.crash_after(changes);
    Struck::once(format!(
        "broker {id} will lose its power in {changes} writes"
    ))
}
