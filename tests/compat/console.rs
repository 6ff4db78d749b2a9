//! The console producer and consumer, and the producers that measure and verify.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use millrace_testkit::process::ended_within;
use millrace_testkit::system;

use crate::Case;
use crate::bench::{Bench, MINUTE, finish};
use crate::tools::Printed;

/// How long a tool may take for all of it.
const TOOL_LIMIT: Duration = Duration::from_secs(300);

/// The text that goes in and must come out.
const TEXT_BYTES: u64 = 100 << 20;

pub const CASES: &[Case] = &[
    ("console_keys_and_values_go_through", keys_and_values),
    (
        "console_carries_a_hundred_megabytes_of_text",
        hundred_megabytes,
    ),
    ("producer_perf_test_measures", perf_test),
    ("verifiable_producer_is_satisfied", verifiable_producer),
];

/// Runs a tool in its own JVM with this standard input; its standard output.
fn piped(mut command: Command, input: &Path, output: &Path) {
    let open = |path: &Path| File::open(path).expect("the input is there");
    let errors = tempfile::NamedTempFile::new().expect("a temporary file");
    let child = command
        .stdin(Stdio::from(open(input)))
        .stdout(File::create(output).expect("the output can be made"))
        .stderr(errors.reopen().expect("it is there"))
        .spawn()
        .expect("the kit can be run");
    let status = ended_within(child, &format!("{command:?}"), TOOL_LIMIT);
    let said = fs::read_to_string(errors.path()).unwrap_or_default();
    assert!(status.success(), "{command:?} ended with {status}: {said}");
}

fn keys_and_values(bench: &mut Bench) {
    bench.make_topic("console", vec![vec![1, 2, 3]], Vec::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let [input, output] = ["in", "out"].map(|name| folder.path().join(name));
    let mut lines = File::create(&input).expect("it can be made");
    for (key, value) in [
        ("a", "one"),
        ("b", "zwei — три"),
        ("", "no key"),
        ("c", ""),
        ("a", "last"),
    ] {
        writeln!(lines, "{key}:{value}").expect("it can be written");
    }
    let bootstrap = bench.bootstrap();
    let mut producer = vec!["--bootstrap-server", &bootstrap, "--topic", "console"];
    producer.extend([
        "--reader-property",
        "parse.key=true",
        "--reader-property",
        "key.separator=:",
    ]);
    piped(
        bench.own_jvm("kafka-console-producer.sh", &producer),
        &input,
        &output,
    );
    let consumer = "--topic console --partition 0 --offset earliest --max-messages 5 --timeout-ms 30000 \
                    --formatter-property print.key=true --formatter-property print.offset=true \
                    --formatter-property print.partition=true --formatter-property key.separator=|";
    let mut printed = bench.run("kafka-console-consumer.sh", consumer);
    // A hint about consumer groups that depends on the tool's version, not on the broker.
    printed.errors.clear();
    bench.same_text(
        "console-consumer",
        &format!("kafka-console-consumer.sh {consumer}"),
        &printed,
    );
}

/// At least 100 MiB of real text: this repository's own, over and over, with lines of other
/// scripts between; no line is empty and none holds a carriage return.
fn write_text(path: &Path) -> u64 {
    let mut sources = Vec::new();
    let mut folders = vec![system::top().join("crates"), system::top().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path: PathBuf = entry.path();
            let text = path
                .extension()
                .is_some_and(|is| ["rs", "md", "toml", "tsv"].iter().any(|e| is == *e));
            if path.is_dir() {
                folders.push(path);
            } else if text {
                sources.push(path);
            }
        }
    }
    sources.sort();
    let mut out = BufWriter::new(File::create(path).expect("it can be made"));
    let (mut bytes, mut lines) = (0, 0u64);
    let foreign = [
        "Съешь ещё этих мягких французских булок",
        "いろはにほへと ちりぬるを",
        "🦀 ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋",
    ];
    'all: loop {
        for source in &sources {
            let text = fs::read_to_string(source).expect("sources are UTF-8");
            // Ten source lines make one, so that records are of a usual size.
            let kept: Vec<&str> = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            for chunk in kept.chunks(10) {
                let foreign = foreign[lines as usize % foreign.len()];
                let line = format!("{lines} {foreign} {}\n", chunk.join(" ").replace('\r', ""));
                out.write_all(line.as_bytes()).expect("there is space");
                bytes += line.len() as u64;
                lines += 1;
                if bytes >= TEXT_BYTES {
                    break 'all;
                }
            }
        }
    }
    out.flush().expect("there is space");
    lines
}

