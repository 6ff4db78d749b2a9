//! Minutes of faults drawn by a seed, under load from stock clients; at the end everything is healed,
//! read back and judged. Beside them, coordinators of groups that die all the time.
//!
//! `CHAOS_MINUTES` says how long, `CHAOS_SEED` which faults; the seed is printed. Real processes do
//! not repeat exactly, but the same seed draws the same faults at the same times.

#[path = "chaos/coordinators.rs"]
mod coordinators;
#[path = "chaos/fault.rs"]
mod fault;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fault::{Chance, Fault};
use millrace_testkit::Options;
use millrace_tests::run::TOPIC;
use millrace_tests::{Run, Workload, report};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is '{text}'; it must be a number")))
}

#[test]
fn faults_drawn_by_a_seed() {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970");
    let seed = number("CHAOS_SEED").unwrap_or(now.as_secs());
    let minutes = minutes();
    say(&format!("CHAOS_SEED={seed} CHAOS_MINUTES={minutes}"));
    let mut chance = Chance::of(seed);
    let mut run = Run::start(
        &format!("chaos, seed {seed}"),
        &Options::three().proxied(),
        &Workload::default(),
    );
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let mut faults = 0;
    while Instant::now() < until {
        let fault = Fault::draw(&mut chance, &run.cluster.ids());
        say(&format!("{fault:?}"));
        run.strike_all(|cluster| fault.happen(cluster, &mut chance));
        faults += 1;
        // A cluster that has healed must go on, whatever was done to it.
        run.wait_progress(Duration::from_secs(60));
        run.cluster.wait_in_sync(TOPIC, Duration::from_secs(60));
    }
    report::line(format!("chaos: {faults} faults drawn by seed {seed}"));
    run.finish().expect_sound();
}

/// How long faults go on.
fn minutes() -> u64 {
    number("CHAOS_MINUTES").unwrap_or(1)
}

/// What was drawn stands in the output of a failed test.
#[allow(clippy::print_stderr)]
fn say(what: &str) {
    eprintln!("{what}");
}
