//! `kafka-configs.sh`: settings of topics, brokers and groups.

use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, FindCoordinatorRequest, GroupId,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use millrace_testkit::{Wire, wait};

use crate::Case;
use crate::bench::{Bench, MINUTE};

const TOOL: &str = "kafka-configs.sh";

pub const CASES: &[Case] = &[
    ("settings_of_a_topic_change", topic),
    ("settings_of_brokers_change", broker),
    ("settings_of_a_group_change", group),
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

fn group(bench: &mut Bench) {
    const NAME: &str = "settings-group";
    let of = format!("--entity-type groups --entity-name {NAME}");
    let describe = format!("{of} --describe");
    bench.same("configs-group-describe", TOOL, &describe);
    let mut member = Member::default();
    member.wait_told(bench, NAME, 500);
    let add = "--alter --add-config consumer.heartbeat.interval.ms=1500,\
               consumer.session.timeout.ms=9000";
    bench.same("configs-group-alter", TOOL, &format!("{of} {add}"));
    bench.same("configs-group-describe-altered", TOOL, &describe);
    member.wait_told(bench, NAME, 1500);
    for (case, setting) in [
        ("too-short", "consumer.session.timeout.ms=5999"),
        ("too-long", "consumer.heartbeat.interval.ms=15001"),
        ("no-number", "consumer.session.timeout.ms=often"),
        ("unknown", "no.such.setting=1"),
    ] {
        let add = format!("{of} --alter --add-config {setting}");
        bench.same(&format!("configs-group-{case}"), TOOL, &add);
    }
    let delete = format!("{of} --alter --delete-config consumer.heartbeat.interval.ms");
    bench.same("configs-group-delete", TOOL, &delete);
    bench.same("configs-group-describe-deleted", TOOL, &describe);
    member.wait_told(bench, NAME, 500);
}

/// A member of a consumer group that wants a topic that is not there.
#[derive(Default)]
struct Member {
    epoch: i32,
}

impl Member {
    /// Beats until the coordinator tells it to beat so often. It joins anew where its session has
    /// ended while a tool ran.
    fn wait_told(&mut self, bench: &Bench, group: &str, interval_ms: i32) {
        wait::until("a member to be told its interval", MINUTE, || {
            let answer = self.beat(bench, group)?;
            self.epoch = match answer.error_code {
                0 => answer.member_epoch,
                _ => 0,
            };
            match (answer.error_code, answer.heartbeat_interval_ms) {
                (0, told) if told == interval_ms => Ok(()),
                _ => Err(format!("{answer:?}")),
            }
        });
    }

    fn beat(&self, bench: &Bench, group: &str) -> Result<ConsumerGroupHeartbeatResponse, String> {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let found = bench.cluster.admin().ask(&find, 4)?;
        let port = found.coordinators.first().map_or(0, |found| found.port);
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("{found:?}"))?;
        let joins = self.epoch == 0;
        let topics = vec![TopicName(text("nowhere"))];
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(text("a-member-that-only-beats"))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(if joins { 60_000 } else { -1 })
            .with_subscribed_topic_names(joins.then_some(topics))
            .with_topic_partitions(joins.then(Vec::new));
        let answer = Wire::connect(port, MINUTE).and_then(|mut wire| wire.call(&request, 1));
        answer.map_err(|error| error.to_string())
    }
}
