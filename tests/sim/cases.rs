//! What `tests/run sim` runs, reported as libtest does, since scripts read it.
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::child;
use crate::seal;

type Case = (&'static str, fn() -> Result<String, String>);

const CASES: &[Case] = &[
    ("the_seal_holds", the_seal_holds),
    ("one_seed_gives_one_run", one_seed_gives_one_run),
];

/// Runs the cases whose names contain `filter`.
pub fn run(filter: Option<&str>) -> ExitCode {
    let wanted = CASES
        .iter()
        .filter(|(name, _)| filter.is_none_or(|part| name.contains(part)));
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in wanted {
        let began = Instant::now();
        let outcome = case();
        let took = began.elapsed().as_secs_f64();
        match outcome {
            Ok(figures) => {
                passed += 1;
                println!("test {name} ... ok ({took:.1} s) {figures}");
            }
            Err(why) => {
                failed += 1;
                println!("{why}\ntest {name} ... FAILED ({took:.1} s)");
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Chance and time on a sealed thread come from the seed, and elsewhere they do not.
fn the_seal_holds() -> Result<String, String> {
    let sealed = |seed: u64| {
        let probing = std::thread::spawn(move || {
            seal::seal(seed);
            seal::set_now(Duration::from_secs(100));
            seal::probe()
        });
        probing.join().expect("a probe does not panic")
    };
    let open = || std::thread::spawn(seal::probe).join().expect("nor here");
    let begun = seal::BEGIN.as_secs() + 100;
    if sealed(1) != sealed(1) || sealed(1) == sealed(2) || sealed(1).last() != Some(&begun) {
        return Err(format!(
            "sealed threads found {:?}, {:?}",
            sealed(1),
            sealed(2)
        ));
    }
    if open() == open() || open().last() == Some(&begun) {
        return Err(format!("a thread that is not sealed found {:?}", open()));
    }
    Ok(String::new())
}

/// The same seed twice gives the same digest of everything that happened, and another one another.
fn one_seed_gives_one_run() -> Result<String, String> {
    let runs = [1, 1, 2].map(|seed| child::run(seed, &[]));
    if let Some(unsound) = runs.iter().find(|run| !run.sound) {
        return Err(unsound.report.clone());
    }
    let [first, again, other] = runs.map(|run| run.report);
    if first != again {
        return Err(format!("one seed, two runs:\n{first}{again}"));
    }
    if first == other {
        return Err(format!("two seeds, one run:\n{first}"));
    }
    Ok(first.trim().to_owned())
}
