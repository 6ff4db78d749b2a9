//! A broker's process is killed (`kill -9`); its kernel closes its connections.

use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let back = cluster.now + seconds(rng, 0.05..5.0);
    let broker = cluster.broker(id);
    broker.kill();
    broker.restart_at = Some(back);
    Struck::once(format!("broker {id} is killed"))
}
