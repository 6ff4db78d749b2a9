//! `kafka-consumer-groups.sh` and our own `millrace groups`: describe, move, delete; and Kafka's
//! tools over the records of `__consumer_offsets`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use millrace_testkit::process::{ended_within, output_within};
use millrace_testkit::system::{self, System};

use crate::Case;
use crate::bench::{Bench, MINUTE, finish};

const TOOL: &str = "kafka-consumer-groups.sh";

pub const CASES: &[Case] = &[
    (
        "groups_tool_moves_offsets_and_describes",
        moves_and_describes,
    ),
    ("groups_tool_moves_offsets_for_real", moves_for_real),
    ("groups_tool_tells_of_live_groups", live_groups),
    ("groups_tool_deletes_and_is_refused", deletes),
    ("kafkas_tools_read_the_offsets_topic", offsets_topic),
];

/// Our own tool; none where stock Kafka is what is looked at.
fn own(bench: &Bench, arguments: &str) -> Option<Command> {
    let System::Millrace { binary } = bench.cluster.system() else {
        return None;
    };
    let mut command = Command::new(system::top().join("deploy/bin").join(TOOL));
    command
        .env("MILLRACE_BIN", binary)
        .args(["--bootstrap-server", &bench.bootstrap()])
        .args(arguments.split(' '));
    Some(command)
}

/// Runs the stock tool, and our own with the same arguments: both must print what stock Kafka's
/// tool prints against stock Kafka.
fn same(bench: &mut Bench, case: &str, arguments: &str) {
    bench.same(&format!("groups-{case}"), TOOL, arguments);
    let Some(command) = own(bench, arguments) else {
        return;
    };
    let output = output_within(command, 2 * MINUTE);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    bench.same_output(&format!("groups-{case}"), &printed);
}

/// A topic of one partition with ten records, as old as this minute.
fn fill(bench: &mut Bench, topic: &str) {
    bench.make_topic(topic, vec![vec![1, 2, 3]], Vec::new());
    let bootstrap = bench.bootstrap();
    let arguments = ["--bootstrap-server", &bootstrap, "--topic", topic];
    let mut producer = bench.own_jvm("kafka-console-producer.sh", &arguments);
    let mut child = producer
        .stdin(Stdio::piped())
        .spawn()
        .expect("the kit can be run");
    let mut lines = child.stdin.take().expect("it is piped");
    for number in 0..10 {
        writeln!(lines, "record {number}").expect("it reads");
    }
    drop(lines);
    let status = ended_within(child, &format!("{producer:?}"), 2 * MINUTE);
    assert!(status.success(), "{producer:?} ended with {status}");
}

fn moves_and_describes(bench: &mut Bench) {
    fill(bench, "moved");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), "moved,0,7\n").expect("it can be written");
    bench.run(
        TOOL,
        "--reset-offsets --group mover --topic moved --to-offset 4 --execute",
    );
    let reset = "--reset-offsets --group mover --topic moved:0 --dry-run";
    for (case, way) in [
        ("to-earliest", "--to-earliest"),
        ("to-latest", "--to-latest"),
        ("to-current", "--to-current"),
        ("to-offset", "--to-offset 3"),
        ("to-offset-beyond", "--to-offset 300"),
        ("shift-by", "--shift-by -2"),
        ("by-duration", "--by-duration P1D"),
        ("to-datetime", "--to-datetime 2000-01-01T00:00:00.000"),
        (
            "to-datetime-future",
            "--to-datetime 2100-01-01T00:00:00.000",
        ),
        ("export", "--to-latest --export"),
    ] {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            same(bench, &format!("reset-{case}"), &format!("{reset} {way}"));
        }));
        assert!(outcome.is_ok(), "reset-offsets {way}");
    }
    let from_file = format!(
        "--reset-offsets --group mover --dry-run --from-file {}",
        file.path().display()
    );
    let printed = bench.run(TOOL, &from_file).expect_success();
    assert!(printed.output.contains("7"), "{}", printed.output);
    for (case, arguments) in [
        ("describe", "--describe --group mover"),
        ("describe-verbose", "--describe --group mover --verbose"),
        ("describe-offsets", "--describe --group mover --offsets"),
        ("describe-members", "--describe --group mover --members"),
        ("describe-unknown-state", "--describe --group mover --state"),
    ] {
        if case == "describe-unknown-state" {
            // The coordinator's address differs from run to run, so the words are looked for.
            let printed = bench.run(TOOL, arguments).expect_success();
            let words = ["COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "Empty"];
            assert!(words.iter().all(|word| printed.output.contains(word)));
            continue;
        }
        same(bench, case, arguments);
    }
    let listed = bench.run(TOOL, "--list --type classic").expect_success();
    assert!(listed.output.contains("mover"), "{}", listed.output);
    let listed = bench
        .run("kafka-groups.sh", "--list --consumer")
        .expect_success();
    assert!(listed.output.contains("mover"), "{}", listed.output);
}

