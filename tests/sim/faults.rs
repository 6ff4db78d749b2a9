//! What goes wrong, and when: every run draws which kinds of faults it has, how often they come
//! and how long they last. One file a kind.

mod bits_flip;
mod clock_wrong;
mod connections_reset;
mod crash_in_write;
mod disk_fails;
mod disk_full;
mod disk_slow;
mod disk_wiped;
mod everybody_loses_power;
mod killed;
mod link_bad;
mod link_cut;
mod partitioned;
mod paused;
mod power_lost;
mod terminated;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cluster::Cluster;
use crate::trace::event;

/// Undoes a fault.
pub type Heal = Box<dyn FnOnce(&mut Cluster)>;

/// A fault that has struck: what it is, and how it ends.
pub struct Struck {
    /// For the trace.
    pub what: String,
    /// How long it lasts; of what mends itself, how long until the next of its kind.
    pub lasts: Duration,
    /// What ends it.
    pub heal: Heal,
}

impl Struck {
    fn new(
        what: String,
        lasts: Duration,
        heal: impl FnOnce(&mut Cluster) + 'static,
    ) -> Option<Struck> {
        let heal = Box::new(heal);
        Some(Struck { what, lasts, heal })
    }

    fn once(what: String) -> Option<Struck> {
        Struck::new(what, Duration::ZERO, |_| {})
    }
}

/// A kind of fault. It strikes, or finds that it cannot at the moment.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// How often it is drawn, against the others.
    weight: u32,
    /// Whether it may take a disk with all that is on it.
    loses_disks: bool,
    strike: fn(&mut Cluster, &mut StdRng) -> Option<Struck>,
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "killed",
        weight: 6,
        loses_disks: false,
        strike: killed::strike,
    },
    Kind {
        name: "power lost",
        weight: 8,
        loses_disks: false,
        strike: power_lost::strike,
    },
    Kind {
        name: "crash in a write",
        weight: 6,
        loses_disks: false,
        strike: crash_in_write::strike,
    },
    Kind {
        name: "everybody loses power",
        weight: 1,
        loses_disks: false,
        strike: everybody_loses_power::strike,
    },
    Kind {
        name: "terminated",
        weight: 4,
        loses_disks: false,
        strike: terminated::strike,
    },
    Kind {
        name: "paused",
        weight: 5,
        loses_disks: false,
        strike: paused::strike,
    },
    Kind {
        name: "link cut",
        weight: 6,
        loses_disks: false,
        strike: link_cut::strike,
    },
    Kind {
        name: "partitioned",
        weight: 4,
        loses_disks: false,
        strike: partitioned::strike,
    },
    Kind {
        name: "link bad",
        weight: 5,
        loses_disks: false,
        strike: link_bad::strike,
    },
    Kind {
        name: "connections reset",
        weight: 4,
        loses_disks: false,
        strike: connections_reset::strike,
    },
    Kind {
        name: "disk slow",
        weight: 4,
        loses_disks: false,
        strike: disk_slow::strike,
    },
    Kind {
        name: "disk full",
        weight: 2,
        loses_disks: false,
        strike: disk_full::strike,
    },
    Kind {
        name: "disk fails",
        weight: 2,
        loses_disks: true,
        strike: disk_fails::strike,
    },
    Kind {
        name: "disk wiped",
        weight: 2,
        loses_disks: true,
        strike: disk_wiped::strike,
    },
    Kind {
        name: "clock wrong",
        weight: 2,
        loses_disks: false,
        strike: clock_wrong::strike,
    },
];

/// Draws faults and ends them.
pub struct Weather {
    rng: StdRng,
    /// The kinds of this run, by place, with their weights.
    kinds: Vec<(usize, u32)>,
    next: Duration,
    pause: std::ops::Range<u64>,
    active: Vec<(Duration, Heal)>,
    /// Bits that flip, in runs that have that, and when the next one does.
    flips: Option<(StdRng, Duration)>,
    struck: usize,
    most: usize,
}

/// Kinds that one run has: few together find more than all at once.
const KINDS_OF_A_RUN: std::ops::Range<usize> = 1..6;
/// Bits flip in two seeds of this many, beside what they have anyway, and are drawn apart from it:
/// so all other seeds do what they did before there was that.
const FLIPS_IN: u64 = 7;
/// Between two flips, in milliseconds.
const FLIP_PAUSE: std::ops::Range<u64> = 500..3000;
/// Faults at one time.
const MOST_ACTIVE: usize = 4;

