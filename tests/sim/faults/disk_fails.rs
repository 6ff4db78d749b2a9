//! Some operations of a broker's disk fail with an I/O error; somebody replaces it if the broker
//! does not come back with it.

use millrace_host::disk::sim::{Fault, Operation};
use rand::Rng;
use rand::rngs::StdRng;

use super::Struck;
use crate::cluster::Cluster;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    // What fails may be lost with the disk, so this is bounded as a wiped disk is.
    let id = cluster.may_lose_a_disk(rng)?;
    let operations = [Operation::Read, Operation::Write, Operation::Sync];
    let operation = operations[rng.random_range(0..operations.len())];
    let places = ["exact", "kept", "metadata", "checkpoint", ""];
    let place = places[rng.random_range(0..places.len())];
    let fault = Fault {
        after: rng.random_range(0..30),
        times: rng.random_range(1..4),
        ..Fault::broken(operation, place)
    };
    cluster.broker(id).machine.disk.inject(fault);
    cluster.damaged(id);
    Struck::once(format!(
        "the disk of broker {id} fails at {operation:?} of {place:?}"
    ))
}