fn digest(path: &Path) -> (u64, u64) {
    // FNV-1a over 64 bits beside the length: both files are ours, nobody forges them.
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).expect("it is there"));
    let (mut hash, mut bytes) = (0xcbf2_9ce4_8422_2325u64, 0);
    loop {
        let read = file.fill_buf().expect("it can be read");
        if read.is_empty() {
            return (bytes, hash);
        }
        for byte in read {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        bytes += read.len() as u64;
        let length = read.len();
        file.consume(length);
    }
}

fn hundred_megabytes(bench: &mut Bench) {
    bench.make_topic("text", vec![vec![2, 3, 1]], Vec::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let [input, said, output] = ["in", "said", "out"].map(|name| folder.path().join(name));
    let lines = write_text(&input).to_string();
    let bootstrap = bench.bootstrap();
    let producer = ["--bootstrap-server", &bootstrap, "--topic", "text"];
    piped(
        bench.own_jvm("kafka-console-producer.sh", &producer),
        &input,
        &said,
    );
    let consumer = [
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        "text",
        "--partition",
        "0",
        "--offset",
        "earliest",
    ];
    let until = ["--max-messages", &lines, "--timeout-ms", "30000"];
    let consumer = bench.own_jvm(
        "kafka-console-consumer.sh",
        &[&consumer[..], &until].concat(),
    );
    piped(consumer, Path::new("/dev/null"), &output);
    assert_eq!(
        digest(&output),
        digest(&input),
        "what came out differs from what went in"
    );
    let mut first = [0; 64];
    let read = File::open(&output).and_then(|mut file| file.read(&mut first));
    assert!(
        read.is_ok_and(|length| length == 64),
        "the digest must not be one of nothing"
    );
}

fn perf_test(bench: &mut Bench) {
    bench.make_topic(
        "perf",
        vec![vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]],
        Vec::new(),
    );
    let servers = format!("bootstrap.servers={}", bench.bootstrap());
    let arguments = [
        "--topic",
        "perf",
        "--num-records",
        "30000",
        "--record-size",
        "1000",
        "--throughput",
        "-1",
    ];
    let properties = ["--command-property", &servers, "acks=all", "linger.ms=5"];
    let printed = bench.run_bare(
        "kafka-producer-perf-test.sh",
        &[&arguments[..], &properties].concat(),
    );
    let Printed { output, errors, .. } = printed.expect_success();
    assert!(output.contains("30000 records sent,"), "{output}{errors}");
    let offsets = bench
        .run("kafka-get-offsets.sh", "--topic perf")
        .expect_success();
    let total: i64 = offsets
        .output
        .lines()
        .filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok())
        .sum();
    assert_eq!(total, 30_000, "{}", offsets.output);
}

fn verifiable_producer(bench: &mut Bench) {
    bench.make_topic("verifiable", vec![vec![3, 1, 2]], Vec::new());
    let bootstrap = bench.bootstrap();
    let arguments = [
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        "verifiable",
        "--max-messages",
        "2000",
    ];
    let output = finish(
        bench.own_jvm("kafka-verifiable-producer.sh", &arguments),
        MINUTE * 2,
    );
    let acked = output
        .lines()
        .filter(|line| line.contains("\"producer_send_success\""))
        .count();
    assert_eq!(acked, 2000, "{output:.2000}");
    assert!(
        output.contains("\"sent\":2000") && output.contains("\"acked\":2000"),
        "{output:.2000}"
    );
    // Values count up in the order of their offsets.
    let in_order = output
        .lines()
        .filter(|line| line.contains("producer_send_success"))
        .enumerate();
    for (number, line) in in_order {
        assert!(line.contains(&format!("\"offset\":{number},")), "{line}");
    }
}
