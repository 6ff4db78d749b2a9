//! The power of all machines fails at once.

use rand::rngs::StdRng;

use super::{Struck, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    for place in 0..cluster.brokers.len() {
        let id = cluster.brokers[place].id;
        if !cluster.brokers[place].is_up() {
            continue;
        }
        let back = cluster.now + seconds(rng, 0.2..4.0);
        cluster.power_off(id);
        cluster.broker(id).restart_at = Some(back);
    }
    Struck::once("every broker loses its power".to_owned())
}
