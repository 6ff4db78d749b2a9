//! A disk changes a byte by itself, though it was synced long ago: one of a batch, where sometimes
//! the power fails right after that, so that a start is the first to see it; or one of the metadata
//! log, which a start refuses, whereupon somebody replaces the disk. One disk at a time, and only
//! while the others have all there is: what a majority has lost nobody can mend.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, seconds};
use crate::cluster::Cluster;
use crate::rot;
use crate::workload::TOPICS;

/// What a checksum does not cover comes first: base offset, length, leader epoch, magic. It is a
/// hundredth of a batch, and a quarter of what is flipped.
const UNCHECKED: u64 = 8 + 4 + 4 + 1;

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = cluster.may_lose_a_disk(rng)?;
    match rng.random_bool(0.2) {
        true => metadata(cluster, rng, id),
        false => batch(cluster, rng, id),
    }
}

fn batch(cluster: &mut Cluster, rng: &mut StdRng, id: i32) -> Option<Struck> {
    let topic = &TOPICS[rng.random_range(0..TOPICS.len())];
    let partition = rng.random_range(0..topic.partitions);
    let mut batches = rot::committed(&cluster.broker(id).machine.disk, topic.name, partition);
    if batches.is_empty() {
        return None;
    }
    let batch = batches.swap_remove(rng.random_range(0..batches.len()));
    let at = match rng.random_range(0..batch.bytes.len() as u64) {
        at if at % 4 == 0 => at / 4 % UNCHECKED,
        at => at,
    };
    let place = format!("{} at {}", batch.path.display(), batch.at + at);
    cluster.flip(id, batch, at)?;
    let then = match rng.random_bool(0.3) {
        true => {
            power_off(cluster, rng, id);
            ", and its power fails"
        }
        false => "",
    };
    Struck::once(format!(
        "the disk of broker {id} changes a byte of {place}{then}"
    ))
}

fn metadata(cluster: &mut Cluster, rng: &mut StdRng, id: i32) -> Option<Struck> {
    power_off(cluster, rng, id);
    // What was not synced is gone already, and with it what might promise more than there is.
    let files = rot::metadata(&cluster.broker(id).machine.disk);
    let Some(file) = files.get(rng.random_range(0..files.len().max(1))) else {
        return Struck::once(format!("broker {id} loses its power"));
    };
    let at = rng.random_range(0..file.limit);
    cluster.rot_metadata(id, &file.path, at)?;
    let path = file.path.display();
    Struck::once(format!(
        "the power of broker {id} fails, and its disk changes byte {at} of {path}"
    ))
}

fn power_off(cluster: &mut Cluster, rng: &mut StdRng, id: i32) {
    let back = cluster.now + seconds(rng, 0.2..4.0);
    cluster.power_off(id);
    cluster.broker(id).restart_at = Some(back);
}
