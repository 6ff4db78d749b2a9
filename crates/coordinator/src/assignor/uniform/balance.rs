//! Members that subscribe differently: even out topic by topic.
//!
//! What nobody owns goes to the least loaded subscriber, scarce topics first. Then partitions move
//! from the most to the least loaded subscriber of a topic while that helps, topic after topic,
//! until a whole round moves nothing. Rounds are bounded as in Kafka: each comes closer, and the
//! last steps are not worth an endless search.

use std::collections::{BTreeMap, BTreeSet};

use millrace_model::TopicId;

use super::racks::Racks;
use super::{NOBODY, Topic, collect, keep, tables};
use crate::assignor::{Describe, MemberSpec, Partitions, subscribe_alike};

/// Rounds over all topics, as in Kafka's `UniformHeterogeneousAssignmentBuilder`.
const MAX_ROUNDS: usize = 16;

/// Equally loaded members that are looked at for one on a near rack.
const MAX_LOOKED_AT: usize = 64;

pub(super) fn assign(members: &[MemberSpec<'_>], topics: &dyn Describe) -> Vec<Partitions> {
    let ids: BTreeSet<TopicId> = classes(members)
        .iter()
        .flat_map(|class| members[class[0]].topics.iter().copied())
        .collect();
    let mut tables = tables(ids, topics);
    let sizes = keep(members, &mut tables);
    let mut balance = Balance::new(members, topics, sizes, &tables);
    let order = balance.scarce_first(&tables);
    for place in &order {
        balance.hand_out(*place, &mut tables[*place]);
    }
    for _ in 0..MAX_ROUNDS {
        let mut moved = 0;
        for place in &order {
            moved += balance.even_out(members, *place, &mut tables[*place]);
        }
        if moved == 0 {
            break;
        }
    }
    collect(members.len(), &tables)
}

/// Members that share a subscription, by their index.
fn classes(members: &[MemberSpec<'_>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|index| {
        (
            members[*index].topics.as_ptr(),
            members[*index].topics.len(),
        )
    });
    order
        .chunk_by(|one, other| subscribe_alike(&members[*one], &members[*other]))
        .map(<[usize]>::to_vec)
        .collect()
}

struct Balance<'a> {
    loads: Vec<usize>,
    class_of: Vec<usize>,
    /// The members of each class by load.
    by_load: Vec<BTreeSet<(usize, u32)>>,
    /// The classes that subscribe to each topic, by the topic's place.
    subscribers: Vec<Vec<usize>>,
    racks: Racks<'a>,
}

impl<'a> Balance<'a> {
    fn new(
        members: &[MemberSpec<'a>],
        topics: &'a dyn Describe,
        loads: Vec<usize>,
        tables: &[Topic],
    ) -> Balance<'a> {
        let classes = classes(members);
        let mut class_of = vec![0; members.len()];
        let mut by_load = Vec::with_capacity(classes.len());
        let mut subscribers = vec![Vec::new(); tables.len()];
        for (class, of_class) in classes.iter().enumerate() {
            let mut set = BTreeSet::new();
            for member in of_class {
                class_of[*member] = class;
                set.insert((loads[*member], *member as u32));
            }
            by_load.push(set);
            for topic in members[of_class[0]].topics {
                if let Ok(place) = tables.binary_search_by_key(topic, |table| table.id) {
                    subscribers[place].push(class);
                }
            }
        }
        Balance {
            loads,
            class_of,
            by_load,
            subscribers,
            racks: Racks::new(members, topics),
        }
    }

    /// Places of the topics: most partitions for each subscriber first, then fewest subscribers.
    fn scarce_first(&self, tables: &[Topic]) -> Vec<usize> {
        let mut order: Vec<(usize, u64, u64)> = (0..tables.len())
            .map(|place| {
                let subscribers: usize = self.subscribers[place]
                    .iter()
                    .map(|class| self.by_load[*class].len())
                    .sum();
                (place, tables[place].owners.len() as u64, subscribers as u64)
            })
            .collect();
        order.sort_by(|(one, partitions, subscribers), (other, others, theirs)| {
            (others * subscribers)
                .cmp(&(partitions * theirs))
                .then(subscribers.cmp(theirs))
                .then(one.cmp(other))
        });
        order.into_iter().map(|(place, _, _)| place).collect()
    }

    /// The least loaded subscriber of a topic.
    fn least(&self, place: usize) -> (usize, u32) {
        self.subscribers[place]
            .iter()
            .filter_map(|class| self.by_load[*class].first())
            .min()
            .copied()
            .expect("a topic is here because somebody subscribes to it")
    }

    /// The least loaded subscriber, of equals one near the partition.
    fn taker(&self, place: usize, topic: TopicId, partition: usize) -> u32 {
        let (load, least) = self.least(place);
        if self.racks.count() == 0 {
            return least;
        }
        let near = self.racks.near(topic, partition);
        if near.is_empty() {
            return least;
        }
        self.subscribers[place]
            .iter()
            .flat_map(|class| self.by_load[*class].range((load, 0)..(load + 1, 0)))
            .take(MAX_LOOKED_AT)
            .map(|(_, member)| *member)
            .find(|member| {
                self.racks
                    .of(*member as usize)
                    .is_some_and(|rack| near.contains(&rack))
            })
            .unwrap_or(least)
    }

    fn set_load(&mut self, member: u32, load: usize) {
        let index = member as usize;
        let set = &mut self.by_load[self.class_of[index]];
        set.remove(&(self.loads[index], member));
        set.insert((load, member));
        self.loads[index] = load;
    }

    /// Gives what nobody owns to the least loaded.
    fn hand_out(&mut self, place: usize, table: &mut Topic) {
        for partition in 0..table.owners.len() {
            if table.owners[partition] == NOBODY {
                let taker = self.taker(place, table.id, partition);
                table.owners[partition] = taker;
                self.set_load(taker, self.loads[taker as usize] + 1);
            }
        }
    }

    /// Moves partitions of one topic while its most loaded owner has at least two more than its
    /// least loaded subscriber; tells how many.
    fn even_out(&mut self, members: &[MemberSpec<'_>], place: usize, table: &mut Topic) -> usize {
        // What an owner got a moment ago stands last and goes first: taking it back moves nothing.
        let mut of_owner: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for new in [false, true] {
            for (partition, owner) in table.owners.iter().enumerate() {
                let old = &members[*owner as usize].owned;
                if old.contains(table.id, partition as i32) != new {
                    of_owner.entry(*owner).or_default().push(partition);
                }
            }
        }
        let mut owners: BTreeSet<(usize, u32)> = of_owner
            .keys()
            .map(|owner| (self.loads[*owner as usize], *owner))
            .collect();
        let mut moved = 0;
        while let Some((most, giver)) = owners.last().copied() {
            let (least, taker) = self.least(place);
            if most <= least + 1 {
                break;
            }
            let owned = of_owner.get_mut(&giver).expect("an owner owns something");
            let partition = owned.pop().expect("an owner owns something");
            table.owners[partition] = taker;
            owners.remove(&(most, giver));
            if !owned.is_empty() {
                owners.insert((most - 1, giver));
            }
            owners.remove(&(least, taker));
            owners.insert((least + 1, taker));
            of_owner.entry(taker).or_default().push(partition);
            self.set_load(giver, most - 1);
            self.set_load(taker, least + 1);
            moved += 1;
        }
        moved
    }
}
