//! A broker's wall clock jumps, and its clocks run fast or slow.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let ahead = rng.random_range(-3_600_000..3_600_000);
    let drift = rng.random_range(-50_000..50_000);
    let lasts = seconds(rng, 1.0..10.0);
    let machine = &mut cluster.broker(id).machine;
    machine.set_wall_offset(ahead);
    machine.drift_ppm = drift;
    let what = format!("the clock of broker {id} is {ahead} ms ahead and drifts {drift} ppm");
    Struck::new(what, lasts, move |cluster| {
        let machine = &mut cluster.broker(id).machine;
        machine.set_wall_offset(0);
        machine.drift_ppm = 0;
    })
}