/// All ways to move a group's offset, done by the stock tool and by our own, and looked at
/// afterwards; each begins at offset 4 of ten.
fn moves_for_real(bench: &mut Bench) {
    fill(bench, "really");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let [plan, exported] = ["plan", "exported"].map(|name| folder.path().join(name));
    fs::write(&plan, "really,0,7\n").expect("it can be written");
    let group = "--reset-offsets --group real-mover";
    let to_four = format!("{group} --topic really --to-offset 4 --execute");
    for by_own in [false, true] {
        let mut run = |arguments: &str| match (by_own, own(bench, arguments)) {
            (true, Some(command)) => Some(finish(command, MINUTE)),
            (true, None) => None,
            (false, _) => Some(bench.run(TOOL, arguments).expect_success().output),
        };
        for (way, expected) in [
            ("--topic really --to-earliest", 0),
            ("--topic really:0 --to-latest", 10),
            ("--all-topics --to-current", 4),
            ("--topic really --to-offset 3", 3),
            ("--topic really --shift-by -2", 2),
            ("--topic really --shift-by 100", 10),
            ("--topic really --by-duration P1D", 0),
            ("--topic really --to-datetime 2000-01-01T00:00:00.000", 0),
            (&format!("--from-file {}", plan.display()), 7),
        ] {
            let Some(_) = run(&to_four) else {
                return;
            };
            run(&format!("{group} {way} --dry-run"));
            let committed = |said: String| {
                let row = said.lines().find(|line| line.contains(" really "));
                let cell = row.and_then(|row| row.split_whitespace().nth(3)?.parse::<i64>().ok());
                cell.unwrap_or_else(|| panic!("no offset in {said}"))
            };
            let describe = "--describe --group real-mover";
            let before = run(describe).map(committed);
            assert_eq!(before, Some(4), "{way} only dry: by our own tool: {by_own}");
            run(&format!("{group} {way} --execute"));
            let after = run(describe).map(committed);
            assert_eq!(after, Some(expected), "{way}, by our own tool: {by_own}");
        }
        // What one run exports another takes back.
        let way = "--topic really --to-offset 6 --export --dry-run";
        let lines = run(&format!("{group} {way}")).unwrap_or_default();
        fs::write(&exported, lines.trim_start()).expect("it can be written");
        let from = format!("{group} --from-file {} --execute", exported.display());
        let said = run(&from).unwrap_or_default();
        assert!(said.contains(" 6"), "{lines}\n{said}");
    }
}

