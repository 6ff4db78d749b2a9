//! A link is slow, far, narrow or loses a part of what it carries.

use std::time::Duration;

use millrace_host::network::sim::Path;
use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, seconds, two_machines};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let (from, to) = two_machines(cluster, rng);
    let before = cluster.network.path(&from, &to);
    let path = match rng.random_range(0..3) {
        0 => Path {
            delay: Duration::from_millis(rng.random_range(1..100)),
            jitter: Duration::from_millis(rng.random_range(1..200)),
            ..before
        },
        1 => Path {
            loss: rng.random_range(0.001..0.2),
            ..before
        },
        _ => Path {
            bytes_per_second: Some(rng.random_range(5_000..200_000)),
            ..before
        },
    };
    cluster.network.set_path(&from, &to, path);
    let lasts = seconds(rng, 0.5..10.0);
    let what = format!("{from} to {to} is bad for {lasts:?}: {path:?}");
    Struck::new(what, lasts, move |cluster| {
        let cut = cluster.network.path(&from, &to).cut;
        let path = Path {
            cut,
            ..cluster.usual_path(&from, &to)
        };
        cluster.network.set_path(&from, &to, path);
    })
}
