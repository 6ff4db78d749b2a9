//! Where the outside world may be touched: through `host`, so that one seed can drive a cluster.

use crate::arrows::is_pure;
use crate::source::{Source, Tree, matching_brace};

/// What must not be named, and why.
type Ban = (&'static str, &'static str);

const IN_PURE: &[Ban] = &[
    ("SystemTime", "time is an argument of a pure function"),
    ("Instant", "time is an argument of a pure function"),
    ("std::fs", "a pure crate gets bytes and returns bytes"),
    ("std::net", "a pure crate gets bytes and returns bytes"),
    ("std::thread", "a pure crate runs where its caller runs"),
    ("std::env", "settings are arguments of a pure function"),
    ("tokio::", "a pure crate awaits nothing"),
    ("rand::", "chance is an argument of a pure function"),
];

const OUTSIDE_HOST: &[Ban] = &[
    (
        "SystemTime",
        "ask host.clock.wall(), which a simulation hands in",
    ),
    (
        "Instant::now",
        "ask host.clock.now(), which a simulation steps",
    ),
    (
        "std::time::Instant",
        "use tokio's Instant, which a simulation steps",
    ),
    ("tokio::net", "ask host.network, which a simulation can cut"),
    (
        "net::TcpStream",
        "ask host.network, which a simulation can cut",
    ),
    (
        "net::TcpListener",
        "ask host.network, which a simulation can cut",
    ),
    ("UdpSocket", "ask host.network, which a simulation can cut"),
    ("std::fs", "ask host.disk, which a simulation can crash"),
    ("tokio::fs", "ask host.disk, which a simulation can crash"),
    (
        "std::thread",
        "use host.tasks.worker or host.tasks.blocking",
    ),
    (
        "thread::spawn",
        "use host.tasks.worker or host.tasks.blocking",
    ),
    ("tokio::spawn", "use host.tasks.spawn or host.control.spawn"),
    (
        "task::spawn",
        "use host.tasks.spawn, host.control.spawn or host.tasks.blocking",
    ),
    ("task::spawn_blocking", "use host.tasks.blocking"),
    ("rand::", "ask host.random, whose seed a simulation knows"),
];

/// Where the seams end: the host itself, the binary around the broker, and what only tests use.
const BEYOND_THE_SEAMS: &[&str] = &["host", "cli", "testkit"];

/// Clocks, I/O and chance in pure crates.
pub fn impure_sources(tree: &Tree) -> Vec<String> {
    let sources = tree.production_sources();
    let pure = sources
        .iter()
        .filter(|source| is_pure(&source.crate_name()));
    pure.flat_map(|source| banned(source, IN_PURE)).collect()
}

/// The outside world touched past the seams.
pub fn unseamed_sources(tree: &Tree) -> Vec<String> {
    let sources = tree.production_sources();
    let seamed = sources.iter().filter(|source| {
        let name = source.crate_name();
        !is_pure(&name) && !BEYOND_THE_SEAMS.contains(&name.as_str())
    });
    seamed
        .flat_map(|source| banned(source, OUTSIDE_HOST))
        .collect()
}

/// `select!` without `biased;`: it draws its branch by chance that no seed controls.
pub fn unbiased_selects(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for source in tree.production_sources() {
        if BEYOND_THE_SEAMS.contains(&source.crate_name().as_str()) {
            continue;
        }
        for (at, _) in source.code.match_indices("select! {") {
            let open = at + "select! ".len();
            let body = &source.code[open + 1..matching_brace(&source.code, open)];
            if !body.trim_start().starts_with("biased;") {
                findings.push(format!(
                    "{}: select! must begin with `biased;`: without it the branch is drawn by \
                     chance, and a failing seed would not repeat",
                    source.at(at)
                ));
            }
        }
    }
    findings
}

fn banned(source: &Source, bans: &[Ban]) -> Vec<String> {
    let mut findings: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for (name, why) in bans {
        for (at, _) in source.code.match_indices(name) {
            let place = source.at(at);
            if is_whole_word(&source.code, at, name) && !lines.contains(&place) {
                findings.push(format!("{place}: `{name}` must not stand here: {why}"));
                lines.push(place);
            }
        }
    }
    findings
}

fn is_whole_word(code: &str, at: usize, name: &str) -> bool {
    let word = |char: char| char.is_alphanumeric() || char == '_';
    let before = code[..at].chars().next_back();
    let after = code[at + name.len()..].chars().next();
    !before.is_some_and(word) && (name.ends_with(':') || !after.is_some_and(word))
}