/// A group with a member, by both protocols: what is shown of it, but for the member's id.
fn live_groups(bench: &mut Bench) {
    fill(bench, "live");
    let bootstrap = bench.bootstrap();
    for (group, protocol) in [("live-classic", "classic"), ("live-consumer", "consumer")] {
        let group_protocol = format!("group.protocol={protocol}");
        let arguments = [
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            "live",
            "--from-beginning",
            "--group",
            group,
            "--command-property",
            &group_protocol,
            "--command-property",
            "auto.commit.interval.ms=200",
        ];
        let mut consumer = bench.own_jvm("kafka-console-consumer.sh", &arguments);
        consumer.stdout(Stdio::null()).stderr(Stdio::null());
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut consumer = millrace_testkit::Process::start(consumer, log.path());
        let described = millrace_testkit::wait::until("the group to read", MINUTE, || {
            let printed = bench.run(TOOL, &format!("--describe --group {group}"));
            let row = printed.output.lines().find(|line| line.contains(" live "));
            let row: Vec<String> = row
                .map(|row| row.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default();
            match row.get(3).map(String::as_str) {
                Some("10") => Ok(row),
                _ => Err(printed.output),
            }
        });
        assert_eq!(described[4..6], ["10", "0"], "{described:?}");
        let members = bench
            .run(
                TOOL,
                &format!("--describe --group {group} --members --verbose"),
            )
            .expect_success();
        assert!(members.output.contains("live:0"), "{}", members.output);
        let state = bench
            .run(TOOL, &format!("--describe --group {group} --state"))
            .expect_success();
        assert!(state.output.contains("Stable"), "{}", state.output);
        let refused = bench.run(
            TOOL,
            &format!("--reset-offsets --group {group} --topic live --to-earliest --execute"),
        );
        assert!(refused.output.contains("is inactive"), "{}", refused.output);
        let refused = bench.run(TOOL, &format!("--delete --group {group}"));
        assert!(
            refused.output.contains("GroupNotEmptyException"),
            "{}",
            refused.output
        );
        consumer.terminate(MINUTE);
    }
}

fn deletes(bench: &mut Bench) {
    for group in ["deleted-one", "deleted-two"] {
        let reset =
            format!("--reset-offsets --group {group} --topic moved --to-offset 4 --execute");
        bench.run(TOOL, &reset).expect_success();
    }
    for (case, arguments) in [
        (
            "delete-offsets",
            "--delete-offsets --group deleted-one --topic moved",
        ),
        (
            "delete-offsets-nowhere",
            "--delete-offsets --group deleted-one --topic moved:0 --topic nowhere",
        ),
        (
            "delete-offsets-unknown",
            "--delete-offsets --group nobody --topic moved",
        ),
        ("delete-unknown", "--delete --group nobody"),
    ] {
        bench.same(&format!("groups-{case}"), TOOL, arguments);
    }
    // Each is deleted once: by the stock tool, and by our own.
    bench.same("groups-delete", TOOL, "--delete --group deleted-two");
    if let Some(command) = own(bench, "--delete --group deleted-one") {
        let said = finish(command, MINUTE);
        assert!(said.contains("was successful"), "{said}");
    }
}

fn offsets_topic(bench: &mut Bench) {
    fill(bench, "decoded");
    let read = "--topic decoded --from-beginning --group decoder --max-messages 10 \
                --timeout-ms 60000";
    bench
        .run("kafka-console-consumer.sh", read)
        .expect_success();
    for (formatter, words) in [
        (
            "OffsetsMessageFormatter",
            "\"group\":\"decoder\",\"topic\":\"decoded\"",
        ),
        ("GroupMetadataMessageFormatter", "\"group\":\"decoder\""),
    ] {
        let arguments = format!(
            "--topic __consumer_offsets --from-beginning --timeout-ms 5000 --formatter \
             org.apache.kafka.tools.consumer.{formatter}"
        );
        let printed = bench.run("kafka-console-consumer.sh", &arguments);
        assert!(
            printed.output.contains(words),
            "{}{}",
            printed.output,
            printed.errors
        );
    }
    let id = bench.cluster.ids()[0];
    let data = bench.cluster.node(id).data().to_owned();
    let logs = fs::read_dir(data).expect("it is there").flatten();
    let logs = logs.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("__consumer_offsets-")
    });
    let files: Vec<String> = logs
        .map(|entry| {
            entry
                .path()
                .join("00000000000000000000.log")
                .display()
                .to_string()
        })
        .collect();
    let files = files.join(",");
    let printed = bench.run_bare(
        "kafka-dump-log.sh",
        &["--offsets-decoder", "--files", &files],
    );
    let words = "{\"group\":\"decoder\",\"topic\":\"decoded\",\"partition\":0}";
    assert!(printed.output.contains(words), "{:.3000}", printed.output);
}
