//! What `tests/run sim` runs, reported as libtest does, since scripts read it.
#![allow(clippy::print_stdout, reason = "this is the report")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::speed::Speed;
use crate::{child, planted, seal, soak};

type Case = (&'static str, fn() -> Result<String, String>);

const CASES: &[Case] = &[
    ("the_seal_holds", the_seal_holds),
    ("one_seed_gives_one_run", one_seed_gives_one_run),
    ("controller_hears_nobody", controller_hears_nobody),
    ("disk_is_slow", disk_is_slow),
    ("regressions", regressions),
    ("fixed_seeds", fixed_seeds),
    ("fresh_seeds", fresh_seeds),
    ("planted_bugs", planted_bugs),
];

/// Seeds that found a bug in Millrace, and what it was.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        6,
        "a node whose quorum had stopped asked for the controller without ever waiting",
    ),
    (
        8,
        "a wall clock that was set back stopped the assignments of groups",
    ),
    (
        27,
        "a member of a group believed a leader that was cut off that its offset is out of range",
    ),
    (68, OUT_OF_ORDER),
    (74, OUT_OF_ORDER),
    (88, OUT_OF_ORDER),
    (
        96,
        "a broker that started from a snapshot had forgotten all but the newest of a producer's batches",
    ),
    (1004, TWICE),
    (1014, TWICE),
    (
        500_644,
        "a log that could not be made for one I/O error stayed away, though its disk was used on",
    ),
    (
        1_000_289,
        "without acknowledgements a producer went on to who had led, which closed its connections",
    ),
    (
        3_000_249,
        "a wall clock that was set back stopped the scrub for as long as the difference",
    ),
    (
        5_001_459,
        "a coordinator that heard of the controller again, and not yet of its successor, answered",
    ),
    (7_000_100, "a consumer was given a batch that had rotted"),
];
const OUT_OF_ORDER: &str =
    "a batch that was sent again to a broker that had come back was an error";
const TWICE: &str = "batches in flight behind one that was given up were written twice";

/// Planted bugs that every run of the tests looks for; `--planted` looks for all.
const PLANTED: &[&str] = &[
    "AckBeforeSync",
    "NamesNotSynced",
    "AckFromMemory",
    "NoSequenceCheck",
];
/// Within so many seeds.
const PLANTED_SEEDS: u64 = 10;

/// Seeds that every run of the tests has; planted bugs are looked for among them.
const FIXED: std::ops::RangeInclusive<u64> = 1..=20;
/// Whether this is what `tests/run sim` builds. Other builds are not optimized, and only show that a
/// seed gives the same run twice, and one case.
pub const OPTIMIZED: bool = cfg!(feature = "planted");
/// Seeds of which the controller hears nobody: each has it at another moment of its heartbeats.
const DEAF: std::ops::RangeInclusive<u64> = 1..=if OPTIMIZED { 8 } else { 2 };
/// Seeds of which a disk is slow, one of each broker.
const SLOW: std::ops::RangeInclusive<u64> = 1..=if OPTIMIZED { 3 } else { 1 };
/// How many seeds that no run before had.
const FRESH: u64 = 5;

/// Runs the cases whose names contain `filter`.
pub fn run(filter: Option<&str>) -> ExitCode {
    let cases = if OPTIMIZED { CASES } else { &CASES[..3] };
    let wanted = cases
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
    let figures = |run: child::Outcome| run.report.lines().next().unwrap_or("").to_owned();
    let [first, again, other] = runs.map(figures);
    if first != again {
        return Err(format!("one seed, two runs:\n{first}\n{again}"));
    }
    if first == other {
        return Err(format!("two seeds, one run:\n{first}"));
    }
    Ok(first)
}

/// A controller that is heard and hears nobody is done without, in the time that a failover takes.
fn controller_hears_nobody() -> Result<String, String> {
    for seed in DEAF {
        let run = child::run(seed, &["--deaf-controller"]);
        if !run.sound {
            return Err(run.report);
        }
    }
    Ok(format!("{} seeds", DEAF.count()))
}

/// Nobody waits for a disk that is slow, as long as the others are enough.
fn disk_is_slow() -> Result<String, String> {
    for seed in SLOW {
        let run = child::run(seed, &["--slow-disk"]);
        if !run.sound {
            return Err(run.report);
        }
    }
    Ok(format!("{} seeds", SLOW.count()))
}

/// What was mended stays mended.
fn regressions() -> Result<String, String> {
    sound(REGRESSIONS.iter().map(|(seed, _)| *seed)).map_err(|why| {
        let told = REGRESSIONS
            .iter()
            .map(|(seed, what)| format!("{seed}: {what}"));
        let told: Vec<String> = told.collect();
        format!("{why}\nwhat they had found:\n{}", told.join("\n"))
    })
}

/// Seeds that are the same every time.
fn fixed_seeds() -> Result<String, String> {
    sound(FIXED)
}

/// Planted bugs are found by the seeds that are sound without them.
fn planted_bugs() -> Result<String, String> {
    for name in PLANTED {
        let found = planted::look_for(name, PLANTED_SEEDS);
        if found.how.is_none() {
            return Err(format!("{name} was not found in {PLANTED_SEEDS} seeds"));
        }
    }
    Ok(format!("{} of them found", PLANTED.len()))
}

/// Seeds that no run before had.
fn fresh_seeds() -> Result<String, String> {
    let first = soak::fresh_seed();
    sound(first..=first + FRESH - 1)
}

fn sound(seeds: impl Iterator<Item = u64>) -> Result<String, String> {
    let seeds: Vec<u64> = seeds.collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let outcomes = std::sync::Mutex::new(Vec::new());
    let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) =
                    seeds.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let outcome = child::run(*seed, &[]);
                    outcomes.lock().expect("no worker panics").push(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_default();
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| !outcome.sound)
        .map(|outcome| outcome.report.as_str())
        .collect();
    match failed.is_empty() {
        true => {
            let speeds = outcomes.iter().filter_map(|outcome| outcome.speed);
            let speed = speeds.fold(Speed::default(), Speed::plus);
            Ok(format!("{} seeds from {}; {speed}", seeds.len(), seeds[0]))
        }
        false => Err(failed.join("\n")),
    }
}
