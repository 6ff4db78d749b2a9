//! A broker comes back with an empty disk. Only one at a time, and only while the others have all
//! there is: more than a minority of disks may not be lost.

use rand::rngs::StdRng;

use super::{Struck, seconds};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = cluster.may_lose_a_disk(rng)?;
    let back = cluster.now + seconds(rng, 0.2..4.0);
    cluster.wipe(id);
    cluster.broker(id).restart_at = Some(back);
    Struck::once(format!(
        "the disk of broker {id} is replaced by an empty one"
    ))
}
