//! A model check of the core: real cores of a few replicas, a small controller with the rules of
//! the metadata, and everything that can go wrong between them, in the order a seed decides.
//! After every step the invariants of the replication design are checked.
//!
//! - `controller`: rules 10 to 13, over one partition;
//! - `disk`: what a node keeps, and what of it is damaged;
//! - `world`: nodes, messages under way, and the steps;
//! - `invariants`: what must hold;
//! - `setup`: what is walked through;
//! - `chance`: what may happen, and what decides that;
//! - `exhaustive`: all runs of a few steps, where the others walk at random.

mod chance;
mod controller;
mod disk;
mod exhaustive;
mod invariants;
mod setup;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::rules::Omit;
use controller::Lapse;
use setup::Setup;
use world::World;

/// Walks until a seed finds a violation; tells which, and the steps that led to it.
fn walk(setup: &Setup, seeds: std::ops::Range<u64>, steps: usize) -> Option<(u64, String)> {
    for seed in seeds {
        let mut world = World::new(setup.clone(), seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..steps {
                world.step()?;
            }
            Ok(())
        }));
        let violation = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(violation)) => violation,
            Err(panic) => format!("panic: {:?}", panic.downcast_ref::<String>()),
        };
        return Some((
            seed,
            format!("{violation}\n{}", retrace(setup, seed, steps)),
        ));
    }
    None
}

/// Walks a seed once more, this time noting every step until it ends.
fn retrace(setup: &Setup, seed: u64, steps: usize) -> String {
    let mut world = World::new(setup.clone(), seed);
    world.traces = true;
    let again = AssertUnwindSafe(|| (0..steps).all(|_| world.step().is_ok()));
    let _ended = catch_unwind(again);
    world.trace.join("\n")
}

fn check_safe(setup: Setup, seeds: u64) {
    if let Some((seed, found)) = walk(&setup, 0..seeds, 400) {
        panic!("seed {seed} of {setup:?}: {found}");
    }
}

fn check_noticed(setup: Setup) {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = walk(&setup, 0..60_000, 300);
    std::panic::set_hook(quiet);
    assert!(
        found.is_some(),
        "leaving this out goes unnoticed: {setup:?}"
    );
}

/// Every run from a cluster at work, to this depth or to that which `MILLRACE_MODEL_DEPTH` names;
/// there must be at least so many different states on the way, or the search goes nowhere.
fn check_all(setup: Setup, depth: usize, least: usize) {
    let asked = std::env::var("MILLRACE_MODEL_DEPTH").map(|asked| asked.parse::<usize>());
    let depth = asked.map_or(depth, |asked| asked.expect("a number").max(depth));
    match exhaustive::explore(&setup, depth) {
        Ok(explored) => assert!(
            explored.states >= least && explored.steps > explored.states,
            "depth {depth} of {setup:?}: only {explored:?}"
        ),
        Err(violation) => panic!("{setup:?}: {violation}"),
    }
}

#[test]
fn every_short_run_of_two_replicas_is_safe() {
    check_all(Setup::new(2, 1), 4, 10_000);
    check_all(Setup::new(2, 2), 4, 10_000);
}

#[test]
fn every_short_run_of_three_replicas_is_safe() {
    check_all(Setup::new(3, 2), 3, 10_000);
}

/// That the search finds what is wrong: none of these rules can be left out for more than these steps.
#[test]
fn a_search_of_all_short_runs_finds_what_is_left_out() {
    let (core, controller) = (|omitted| (Some(omitted), None), |lapse| (None, Some(lapse)));
    for ((omitted, lapse), min_isr, depth) in [
        (core(Omit::LeaderInMinimum), 1, 3),
        (core(Omit::ForgetOnNewIncarnation), 1, 4),
        (core(Omit::WaitForConfirmedRemoval), 1, 4),
        (core(Omit::MinIsrGate), 2, 4),
        (controller(Lapse::SameEpochAfterRestart), 1, 4),
    ] {
        let setup = Setup {
            omitted,
            lapse,
            ..Setup::new(2, min_isr)
        };
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let found = exhaustive::explore(&setup, depth);
        std::panic::set_hook(quiet);
        assert!(found.is_err(), "{setup:?}: {found:?}");
    }
}

#[test]
fn two_replicas_keep_every_invariant() {
    check_safe(Setup::new(2, 1), 1500);
    check_safe(Setup::new(2, 2), 700);
}

#[test]
fn three_replicas_keep_every_invariant() {
    check_safe(Setup::new(3, 1), 700);
    check_safe(Setup::new(3, 2), 1500);
}

#[test]
fn damaged_disks_break_no_invariant() {
    for (replicas, min_isr, seeds) in [(2, 1, 700), (3, 1, 500), (3, 2, 900)] {
        let damages = true;
        check_safe(
            Setup {
                damages,
                ..Setup::new(replicas, min_isr)
            },
            seeds,
        );
    }
}

/// A replica that was damaged and cut its log in a leadership that had heard of it before.
#[test]
fn mending_without_a_new_leadership_is_noticed() {
    check_noticed(Setup {
        omitted: Some(Omit::NewEpochToMend),
        lapse: Some(Lapse::SameEpochAfterDamage),
        damages: true,
        wipes: false,
        ..Setup::new(2, 1)
    });
}

/// A broker epoch that went unnoticed, of a follower whose disk was wiped.
#[test]
fn forgetting_nothing_of_an_older_incarnation_is_noticed() {
    check_noticed(Setup {
        omitted: Some(Omit::ForgetOnNewIncarnation),
        ..Setup::new(2, 1)
    });
}

#[test]
fn leaving_a_step_of_the_core_out_is_noticed() {
    for (omitted, replicas, min_isr) in [
        (Omit::MinIsrGate, 2, 2),
        (Omit::PendingAdditions, 2, 1),
        (Omit::RejectionKeepsPending, 2, 1),
        (Omit::LeaderInMinimum, 2, 1),
        (Omit::DurableOnlyAcks, 2, 1),
        (Omit::FollowerChecksEpoch, 3, 1),
        (Omit::HighWatermarkToJoin, 2, 1),
        (Omit::EpochStartToJoin, 2, 2),
        (Omit::WaitForConfirmedRemoval, 2, 1),
        (Omit::AnswerBeforeAck, 2, 1),
        (Omit::BaseEqualsLogEnd, 2, 1),
    ] {
        check_noticed(Setup {
            omitted: Some(omitted),
            wipes: false,
            ..Setup::new(replicas, min_isr)
        });
    }
}

#[test]
fn leaving_a_rule_of_the_controller_out_is_noticed() {
    for (lapse, replicas, min_isr) in [
        (Lapse::PartitionEpochUnchecked, 2, 1),
        (Lapse::SameEpochAfterRestart, 2, 1),
        (Lapse::ElrKeptWhenMinIsrChanges, 3, 2),
    ] {
        check_noticed(Setup {
            lapse: Some(lapse),
            wipes: false,
            ..Setup::new(replicas, min_isr)
        });
    }
}
