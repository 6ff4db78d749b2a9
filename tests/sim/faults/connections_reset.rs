//! Something between two machines resets their connections; one side may not hear of it.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, two_machines};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let (from, to) = two_machines(cluster, rng);
    let one_sided = rng.random_bool(0.5);
    let count = cluster.network.reset(&from, &to, one_sided);
    let sides = if one_sided { "one side" } else { "both sides" };
    Struck::once(format!(
        "{count} connections from {from} to {to} are reset, on {sides}"
    ))
}
