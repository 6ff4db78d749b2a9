//! Nothing gets from one machine to another; the way back may stay open.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, seconds, two_machines};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let (from, to) = two_machines(cluster, rng);
    let both = rng.random_bool(0.5);
    let lasts = seconds(rng, 0.1..8.0);
    cluster.cut(&from, &to, both, true);
    let ways = if both { "and back" } else { "one way" };
    let what = format!("{from} to {to} is cut, {ways}, for {lasts:?}");
    Struck::new(what, lasts, move |cluster| {
        cluster.cut(&from, &to, both, false);
    })
}
