//! `kafka-reassign-partitions.sh`: partitions moved, watched, throttled and called back.

use millrace_testkit::wait;

use crate::Case;
use crate::bench::{Bench, MINUTE};
use crate::tools::Printed;

const TOOL: &str = "kafka-reassign-partitions.sh";

pub const CASES: &[Case] = &[
    ("partitions_are_moved", moved),
    ("moves_are_throttled_and_called_back", throttled),
];

/// The file that says where partitions shall go.
struct Plan {
    file: tempfile::NamedTempFile,
    option: &'static str,
}

impl Plan {
    fn of(topic: &str, replicas: &[&[i32]]) -> Plan {
        let partitions = replicas.iter().enumerate().map(|(index, replicas)| {
            format!(r#"{{"topic":"{topic}","partition":{index},"replicas":{replicas:?}}}"#)
        });
        let partitions: Vec<String> = partitions.collect();
        let json = format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.join(","));
        Plan::with(&json, "--reassignment-json-file")
    }

    fn with(json: &str, option: &'static str) -> Plan {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), json).expect("it can be written");
        Plan { file, option }
    }

    fn run(&self, bench: &mut Bench, action: &str) -> Printed {
        let path = self.file.path().display();
        bench.run(TOOL, &format!("{} {path} {action}", self.option))
    }

    /// Wants what stock Kafka printed.
    fn same(&self, bench: &mut Bench, case: &str, action: &str) -> Printed {
        let mut printed = self.run(bench, action);
        let command = format!("{TOOL} {} <plan> {action}", self.option);
        // The broker that says where partitions lie may hear of it a moment later than the one that
        // says what moves.
        for _ in 0..20 {
            if action != "--verify" || bench.agrees(case, &command, &printed) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
            printed = self.run(bench, action);
        }
        bench.same_text(case, &command, &printed);
        printed
    }

    /// Waits until the tool says that all is done; what it clears away then it did not clear before.
    fn wait_done(&self, bench: &mut Bench) {
        wait::until("the partitions to be there", MINUTE, || {
            let printed = self.run(bench, "--verify --preserve-throttles");
            match printed.output.contains("is still in progress") {
                true => Err(printed.output),
                false => Ok(()),
            }
        });
    }
}

/// Wants all brokers to say that the partitions lie there.
fn lies(bench: &Bench, topic: &str, replicas: &[&[i32]]) {
    bench
        .cluster
        .wait_partitions(topic, "the replicas to be there", MINUTE, |partitions| {
            let there = partitions.iter().map(|partition| &partition.replicas[..]);
            there.eq(replicas.iter().copied())
        });
}

fn moved(bench: &mut Bench) {
    bench.make_topic("moving", vec![vec![1, 2], vec![2, 3]], Vec::new());
    bench.same("reassign-list-none", TOOL, "--list");
    // The proposal begins with a broker drawn by lot, so only its beginning is compared.
    let topics = r#"{"version":1,"topics":[{"topic":"moving"}]}"#;
    let topics = Plan::with(topics, "--topics-to-move-json-file");
    let mut proposed = topics.run(bench, "--generate --broker-list 1,3");
    let end = proposed.output.find("Proposed").expect("it proposes");
    proposed.output.truncate(end);
    bench.same_text(
        "reassign-generate",
        &format!("{TOOL} --generate"),
        &proposed,
    );

    let plan = Plan::of("moving", &[&[3, 1], &[1, 3]]);
    let begun = plan.same(bench, "reassign-execute", "--execute");
    plan.wait_done(bench);
    lies(bench, "moving", &[&[3, 1], &[1, 3]]);
    plan.same(bench, "reassign-verify", "--verify");
    // Back, by the plan that the tool gave; it names log directories, too.
    let mut lines = begun.output.lines();
    let before = lines.find(|line| line.starts_with('{'));
    let rollback = Plan::with(before.expect("a plan"), "--reassignment-json-file");
    rollback.run(bench, "--execute").expect_success();
    rollback.wait_done(bench);
    lies(bench, "moving", &[&[1, 2], &[2, 3]]);
    rollback.same(bench, "reassign-rollback-verify", "--verify");
    plan.run(bench, "--execute").expect_success();
    plan.wait_done(bench);
    lies(bench, "moving", &[&[3, 1], &[1, 3]]);
    // More and fewer copies, unless that is not wanted.
    let wider = Plan::of("moving", &[&[3, 1, 2], &[1]]);
    wider.same(
        bench,
        "reassign-factor-refused",
        "--execute --disallow-replication-factor-change",
    );
    wider.same(bench, "reassign-factor-changed", "--execute");
    wider.wait_done(bench);
    lies(bench, "moving", &[&[3, 1, 2], &[1]]);
    wider.same(bench, "reassign-factor-verify", "--verify");
    wider.same(bench, "reassign-cancel-none", "--cancel");
    let nowhere = Plan::of("moving", &[&[3, 9]]);
    nowhere.same(bench, "reassign-unknown-broker", "--execute");
    let unknown = Plan::of("nowhere", &[&[1]]);
    unknown.same(bench, "reassign-unknown-topic", "--execute");
    unknown.same(bench, "reassign-unknown-topic-verify", "--verify");
}

fn throttled(bench: &mut Bench) {
    bench.make_topic("slow", vec![vec![1, 2], vec![2, 1]], Vec::new());
    // More than either system sends of it in minutes under the smallest limit.
    let servers = format!("bootstrap.servers={}", bench.bootstrap());
    let loaded = bench.run_bare(
        "kafka-producer-perf-test.sh",
        &[
            "--topic",
            "slow",
            "--num-records",
            "30000",
            "--record-size",
            "1000",
            "--throughput",
            "-1",
            "--command-property",
            &servers,
        ],
    );
    loaded.expect_success();
    let plan = Plan::of("slow", &[&[3, 2], &[2, 3]]);
    plan.same(bench, "reassign-throttled", "--execute --throttle 1");
    bench.same("reassign-list", TOOL, "--list");
    plan.same(bench, "reassign-verify-moving", "--verify");
    plan.same(bench, "reassign-execute-again", "--execute");
    let throttles = "--entity-type topics --entity-name slow --describe";
    bench.same("reassign-throttled-topic", "kafka-configs.sh", throttles);
    let throttles = "--entity-type brokers --entity-name 1 --describe";
    bench.same("reassign-throttled-broker", "kafka-configs.sh", throttles);
    plan.same(bench, "reassign-cancel", "--cancel");
    bench.same("reassign-list-cancelled", TOOL, "--list");
    // In the order that is left, as in Kafka.
    lies(bench, "slow", &[&[2, 1], &[2, 1]]);
    // Once more, and then faster.
    let throttle = |limit: u32| format!("--execute --additional --throttle {limit}");
    let began = plan.run(bench, &throttle(1));
    began.expect_success();
    plan.same(bench, "reassign-faster", &throttle(500_000_000));
    plan.wait_done(bench);
    lies(bench, "slow", &[&[3, 2], &[2, 3]]);
    plan.same(bench, "reassign-verify-throttled", "--verify");
    let throttles = "--entity-type topics --entity-name slow --describe";
    bench.same("reassign-unthrottled-topic", "kafka-configs.sh", throttles);
    let throttles = "--entity-type brokers --entity-name 1 --describe";
    bench.same("reassign-unthrottled-broker", "kafka-configs.sh", throttles);
}
