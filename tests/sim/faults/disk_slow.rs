//! A broker's disk takes long for everything, every fsync included.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let least = Duration::from_millis(rng.random_range(1..60));
    let more = Duration::from_millis(rng.random_range(1..900));
    let lasts = seconds(rng, 0.5..8.0);
    cluster.broker(id).machine.set_disk_latency(least, more);
    let what = format!("the disk of broker {id} takes {least:?} to {more:?} for {lasts:?}");
    Struck::new(what, lasts, move |cluster| {
        cluster.broker(id).machine.reset_disk_latency();
    })
}
