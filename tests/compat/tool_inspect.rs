//! The tools that look at offsets and at directories: get-offsets, log-dirs, dump-log. They look at
//! what the console's cases have produced, and produce it themselves when those were left out.

use std::fs;
use std::path::PathBuf;

use millrace_testkit::history::Mark;
use millrace_tests::load::send_one;

use crate::Case;
use crate::bench::{Bench, MINUTE};

pub const CASES: &[Case] = &[
    ("offsets_are_told", offsets),
    ("log_directories_are_described", log_dirs),
    ("segments_are_read_by_dump_log", dump_log),
];

const RECORDS: i64 = 20;

/// A topic with twenty records in its first partition and none in its second.
fn topic(bench: &Bench, name: &str) {
    let settings = vec![
        ("segment.bytes", "1048576"),
        ("index.interval.bytes", "256"),
    ];
    bench.make_topic(name, vec![vec![1, 2, 3], vec![2, 3, 1]], settings);
    let bootstrap = bench.bootstrap();
    for number in 0..RECORDS {
        let mark = Mark {
            producer: 1,
            sequence: number as u64,
        };
        let sent = send_one(&bootstrap, name, 0, &mark.value(200), "all");
        assert_eq!(sent, Ok(number));
    }
    bench.cluster.wait_in_sync(name, MINUTE);
}

fn offsets(bench: &mut Bench) {
    let tool = "kafka-get-offsets.sh";
    topic(bench, "offsets");
    for (case, time) in [
        ("latest", "--time latest"),
        ("earliest", "--time earliest"),
        ("max-timestamp", "--time max-timestamp"),
        ("by-timestamp", "--time 1"),
        ("future", "--time 99999999999999"),
        ("partitions", "--partitions 1"),
        ("earliest-local", "--time earliest-local"),
        ("latest-tiered", "--time latest-tiered"),
    ] {
        bench.same(
            &format!("get-offsets-{case}"),
            tool,
            &format!("--topic offsets {time}"),
        );
    }
    bench.same("get-offsets-nowhere", tool, "--topic nowhere");
}

fn log_dirs(bench: &mut Bench) {
    topic(bench, "dirs");
    let tool = "kafka-log-dirs.sh";
    let printed = bench
        .run(tool, "--describe --topic-list dirs")
        .expect_success();
    for id in bench.cluster.ids() {
        let data = bench.cluster.node(id).data().display().to_string();
        assert!(
            printed.output.contains(&format!("\"logDir\":\"{data}\"")),
            "{}",
            printed.output
        );
    }
    let entry = "\"partition\":\"dirs-0\"";
    assert_eq!(
        printed.output.matches(entry).count(),
        3,
        "{}",
        printed.output
    );
    assert!(
        !printed
            .output
            .contains("\"size\":0,\"offsetLag\":0,\"isFuture\":false},{\"partition\":\"dirs-0\"")
    );
    assert!(
        printed.output.contains("\"offsetLag\":0"),
        "{}",
        printed.output
    );
}

/// The files of one partition on one node that end so.
fn files(bench: &Bench, id: i32, partition: &str, ending: &str) -> Vec<PathBuf> {
    let folder = bench.cluster.node(id).data().join(partition);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn dump_log(bench: &mut Bench) {
    topic(bench, "dump");
    // A clean stop writes the producer snapshot and trims the indexes, which a running broker has
    // at their full size.
    bench.cluster.stop(1);
    let tool = "kafka-dump-log.sh";
    let mut read = 0;
    for (ending, option) in [
        (".log", "--deep-iteration"),
        (".log", "--print-data-log"),
        (".index", "--index-sanity-check"),
        (".index", "--verify-index-only"),
        (".timeindex", "--index-sanity-check"),
        (".snapshot", "--deep-iteration"),
    ] {
        for file in files(bench, 1, "dump-0", ending) {
            let name = file.display().to_string();
            let printed = bench.run_bare(tool, &["--files", &name, option]);
            let said = format!("{}{}", printed.output, printed.errors);
            assert_eq!(printed.status, 0, "{name} {option}: {said}");
            for word in [
                "corrupt",
                "mismatch",
                "Mismatch",
                "invalid",
                "Exception",
                "out of order",
                "isvalid: false",
            ] {
                assert!(!said.contains(word), "{name} {option}: {said}");
            }
            if ending == ".log" && option == "--print-data-log" {
                read += said
                    .lines()
                    .filter(|line| line.contains("payload: 1:"))
                    .count();
            }
        }
    }
    bench.cluster.restart(1);
    bench.cluster.wait_known();
    assert_eq!(read as i64, RECORDS, "every record is shown once");
}
