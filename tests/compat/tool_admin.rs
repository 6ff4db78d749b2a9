//! The tools that look at the cluster and order it about: metadata quorum, leader election, cluster
//! id, features, versions of APIs.

use std::collections::BTreeSet;

use crate::Case;
use crate::bench::Bench;
use crate::tools::Printed;

pub const CASES: &[Case] = &[
    ("quorum_is_described", quorum),
    ("preferred_leaders_are_elected", leader_election),
    ("cluster_id_is_told", cluster_id),
    ("features_are_told", features),
    ("versions_of_apis_are_those_of_kafka", api_versions),
];

/// Numbers that differ from moment to moment, written alike.
fn blank_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut number = false;
    for char in text.chars() {
        if char.is_ascii_digit() {
            if !number {
                out.push('N');
            }
        } else {
            out.push(char);
        }
        number = char.is_ascii_digit();
    }
    out
}

fn quorum(bench: &mut Bench) {
    let tool = "kafka-metadata-quorum.sh";
    for (case, of) in [
        ("quorum-status", "describe --status"),
        ("quorum-replication", "describe --replication"),
    ] {
        let mut printed = bench.run(tool, of);
        // Lines that hold only numbers that move are compared by their shape, members by their ids.
        let lines: Vec<String> = printed.output.lines().map(shape_of_quorum_line).collect();
        let mut lines = lines;
        if of.contains("replication") {
            lines[1..].sort();
        }
        printed.output = lines.join("\n") + "\n";
        bench.same_text(case, &format!("{tool} {of}"), &printed);
    }
    let controllers: Vec<String> = bench
        .cluster
        .ids()
        .iter()
        .map(|id| format!("127.0.0.1:{}", bench.cluster.node(*id).controller_port()))
        .collect();
    let all = controllers.join(",");
    let asked = ["--bootstrap-controller", &all, "describe", "--status"];
    let printed = bench.run_bare(tool, &asked).expect_success();
    assert!(printed.output.contains("LeaderId:"), "{}", printed.output);
}

fn shape_of_quorum_line(line: &str) -> String {
    // The ids of voters and observers and the addresses are facts; the rest moves.
    if line.starts_with("CurrentVoters")
        || line.starts_with("CurrentObservers")
        || line.starts_with("ClusterId")
    {
        return line.to_owned();
    }
    if line.starts_with("NodeId") {
        return line.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        // --replication: node, directory, log end, lag, last fetch, last caught up, status.
        [node, directory, .., _status] if words.len() == 7 => format!("{node} {directory} ..."),
        _ => blank_numbers(&words.join(" ")),
    }
}

fn leader_election(bench: &mut Bench) {
    let tool = "kafka-leader-election.sh";
    bench.make_topic("elect", vec![vec![1, 2, 3], vec![2, 3, 1]], Vec::new());
    let one = "--election-type preferred --topic elect --partition 0";
    bench.same("election-not-needed", tool, one);
    bench.same(
        "election-unknown-topic",
        tool,
        "--election-type preferred --topic nowhere --partition 0",
    );
    // Node 1 goes and comes back as a follower.
    bench.cluster.stop(1);
    bench.cluster.wait_partitions(
        "elect",
        "another leader",
        crate::bench::MINUTE,
        |partitions| {
            partitions
                .iter()
                .all(|partition| partition.leader.is_some_and(|leader| leader != 1))
        },
    );
    bench.cluster.restart(1);
    bench.cluster.wait_known();
    bench.cluster.wait_in_sync("elect", crate::bench::MINUTE);
    if bench.cluster.leader_of("elect", 0) != 1 {
        bench.same("election-done", tool, one);
    }
    bench.cluster.wait_partitions(
        "elect",
        "node 1 to lead",
        crate::bench::MINUTE,
        |partitions| partitions[0].leader == Some(1),
    );
    let all = bench.run(tool, "--election-type preferred --all-topic-partitions");
    assert_eq!(all.status, 0, "{}{}", all.output, all.errors);
}

fn cluster_id(bench: &mut Bench) {
    let asked = ["cluster-id", "--bootstrap-server", &bench.bootstrap()];
    let printed = bench.run_bare("kafka-cluster.sh", &asked);
    bench.same_text("cluster-id", "kafka-cluster.sh cluster-id", &printed);
}

fn features(bench: &mut Bench) {
    let printed = bench.run("kafka-features.sh", "describe").expect_success();
    assert!(
        printed.output.contains("Feature: metadata.version"),
        "{}",
        printed.output
    );
}

/// Everything that a broker announces, stock Kafka announces too, at the same versions.
fn api_versions(bench: &mut Bench) {
    let tool = "kafka-broker-api-versions.sh";
    let printed = bench.run(tool, "").expect_success();
    let api = |line: &str| {
        let line = line.trim().trim_end_matches(',');
        let (name, range) = line.split_once("): ")?;
        // "Produce(0): 0 to 13 [usable: 13]"
        Some(format!(
            "{name}): {}",
            range.split(" [").next().unwrap_or(range)
        ))
    };
    let apis: BTreeSet<String> = printed.output.lines().filter_map(api).collect();
    let answering = printed
        .output
        .lines()
        .filter(|line| line.contains("-> ("))
        .count();
    assert_eq!(answering, 3, "each broker answers:\n{}", printed.output);
    let golden = millrace_testkit::system::top().join("tests/compat/golden/api-versions.txt");
    if !bench.cluster.system().is_millrace() {
        let all = Printed {
            status: 0,
            output: apis.into_iter().collect::<Vec<_>>().join("\n") + "\n",
            errors: String::new(),
        };
        bench.same_text("api-versions", tool, &all);
        return;
    }
    let stock = std::fs::read_to_string(golden).expect("the golden file is there");
    // This name has as many letters as an id, and golden files hide ids.
    let stock = stock.replace("<id>(68)", "ConsumerGroupHeartbeat(68)");
    let stock: BTreeSet<&str> = stock.lines().collect();
    // The client lists what a broker lacks as UNSUPPORTED.
    let differing: Vec<&String> = apis
        .iter()
        .filter(|api| !api.contains("UNSUPPORTED") && !stock.contains(api.as_str()))
        .collect();
    assert!(
        differing.is_empty(),
        "not as stock Kafka announces it: {differing:?}"
    );
    for needed in [
        "Produce(0)",
        "Fetch(1)",
        "Metadata(3)",
        "InitProducerId(22)",
        "DescribeQuorum(55)",
    ] {
        assert!(
            apis.iter()
                .any(|api| api.starts_with(needed) && !api.contains("UNSUPPORTED")),
            "{needed}"
        );
    }
}
