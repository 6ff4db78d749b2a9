//! A broker is told to stop (SIGTERM) and started again once it has.

use std::time::Duration;

use rand::rngs::StdRng;

use super::{Struck, running};
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    cluster.broker(id).terminate();
    let what = format!("broker {id} is told to stop");
    Struck::new(what, Duration::from_secs(2), |_| {})
}
