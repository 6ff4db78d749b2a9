//! What the command line of the simulation says.

use std::time::Duration;

use crate::run::Alone;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The cases that `tests/run sim` runs, of which the names contain this.
    Cases(Option<String>),
    /// One seed, in this process.
    Seed(u64),
    /// Fresh seeds for so long.
    Soak {
        /// How long.
        limit: Duration,
        /// The first seed; by the clock if there is none.
        first: Option<u64>,
        /// How many at once.
        jobs: usize,
    },
    /// Every planted bug, each with seeds from 1 on until it is found.
    Planted {
        /// The most seeds for each.
        seeds: u64,
        /// Only bugs whose name contains this.
        filter: Option<String>,
    },
}

/// The whole command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is to be done.
    pub task: Task,
    /// Every event goes to standard error as it happens.
    pub aloud: bool,
    /// The planted bug that a run of one seed has.
    pub planted: Option<String>,
    /// Faults from this number on are left out.
    pub most_faults: Option<usize>,
    /// The only fault.
    pub alone: Option<Alone>,
}

/// What it may say.
pub const USAGE: &str = "\
sim [NAME]                      the cases of which the names contain NAME
sim --seed N [--aloud]          one seed; --faults K leaves out all faults after the first K,
                                --deaf-controller all but that the controller hears nobody,
                                --slow-disk all but that a disk is slow
sim --soak MINUTES [--from N] [--jobs N]
sim --planted [NAME] [--seeds N] all planted bugs, or one; with --seed N: that seed with that bug";

impl Options {
    /// Reads the arguments; those of libtest that scripts pass are taken and ignored.
    ///
    /// # Errors
    /// A sentence about what cannot be understood.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut words = arguments.peekable();
        let (mut seed, mut soak, mut from, mut jobs) = (None, None, None, 1);
        let (mut planted, mut seeds, mut filter) = (None, 120, None);
        let (mut aloud, mut most_faults, mut alone) = (false, None, None);
        while let Some(word) = words.next() {
            let mut number = |what: &str| -> Result<u64, String> {
                let value = words.next().and_then(|word| word.parse().ok());
                value.ok_or_else(|| format!("{what} wants a number\n{USAGE}"))
            };
            match word.as_str() {
                "--seed" => seed = Some(number("--seed")?),
                "--soak" => soak = Some(Duration::from_secs(60 * number("--soak")?)),
                "--from" => from = Some(number("--from")?),
                "--jobs" => jobs = usize::try_from(number("--jobs")?).unwrap_or(1).max(1),
                "--seeds" => seeds = number("--seeds")?,
                "--faults" => most_faults = usize::try_from(number("--faults")?).ok(),
                "--test-threads" => _ = number("--test-threads")?,
                "--aloud" => aloud = true,
                "--deaf-controller" => alone = Some(Alone::DeafController),
                "--slow-disk" => alone = Some(Alone::SlowDisk),
                "--planted" => {
                    let name = words.next_if(|word| !word.starts_with('-'));
                    planted = Some(name.unwrap_or_default());
                }
                other if other.starts_with('-') => {
                    return Err(format!("{other} is not known\n{USAGE}"));
                }
                name => filter = Some(name.to_owned()),
            }
        }
        let task = match (seed, soak, &planted) {
            (Some(seed), _, _) => Task::Seed(seed),
            (None, Some(limit), _) => Task::Soak {
                limit,
                first: from,
                jobs,
            },
            (None, None, Some(name)) => Task::Planted {
                seeds,
                filter: Some(name.clone()).filter(|name| !name.is_empty()),
            },
            (None, None, None) => Task::Cases(filter),
        };
        Ok(Options {
            task,
            aloud,
            planted,
            most_faults,
            alone,
        })
    }
}
