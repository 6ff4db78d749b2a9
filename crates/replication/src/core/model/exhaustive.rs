//! Every run of a few steps from a cluster at work, with every choice there is on the way: who
//! crashes and what its disk keeps, which message arrives, twice or never, which image a node sees.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use millrace_model::Offset;

use super::chance::{Action, Chance};
use super::setup::Setup;
use super::world::World;

/// One step: what happened, to whom, and what was chosen.
type Step = (Action, usize, Vec<usize>);

/// What was looked at.
#[derive(Debug)]
pub(super) struct Explored {
    /// Different states.
    pub(super) states: usize,
    /// Steps that were tried.
    pub(super) steps: usize,
}

/// Tries everything to this depth.
///
/// # Errors
/// A violation, and the steps that led to it.
pub(super) fn explore(setup: &Setup, depth: usize) -> Result<Explored, String> {
    let begin = World::at_work(setup.clone());
    let mut seen = HashSet::from([begin.fingerprint()]);
    let mut frontier = vec![(begin, Vec::new())];
    let mut steps = 0;
    for level in 1..=depth {
        let mut next = Vec::new();
        for (world, path) in &frontier {
            for (action, id) in everything(setup) {
                for_every_choice(world, action, id, |step, child, outcome| {
                    steps += 1;
                    let mut path: Vec<Step> = path.clone();
                    path.push(step);
                    outcome.map_err(|violation| retrace(setup, &path, &violation))?;
                    if seen.insert(child.fingerprint()) && level < depth {
                        next.push((child, path));
                    }
                    Ok(())
                })?;
            }
        }
        frontier = next;
    }
    let states = seen.len();
    Ok(Explored { states, steps })
}

fn everything(setup: &Setup) -> impl Iterator<Item = (Action, usize)> {
    let nodes = usize::try_from(setup.replicas).expect("a few");
    Action::ALL.into_iter().flat_map(move |action| {
        let nodes = if action.is_of_a_node() { nodes } else { 1 };
        (0..nodes).map(move |id| (action, id))
    })
}

/// Tries an action with one choice after the other, as an odometer counts.
fn for_every_choice(
    world: &World,
    action: Action,
    id: usize,
    mut tried: impl FnMut(Step, World, Result<(), String>) -> Result<(), String>,
) -> Result<(), String> {
    let mut given = Vec::new();
    loop {
        let mut child = world.clone();
        let outcome = act(&mut child, action, id, &given);
        let Chance::Script { asked, .. } = &child.chance else {
            unreachable!("it was given a script");
        };
        let asked = asked.clone();
        given.resize(asked.len(), 0);
        tried((action, id, given.clone()), child, outcome)?;
        while let (Some(last), place) = (given.pop(), given.len()) {
            if last + 1 < asked[place] {
                given.push(last + 1);
                break;
            }
        }
        if given.is_empty() {
            return Ok(());
        }
    }
}

fn act(world: &mut World, action: Action, id: usize, given: &[usize]) -> Result<(), String> {
    world.chance = Chance::Script {
        given: given.to_vec(),
        asked: Vec::new(),
    };
    let acting = AssertUnwindSafe(|| world.act(action, id));
    catch_unwind(acting)
        .unwrap_or_else(|panic| Err(format!("panic: {:?}", panic.downcast_ref::<String>())))
}

/// The same steps once more, this time noting each.
fn retrace(setup: &Setup, path: &[Step], violation: &str) -> String {
    let mut world = World::at_work(setup.clone());
    world.traces = true;
    for (action, id, given) in path {
        let _ended = act(&mut world, *action, *id, given);
    }
    format!("{violation}\n{}", world.trace.join("\n"))
}

impl World {
    /// A cluster at work: everybody follows, and one record is committed everywhere.
    fn at_work(setup: Setup) -> World {
        let mut world = World::new(setup, 0);
        for round in 0..12 {
            if round == 6 {
                world.scripted(Action::Produce, 0, &[]);
            }
            for id in 0..world.nodes.len() {
                world.scripted(Action::RunJob, id, &[]);
                if world.nodes[id].streams.is_empty() {
                    world.scripted(Action::Connect, id, &[]);
                }
                for to in 0..world.nodes.len() {
                    world.scripted(Action::Push, id, &[to]);
                }
                world.scripted(Action::Sync, id, &[]);
            }
            while !world.bag.is_empty() {
                world.scripted(Action::Deliver, 0, &[]);
            }
        }
        assert_eq!(world.committed.len(), 1, "the record is committed");
        let all = world.nodes.iter().all(|node| {
            let core = node.core.as_ref().expect("nobody crashed");
            core.high_watermark() == Offset(1)
        });
        assert!(all, "and everybody knows");
        world
    }

    fn scripted(&mut self, action: Action, id: usize, choices: &[usize]) {
        self.chance = Chance::Script {
            given: choices.to_vec(),
            asked: Vec::new(),
        };
        self.act(action, id).expect("nothing is wrong yet");
    }

    /// Stands for everything that what comes next depends on.
    fn fingerprint(&self) -> u64 {
        let mut bag: Vec<String> = self.bag.iter().map(|way| format!("{way:?}")).collect();
        bag.sort_unstable();
        let state = (&self.images, &self.nodes, &self.committed, bag);
        let counts = (self.next_value, self.next_epoch, self.crashes, self.now);
        let mut hasher = DefaultHasher::new();
        format!("{state:?}{counts:?}").hash(&mut hasher);
        hasher.finish()
    }
}
