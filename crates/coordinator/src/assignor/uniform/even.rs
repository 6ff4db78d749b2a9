//! Members that all subscribe alike: each gets the same number, some one more.

use super::racks::Racks;
use super::{NOBODY, Topic, collect, keep, tables};
use crate::assignor::{Describe, MemberSpec, Partitions};

pub(super) fn assign(members: &[MemberSpec<'_>], topics: &dyn Describe) -> Vec<Partitions> {
    let mut tables = tables(members[0].topics.iter().copied(), topics);
    let mut sizes = keep(members, &mut tables);
    let quotas = quotas(&sizes, tables.iter().map(|table| table.owners.len()).sum());
    let racks = Racks::new(members, topics);
    release(members, &mut tables, &mut sizes, &quotas, &racks);

    let mut room: Vec<usize> = quotas
        .iter()
        .zip(&sizes)
        .map(|(quota, size)| quota - size)
        .collect();
    if racks.count() > 0 {
        hand_out_near(&mut tables, &mut room, &racks);
    }
    hand_out(&mut tables, &room);
    collect(members.len(), &tables)
}

/// How many each member may have. Who owns more than the least keeps one more, as far as there are
/// such places; what is left of them goes to the last members, as Kafka does.
fn quotas(sizes: &[usize], partitions: usize) -> Vec<usize> {
    let least = partitions / sizes.len();
    let mut extra = partitions % sizes.len();
    let mut quotas = vec![least; sizes.len()];
    for (quota, size) in quotas.iter_mut().zip(sizes) {
        if extra > 0 && *size > least {
            *quota += 1;
            extra -= 1;
        }
    }
    for quota in quotas.iter_mut().rev() {
        if extra > 0 && *quota == least {
            *quota += 1;
            extra -= 1;
        }
    }
    quotas
}

/// Takes from members what is beyond their quota: first what lies far from them, then from the end.
fn release(
    members: &[MemberSpec<'_>],
    tables: &mut [Topic],
    sizes: &mut [usize],
    quotas: &[usize],
    racks: &Racks<'_>,
) {
    for (index, member) in members.iter().enumerate() {
        if sizes[index] <= quotas[index] {
            continue;
        }
        let passes = if racks.of(index).is_some() {
            0..2
        } else {
            1..2
        };
        for pass in passes {
            let mut owned = member.owned.iter().collect::<Vec<_>>().into_iter().rev();
            while sizes[index] > quotas[index] {
                let Some((topic, partition)) = owned.next() else {
                    break;
                };
                let Ok(place) = tables.binary_search_by_key(&topic, |table| table.id) else {
                    continue;
                };
                let partition = partition as usize;
                if tables[place].owners.get(partition) != Some(&(index as u32)) {
                    continue;
                }
                if pass == 0 && racks.is_near(index, topic, partition) {
                    continue;
                }
                tables[place].owners[partition] = NOBODY;
                sizes[index] -= 1;
            }
        }
    }
}

/// Gives what nobody owns to members on a rack of its replicas, of several racks to the one with
/// the most room.
fn hand_out_near(tables: &mut [Topic], room: &mut [usize], racks: &Racks<'_>) {
    let mut room_of_rack = vec![0; racks.count()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); racks.count()];
    for member in (0..room.len()).rev() {
        if let Some(rack) = racks.of(member)
            && room[member] > 0
        {
            room_of_rack[rack] += room[member];
            waiting[rack].push(member);
        }
    }
    for table in tables {
        for partition in 0..table.owners.len() {
            if table.owners[partition] != NOBODY {
                continue;
            }
            let near = racks.near(table.id, partition);
            let best = near
                .into_iter()
                .filter(|rack| room_of_rack[*rack] > 0)
                .max_by_key(|rack| (room_of_rack[*rack], usize::MAX - rack));
            let Some(rack) = best else {
                continue;
            };
            let member = *waiting[rack].last().expect("a rack with room has members");
            table.owners[partition] = member as u32;
            room_of_rack[rack] -= 1;
            room[member] -= 1;
            if room[member] == 0 {
                waiting[rack].pop();
            }
        }
    }
}

/// Gives what nobody owns to whoever has room, in order, neighbours to one member.
fn hand_out(tables: &mut [Topic], room: &[usize]) {
    let mut takers = room
        .iter()
        .enumerate()
        .flat_map(|(member, room)| std::iter::repeat_n(member as u32, *room));
    for table in tables {
        for owner in table.owners.iter_mut().filter(|owner| **owner == NOBODY) {
            *owner = takers.next().expect("quotas add up to the partitions");
        }
    }
}
