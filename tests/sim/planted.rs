//! Planted bugs: that the simulation finds what it is there to find.
//!
//! Each is looked for by the same workload, faults and invariants as everything else, seed after
//! seed from 1 on. Seeds that a sound build does not survive would prove nothing, so the seeds used
//! here are among those that `tests/run sim` runs without a bug.
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::process::ExitCode;

use millrace_model::Planted;

use crate::{child, invariants};

/// Plants the bug of this name on this thread.
///
/// # Errors
/// If there is none, or if it was not compiled in.
pub fn plant(name: &str) -> Result<(), String> {
    let known = Planted::ALL.iter().find(|(_, known, _)| *known == name);
    let Some((bug, ..)) = known else {
        return Err(format!("{name} is no bug that can be planted"));
    };
    #[cfg(feature = "planted")]
    bug.plant();
    match bug.is_here() {
        true => Ok(()),
        false => Err("this build cannot plant bugs: it lacks the feature `planted`".to_owned()),
    }
}

/// What looking for a bug came to.
pub struct Found {
    /// How many seeds were run.
    pub seeds: u64,
    /// The first line of the finding, unless there was none.
    pub how: Option<String>,
}

/// Looks for a bug in the seeds from 1 on.
pub fn look_for(name: &str, most_seeds: u64) -> Found {
    for seed in 1..=most_seeds {
        let outcome = child::run(seed, &["--planted", name]);
        if !outcome.sound {
            let mark = format!("seed {seed} failed: ");
            let line = outcome
                .report
                .lines()
                .find_map(|line| line.strip_prefix(&mark));
            let how = line.unwrap_or("it did not end").to_owned();
            return Found {
                seeds: seed,
                how: Some(how),
            };
        }
    }
    Found {
        seeds: most_seeds,
        how: None,
    }
}

/// Looks for all bugs, or for those whose names contain `filter`, and prints the table.
pub fn run(most_seeds: u64, filter: Option<&str>) -> ExitCode {
    let wanted = Planted::ALL
        .iter()
        .filter(|(_, name, _)| filter.is_none_or(|part| name.contains(part)));
    let mut missed = 0;
    println!("| planted | what it does | seeds until found | by |\n|---|---|---|---|");
    for (_, name, what) in wanted {
        let found = look_for(name, most_seeds);
        let how = found.how.unwrap_or_else(|| {
            missed += 1;
            format!("not found in {most_seeds} seeds")
        });
        println!(
            "| `{name}` |{what} | {} | {} |",
            found.seeds,
            in_short(&how)
        );
    }
    match missed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The invariant that spoke, or the beginning of whatever else was found.
fn in_short(how: &str) -> String {
    let invariants = invariants::all();
    let spoke = invariants.iter().find(|(name, _)| {
        how.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(':'))
    });
    match spoke {
        Some((name, _)) => (*name).to_owned(),
        None => how.chars().take(100).collect(),
    }
}
