//! Which crate may list which: the table of the architecture.

use crate::source::Tree;

const PURE: &[&str] = &["model", "protocol", "metadata", "coordinator"];

/// What a pure crate must not even link: with these in reach, time, I/O or chance creep in.
const IMPURE: &[&str] = &[
    "tokio", "tonic", "openraft", "rand", "hyper", "axum", "socket2", "rustix",
];

/// Crate, and the crates of ours it may use. What is not here may use nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("protocol", &["model"]),
    ("metadata", &["model"]),
    ("coordinator", &["model", "protocol"]),
    ("host", &["model"]),
    ("storage", &["model", "protocol", "host"]),
    ("rpc", &["model", "host"]),
    ("quorum", &["model", "metadata", "rpc", "host"]),
    (
        "replication",
        &["model", "protocol", "storage", "rpc", "host"],
    ),
    (
        "server",
        &[
            "model",
            "protocol",
            "metadata",
            "coordinator",
            "host",
            "storage",
            "rpc",
            "quorum",
            "replication",
        ],
    ),
    ("client", &["model", "protocol", "host"]),
    // The binary builds the real host that the broker runs on.
    ("cli", &["server", "client", "model", "host"]),
];

/// Crates that may use any other, since only tests use them.
const FREE: &[&str] = &["testkit"];

/// Crates of which two versions at once mean two HTTP stacks, two runtimes or two codecs.
const SINGLE: &[&str] = &[
    "tokio", "hyper", "h2", "http", "axum", "tonic", "prost", "rustls",
];

/// Normal dependencies on crates of ours that the table does not list.
pub fn forbidden_arrows(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, manifest) in tree.manifests() {
        if FREE.contains(&name.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(of, _)| *of == name) else {
            findings.push(format!(
                "crates/{name}: not in the table of tests/tidy/arrows.rs; a new crate first gets \
                 its place in the architecture, so that the arrows stay a picture one can hold"
            ));
            continue;
        };
        for used in dependencies(manifest) {
            if let Some(ours) = used.strip_prefix("millrace-")
                && !allowed.contains(&ours)
            {
                findings.push(format!(
                    "crates/{name}/Cargo.toml: {name} must not use {ours}; it may use only \
                     {allowed:?}, so that each part can be understood, tested and replaced \
                     without the others"
                ));
            }
        }
    }
    findings
}

/// Normal dependencies of pure crates that bring a runtime, sockets or chance.
pub fn impure_dependencies(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, manifest) in tree.manifests() {
        if !PURE.contains(&name.as_str()) {
            continue;
        }
        for used in dependencies(manifest) {
            let family = |of: &str| used == of || used.starts_with(&format!("{of}-"));
            if IMPURE.iter().any(|of| family(of)) {
                findings.push(format!(
                    "crates/{name}/Cargo.toml: {name} is pure and must not list {used}: its \
                     decisions are replayed from a log and from a seed, which only works if time, \
                     I/O and chance come in as arguments"
                ));
            }
        }
    }
    findings
}

/// Packages that Cargo.lock should hold once, or not at all.
pub fn duplicate_stacks(tree: &Tree) -> Vec<String> {
    let lock = tree.text("Cargo.lock").unwrap_or_default();
    let packages = || lock.lines().filter_map(|line| line.strip_prefix("name = "));
    let count = |name: &str| packages().filter(|is| is.trim_matches('"') == name).count();
    let mut findings: Vec<String> = SINGLE
        .iter()
        .filter(|name| count(name) > 1)
        .map(|name| {
            format!(
                "Cargo.lock: {name} is there in two versions; that is two stacks to build, to \
                 link and to keep safe"
            )
        })
        .collect();
    if count("ring") > 0 {
        findings.push(
            "Cargo.lock: ring is linked; two TLS providers in one graph panic at first use, and \
             ours is aws-lc-rs"
                .to_owned(),
        );
    }
    findings
}

/// Whether this crate's folder is one of the pure ones.
pub fn is_pure(name: &str) -> bool {
    PURE.contains(&name)
}

/// The names below every `[dependencies]` of a manifest, target-specific ones included; not
/// those of `[dev-dependencies]` and `[build-dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section == "dependencies" || section.ends_with(".dependencies");
            if let Some(name) = section.strip_prefix("dependencies.") {
                names.push(name.to_owned());
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name: String = line
                .chars()
                .take_while(|char| char.is_ascii_alphanumeric() || "-_".contains(*char))
                .collect();
            names.push(name);
        }
    }
    names
}
