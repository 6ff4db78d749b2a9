//! A broker's machine loses its power: nobody is told, and what was not synced may be lost.

use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let back = cluster.now + seconds(rng, 0.2..6.0);
    cluster.power_off(id);
    cluster.broker(id).restart_at = Some(back);
    Struck::once(format!("broker {id} loses its power"))
}
