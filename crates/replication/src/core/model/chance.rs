//! What may happen, and what decides that: a seed for a walk, or a script for a search of all runs.

/// What decides where there is a choice.
#[derive(Clone, Debug)]
pub(super) enum Chance {
    /// A sequence of random numbers.
    Seed(u64),
    /// These choices, then the first of everything; notes how many there were of each.
    Script {
        given: Vec<usize>,
        asked: Vec<usize>,
    },
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Crash,
    /// Of a disk, or of whoever tells of it.
    Damage,
    Produce,
    Deliver,
    Push,
    Sync,
    RunJob,
    SeeImage,
    Connect,
    Retry,
    PassTime,
    Fence,
    Unfence,
    SetMinIsr,
}

impl Action {
    pub(super) const ALL: [Action; 14] = [
        Action::Crash,
        Action::Damage,
        Action::Produce,
        Action::Deliver,
        Action::Push,
        Action::Sync,
        Action::RunJob,
        Action::SeeImage,
        Action::Connect,
        Action::Retry,
        Action::PassTime,
        Action::Fence,
        Action::Unfence,
        Action::SetMinIsr,
    ];

    /// What a walk does next, apart from crashes and damage.
    pub(super) fn drawn(chance: &mut Chance) -> Action {
        match chance.below(98) {
            0..=9 => Action::Produce,
            10..=33 => Action::Deliver,
            34..=43 => Action::Push,
            44..=53 => Action::Sync,
            54..=63 => Action::RunJob,
            64..=78 => Action::SeeImage,
            79..=86 => Action::Connect,
            87..=89 => Action::Retry,
            90..=92 => Action::PassTime,
            93..=94 => Action::Fence,
            95..=96 => Action::Unfence,
            _ => Action::SetMinIsr,
        }
    }

    /// Whether it happens to one node.
    pub(super) fn is_of_a_node(self) -> bool {
        !matches!(self, Action::Produce | Action::Deliver | Action::SetMinIsr)
    }
}

/// What becomes of a message.
pub(super) enum Fate {
    Arrives,
    ArrivesAndStays,
    Lost,
}

impl Chance {
    pub(super) fn of(seed: u64) -> Chance {
        Chance::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5151)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        let random = match self {
            Chance::Seed(random) => random,
            Chance::Script { given, asked } => {
                asked.push(bound);
                return given.get(asked.len() - 1).copied().unwrap_or(0);
            }
        };
        *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub(super) fn fate(&mut self) -> Fate {
        let scripted = matches!(self, Chance::Script { .. });
        match self.below(if scripted { 3 } else { 20 }) {
            0 if !scripted => Fate::Lost,
            0 => Fate::Arrives,
            1 => Fate::ArrivesAndStays,
            2 if scripted => Fate::Lost,
            2..=3 => Fate::ArrivesAndStays,
            _ => Fate::Arrives,
        }
    }
}
