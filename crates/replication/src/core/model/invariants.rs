//! What must hold after every step.

use millrace_model::{BrokerId, LeaderEpoch};

use super::disk::Entry;
use super::world::World;
use crate::core::State;

/// A batch that some leader counted as committed, and the earliest leadership that did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    entry: Entry,
    by: LeaderEpoch,
}

pub(super) fn check(world: &mut World) -> Result<(), String> {
    one_leader_an_epoch(world)?;
    note_commits(world)?;
    committed_is_for_ever(world)?;
    isr_is_honest(world)?;
    logs_agree(world)
}

/// In one epoch one node leads, by every version of the metadata and by what nodes think.
fn one_leader_an_epoch(world: &World) -> Result<(), String> {
    if let [.., before, now] = world.images.as_slice()
        && (now.epoch < before.epoch || now.epoch == before.epoch && now.leader != before.leader)
    {
        return Err(format!(
            "the leader of epoch {} was {:?}, and is {:?} in epoch {}",
            before.epoch, before.leader, now.leader, now.epoch
        ));
    }
    let leading = |id: usize| match &world.nodes[id].core.as_ref()?.state {
        State::Leader(leader) => Some(leader.epoch),
        _ => None,
    };
    for id in 0..world.nodes.len() {
        let other = (0..id).find(|other| leading(id).is_some() && leading(*other) == leading(id));
        if let (Some(other), Some(epoch)) = (other, leading(id)) {
            return Err(format!("nodes {other} and {id} both lead epoch {epoch}"));
        }
    }
    Ok(())
}

/// Acks are honest: what passes below `HW` is durable on every member of the maximal ISR.
fn note_commits(world: &mut World) -> Result<(), String> {
    for id in 0..world.nodes.len() {
        let node = &world.nodes[id];
        let Some(core) = &node.core else { continue };
        let State::Leader(leader) = &core.state else {
            continue;
        };
        let hw = core.high_watermark().0 as usize;
        let entries = node.disk.entries[..hw].to_vec();
        let before = node.committed_in.filter(|c| c.0 == leader.epoch);
        let before = before.map_or(0, |c| c.1);
        if hw < before {
            return Err(format!(
                "the high watermark of node {id} in epoch {} went from {before} back to {hw}",
                leader.epoch
            ));
        }
        let fresh = hw > before;
        if fresh && hw > node.taken_over_with {
            for member in leader.maximal_isr().chain([BrokerId(id as i32)]) {
                let known = leader
                    .follower(member)
                    .and_then(|follower| follower.broker_epoch);
                let disk = &world.nodes[member.0 as usize].disk;
                if known.is_some_and(|known| known != world.nodes[member.0 as usize].epoch) {
                    // Its disk may have been wiped since it acknowledged; the image will tell.
                    continue;
                }
                if disk.durable < hw || disk.entries[..hw] != entries[..] {
                    return Err(format!(
                        "node {id} counts {hw} as committed in epoch {}, {member} lacks it",
                        leader.epoch
                    ));
                }
            }
        }
        let epoch = leader.epoch;
        world.nodes[id].committed_in = Some((epoch, hw));
        for (offset, entry) in entries.into_iter().enumerate() {
            match world.committed.get_mut(offset) {
                None => world.committed.push(Committed { entry, by: epoch }),
                Some(known) if known.entry != entry => {
                    return Err(format!(
                        "offset {offset} was committed as {:?}, and as {entry:?} by node {id}",
                        known.entry
                    ));
                }
                Some(known) => known.by = known.by.min(epoch),
            }
        }
    }
    Ok(())
}

fn committed_is_for_ever(world: &World) -> Result<(), String> {
    for (id, node) in world.nodes.iter().enumerate() {
        let Some(core) = &node.core else { continue };
        let State::Leader(leader) = &core.state else {
            continue;
        };
        for (offset, committed) in world.committed.iter().enumerate() {
            let there = node.disk.entries.get(offset) == Some(&committed.entry);
            if leader.epoch >= committed.by && !there {
                return Err(format!(
                    "node {id} leads epoch {} without offset {offset}, committed in epoch {}",
                    leader.epoch, committed.by
                ));
            }
        }
    }
    Ok(())
}

fn isr_is_honest(world: &World) -> Result<(), String> {
    let image = world.images.last().expect("there is a first image");
    for member in image.isr.iter().chain(&image.elr) {
        let disk = &world.nodes[member.0 as usize].disk;
        for (offset, committed) in world.committed.iter().enumerate() {
            let durable = offset < disk.durable && disk.entries[offset] == committed.entry;
            // What a later leadership committed says nothing of a change that is older.
            if committed.by <= image.epoch && !durable {
                return Err(format!(
                    "{member} is in the ISR or ELR and does not keep offset {offset}"
                ));
            }
        }
    }
    Ok(())
}

fn logs_agree(world: &World) -> Result<(), String> {
    for (a, left) in world.nodes.iter().enumerate() {
        let epochs: Vec<_> = left.disk.entries.iter().map(|entry| entry.epoch).collect();
        if !epochs.is_sorted() {
            return Err(format!("epochs go back in the log of node {a}"));
        }
        for (b, right) in world.nodes.iter().enumerate().skip(a + 1) {
            let pairs = left.disk.entries.iter().zip(&right.disk.entries);
            let shared = pairs.clone().rposition(|(l, r)| l.epoch == r.epoch);
            let agree = |to: usize| pairs.clone().take(to + 1).all(|(l, r)| l == r);
            if shared.is_some_and(|to| !agree(to)) {
                return Err(format!(
                    "the logs of nodes {a} and {b} differ within one epoch"
                ));
            }
        }
    }
    Ok(())
}
