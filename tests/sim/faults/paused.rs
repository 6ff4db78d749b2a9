//! A broker's process is stopped (SIGSTOP) and goes on later with all its timers late.

use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let lasts = seconds(rng, 0.05..8.0);
    cluster.broker(id).machine.paused = true;
    let what = format!("broker {id} is stopped for {lasts:?}");
    Struck::new(what, lasts, move |cluster| {
        cluster.broker(id).machine.paused = false;
    })
}
