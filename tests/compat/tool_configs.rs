//! `kafka-configs.sh`: settings of topics and brokers.

use crate::Case;
use crate::bench::Bench;

const TOOL: &str = "kafka-configs.sh";

pub const CASES: &[Case] = &[
    ("settings_of_a_topic_change", topic),
    ("settings_of_brokers_change", broker),
];

fn topic(bench: &mut Bench) {
    bench.make_topic("settings", vec![vec![1, 2, 3]], Vec::new());
    let of = "--entity-type topics --entity-name settings";
    bench.same("configs-topic-describe", TOOL, &format!("{of} --describe"));
    let add = "--alter --add-config max.message.bytes=800000,min.insync.replicas=1";
    bench.same("configs-topic-alter", TOOL, &format!("{of} {add}"));
    bench.same(
        "configs-topic-describe-altered",
        TOOL,
        &format!("{of} --describe"),
    );
    let delete = "--alter --delete-config min.insync.replicas";
    bench.same("configs-topic-delete", TOOL, &format!("{of} {delete}"));
    bench.same(
        "configs-topic-describe-deleted",
        TOOL,
        &format!("{of} --describe"),
    );
    let bad = "--alter --add-config max.message.bytes=many";
    bench.same("configs-topic-bad-value", TOOL, &format!("{of} {bad}"));
    let unknown = "--alter --add-config no.such.setting=1";
    bench.same("configs-topic-unknown", TOOL, &format!("{of} {unknown}"));
    let nowhere = "--entity-type topics --entity-name nowhere --describe";
    bench.same("configs-topic-nowhere", TOOL, nowhere);
    let all = format!("{of} --describe --all");
    let mut printed = bench.run(TOOL, &all);
    let ours = |line: &&str| !line.trim_start().starts_with("millrace.");
    let kept: Vec<&str> = printed.output.lines().filter(ours).collect();
    printed.output = kept.join("\n") + "\n";
    bench.same_text(
        "configs-topic-describe-all",
        &format!("{TOOL} {all}"),
        &printed,
    );
}

fn broker(bench: &mut Bench) {
    let all = bench
        .run(
            TOOL,
            "--entity-type brokers --entity-name 1 --describe --all",
        )
        .expect_success();
    for expected in [
        "  node.id=1 ",
        "  log.dirs=",
        "  message.max.bytes=1048588 ",
    ] {
        assert!(
            all.output.contains(expected),
            "no {expected} in\n{}",
            all.output
        );
    }
    let of = "--entity-type brokers --entity-default";
    bench.same(
        "configs-brokers-alter",
        TOOL,
        &format!("{of} --alter --add-config message.max.bytes=2000000"),
    );
    bench.same(
        "configs-brokers-describe",
        TOOL,
        &format!("{of} --describe"),
    );
    let one = "--entity-type brokers --entity-name 2";
    bench.same(
        "configs-broker-alter",
        TOOL,
        &format!("{one} --alter --add-config message.max.bytes=3000000"),
    );
    bench.same(
        "configs-broker-describe",
        TOOL,
        &format!("{one} --describe"),
    );
    bench.same(
        "configs-broker-delete",
        TOOL,
        &format!("{one} --alter --delete-config message.max.bytes"),
    );
    bench.same(
        "configs-brokers-delete",
        TOOL,
        &format!("{of} --alter --delete-config message.max.bytes"),
    );
    bench.same(
        "configs-brokers-describe-deleted",
        TOOL,
        &format!("{of} --describe"),
    );
    bench.same(
        "configs-broker-read-only",
        TOOL,
        &format!("{one} --alter --add-config node.id=7"),
    );
}
