//! One broker is cut off from all others, and perhaps from some clients.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::{Cluster, broker_name};

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let own = broker_name(id);
    let names: Vec<String> = cluster
        .names()
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    let cut: Vec<String> = names
        .into_iter()
        .filter(|name| *name != own && (name.starts_with("broker") || rng.random_bool(0.3)))
        .collect();
    let lasts = seconds(rng, 0.3..10.0);
    for name in &cut {
        cluster.cut(&own, name, true, true);
    }
    let what = format!("{own} is cut off from {} for {lasts:?}", cut.join(", "));
    Struck::new(what, lasts, move |cluster| {
        for name in &cut {
            cluster.cut(&own, name, true, false);
        }
    })
}