impl Weather {
    /// The weather of a seed, with no more than `most` faults.
    pub fn new(seed: u64, most: usize) -> Weather {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x77ea_7e12);
        let mut places: Vec<usize> = (0..KINDS.len()).collect();
        let count = rng.random_range(KINDS_OF_A_RUN);
        let mut kinds = Vec::new();
        for _ in 0..count {
            let place = places.swap_remove(rng.random_range(0..places.len()));
            kinds.push((place, KINDS[place].weight));
        }
        kinds.sort_unstable();
        let slowest = rng.random_range(800..5000);
        let names: Vec<&str> = kinds.iter().map(|(place, _)| KINDS[*place].name).collect();
        event!("faults of this run: {}", names.join(", "));
        Weather {
            rng,
            kinds,
            next: Duration::ZERO,
            pause: 200..slowest,
            active: Vec::new(),
            flips: bits_flip(seed).then(|| {
                let rng = StdRng::seed_from_u64(seed ^ 0xb175_f11b);
                (rng, Duration::ZERO)
            }),
            struck: 0,
            most,
        }
    }

    /// Whether a disk may be lost with all it has.
    pub fn loses_disks(&self) -> bool {
        let mut kinds = self.kinds.iter().map(|(place, _)| &KINDS[*place]);
        kinds.any(|kind| kind.loses_disks) || self.flips.is_some()
    }

    /// Faults that have struck so far.
    pub fn struck(&self) -> usize {
        self.struck
    }

    /// Ends what is over, and begins what is due.
    pub fn blow(&mut self, cluster: &mut Cluster) {
        let now = cluster.now;
        while let Some(place) = self.active.iter().position(|(end, _)| *end <= now) {
            (self.active.remove(place).1)(cluster);
        }
        self.flip(cluster);
        if now < self.next || self.active.len() >= MOST_ACTIVE || self.struck >= self.most {
            return;
        }
        self.next = now + Duration::from_millis(self.rng.random_range(self.pause.clone()));
        let total: u32 = self.kinds.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.random_range(0..total);
        let place = self.kinds.iter().find(|(_, weight)| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        let kind = &KINDS[place.expect("the draw is below the sum").0];
        if let Some(struck) = (kind.strike)(cluster, &mut self.rng) {
            event!("fault {}: {}", self.struck, struck.what);
            self.struck += 1;
            self.active.push((now + struck.lasts, struck.heal));
        }
    }

    /// Flips a bit if one is due.
    fn flip(&mut self, cluster: &mut Cluster) {
        let Some((rng, next)) = self.flips.as_mut() else {
            return;
        };
        if cluster.now < *next || self.struck >= self.most {
            return;
        }
        *next = cluster.now + Duration::from_millis(rng.random_range(FLIP_PAUSE));
        if let Some(struck) = bits_flip::strike(cluster, rng) {
            event!("fault {}: {}", self.struck, struck.what);
            self.struck += 1;
        }
    }

    /// Ends everything: what is broken is mended, what is down comes up.
    pub fn clear(&mut self, cluster: &mut Cluster) {
        event!("the faults end");
        for (_, heal) in self.active.drain(..) {
            heal(cluster);
        }
        cluster.mend();
    }
}

/// Whether disks change what they hold in the run of this seed.
pub fn bits_flip(seed: u64) -> bool {
    matches!(seed % FLIPS_IN, 0 | 2)
}

/// Seconds and fractions of them.
fn seconds(rng: &mut StdRng, range: std::ops::Range<f64>) -> Duration {
    Duration::from_millis((rng.random_range(range) * 1000.0) as u64)
}

/// A broker that runs and is not stopped.
fn running(cluster: &Cluster, rng: &mut StdRng) -> Option<i32> {
    let up: Vec<i32> = cluster
        .brokers
        .iter()
        .filter(|broker| broker.is_up() && !broker.machine.paused)
        .map(|broker| broker.id)
        .collect();
    (!up.is_empty()).then(|| up[rng.random_range(0..up.len())])
}

/// Two different machines by name, at least one of them a broker's.
fn two_machines(cluster: &Cluster, rng: &mut StdRng) -> (String, String) {
    let names: Vec<&str> = cluster.names();
    let one = rng.random_range(0..cluster.brokers.len());
    let other = (one + rng.random_range(1..names.len())) % names.len();
    match rng.random_bool(0.5) {
        true => (names[one].to_owned(), names[other].to_owned()),
        false => (names[other].to_owned(), names[one].to_owned()),
    }
}
