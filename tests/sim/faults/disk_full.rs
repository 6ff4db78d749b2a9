//! A broker's disk is full for a while.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let lasts = seconds(rng, 0.3..5.0);
    let room = rng.random_range(0..50_000);
    let disk = cluster.broker(id).machine.disk.clone();
    disk.set_capacity(disk.used() + room);
    let what = format!("the disk of broker {id} has {room} bytes left for {lasts:?}");
    Struck::new(what, lasts, move |_| disk.set_capacity(u64::MAX))
}
