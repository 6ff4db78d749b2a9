//! `kafka-topics.sh`: create, list, describe, alter, delete with three replicas, and its errors.

use std::collections::BTreeSet;

use crate::Case;
use crate::bench::Bench;

const TOOL: &str = "kafka-topics.sh";

pub const CASES: &[Case] = &[
    ("topics_are_made_and_described", made_and_described),
    ("topics_are_placed_as_ordered", placed),
    ("topics_that_cannot_be_made_are_refused", refused),
    ("topics_get_more_partitions", altered),
    ("topics_are_deleted", deleted),
];

fn made_and_described(bench: &mut Bench) {
    bench.same(
        "topics-create",
        TOOL,
        "--create --topic made --partitions 3 --replication-factor 3",
    );
    bench.cluster.wait_in_sync("made", crate::bench::MINUTE);
    let described = bench.run(TOOL, "--describe --topic made").expect_success();
    let lines: Vec<&str> = described.output.lines().collect();
    assert!(
        lines[0].contains("PartitionCount: 3\tReplicationFactor: 3"),
        "{}",
        described.output
    );
    let leaders: BTreeSet<String> = (1..=3)
        .map(|line| replicas(lines[line])[0].clone())
        .collect();
    assert_eq!(
        leaders.len(),
        3,
        "each broker leads one partition:\n{}",
        described.output
    );
    bench.same(
        "topics-create-exists",
        TOOL,
        "--create --topic made --partitions 3 --replication-factor 3",
    );
    bench.same(
        "topics-create-if-not-exists",
        TOOL,
        "--create --if-not-exists --topic made --partitions 3",
    );
}

/// The replicas of a line of `--describe`, which must all be in sync, preferred leader first.
fn replicas(line: &str) -> Vec<String> {
    let field = |name: &str| {
        let found = line
            .split('\t')
            .find_map(|field| field.trim().strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("no {name} in {line}"))
            .trim()
            .to_owned()
    };
    let list = |name| {
        field(name)
            .split(',')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (replicas, in_sync) = (list("Replicas:"), list("Isr:"));
    let set = |of: &[String]| of.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(set(&replicas).len(), 3, "{line}");
    assert_eq!(set(&replicas), set(&in_sync), "{line}");
    assert_eq!(field("Leader:"), replicas[0], "{line}");
    replicas
}

fn placed(bench: &mut Bench) {
    let create = "--create --topic placed --replica-assignment 1:2:3,2:3:1,3:1:2 \
                  --config max.message.bytes=900000 --config segment.bytes=16777216";
    bench.same("topics-create-placed", TOOL, create);
    bench.cluster.wait_in_sync("placed", crate::bench::MINUTE);
    bench.same("topics-describe", TOOL, "--describe --topic placed");
    bench.same(
        "topics-describe-overrides",
        TOOL,
        "--describe --topics-with-overrides --topic placed",
    );
    bench.same(
        "topics-describe-under-replicated",
        TOOL,
        "--describe --under-replicated-partitions",
    );
    bench.same(
        "topics-describe-at-min-isr",
        TOOL,
        "--describe --at-min-isr-partitions",
    );
    bench.same("topics-list", TOOL, "--list");
}

fn refused(bench: &mut Bench) {
    for (case, arguments) in [
        (
            "too-many-replicas",
            "--create --topic no --partitions 1 --replication-factor 4",
        ),
        (
            "no-partitions",
            "--create --topic no --partitions 0 --replication-factor 3",
        ),
        (
            "bad-name",
            "--create --topic no:way --partitions 1 --replication-factor 1",
        ),
        (
            "bad-config-value",
            "--create --topic no --config max.message.bytes=many",
        ),
        (
            "config-out-of-range",
            "--create --topic no --config max.message.bytes=-1",
        ),
        (
            "unknown-config",
            "--create --topic no --config no.such.setting=1",
        ),
        (
            "unknown-broker",
            "--create --topic no --replica-assignment 1:2:9",
        ),
        (
            "uneven-assignment",
            "--create --topic no --replica-assignment 1:2,1",
        ),
        ("describe-unknown", "--describe --topic nowhere"),
        ("delete-unknown", "--delete --topic nowhere"),
        ("alter-unknown", "--alter --topic nowhere --partitions 3"),
        ("no-action", "--topic made"),
    ] {
        bench.same(&format!("topics-{case}"), TOOL, arguments);
    }
}

fn altered(bench: &mut Bench) {
    let placed =
        "--alter --topic placed --partitions 4 --replica-assignment 1:2:3,2:3:1,3:1:2,3:2:1";
    bench.same("topics-alter-placed", TOOL, placed);
    bench.cluster.wait_in_sync("placed", crate::bench::MINUTE);
    bench.same("topics-describe-altered", TOOL, "--describe --topic placed");
    bench.same(
        "topics-alter-fewer",
        TOOL,
        "--alter --topic placed --partitions 2",
    );
    bench.same(
        "topics-alter-same",
        TOOL,
        "--alter --topic placed --partitions 4",
    );
    bench
        .run(TOOL, "--alter --topic made --partitions 6")
        .expect_success();
    bench.cluster.wait_partitions(
        "made",
        "six partitions",
        crate::bench::MINUTE,
        |partitions| {
            partitions.len() == 6 && partitions.iter().all(|partition| partition.isr.len() == 3)
        },
    );
}

fn deleted(bench: &mut Bench) {
    let admin = bench.cluster.admin();
    admin
        .set_topic_config("made", "file.delete.delay.ms", "1000")
        .expect("the topic is there");
    bench.same("topics-delete", TOOL, "--delete --topic made");
    millrace_testkit::wait::until("the topic to be gone", crate::bench::MINUTE, || match admin
        .partitions("made")
    {
        Err(_) => Ok(()),
        Ok(_) => Err("it is there".to_owned()),
    });
    bench.same("topics-list-after-delete", TOOL, "--list");
    millrace_testkit::wait::until("the files to be gone", crate::bench::MINUTE * 3, || {
        let ids = bench.cluster.ids();
        let left = ids.iter().filter(|id| {
            let data = std::fs::read_dir(bench.cluster.node(**id).data());
            let names = data
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name());
            names
                .into_iter()
                .any(|name| name.to_string_lossy().starts_with("made-"))
        });
        match left.count() {
            0 => Ok(()),
            nodes => Err(format!("still on {nodes} nodes")),
        }
    });
}
