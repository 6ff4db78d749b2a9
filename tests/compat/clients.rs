//! Clients of other languages: librdkafka by kcat, Rust and Python, and kafka-python.

use std::fs;
use std::process::Command;

use millrace_tests::load::{Load, Pace};
use millrace_tests::readers::read_back;

use crate::Case;
use crate::bench::{Bench, MINUTE, finish};

pub const CASES: &[Case] = &[
    ("kcat_lists_produces_and_consumes", kcat),
    ("rdkafka_produces_with_every_codec", rdkafka),
    ("confluent_kafka_works", confluent_kafka),
    ("kafka_python_works", kafka_python),
    ("kafka_python_pinned_to_2_8_1_works", kafka_python_pinned),
];

fn kcat(bench: &mut Bench) {
    bench.make_topic("kcat", vec![vec![1, 2, 3], vec![2, 3, 1]], Vec::new());
    let bootstrap = bench.bootstrap();
    let kcat = |arguments: &[&str]| {
        let mut command = Command::new("kcat");
        command
            .args(["-b", &bootstrap, "-X", "broker.address.family=v4"])
            .args(arguments);
        finish(command, MINUTE)
    };
    let listed = kcat(&["-L", "-t", "kcat"]);
    assert!(listed.contains("3 brokers:"), "{listed}");
    assert!(
        listed.contains("partition 0, leader 1, replicas: 1,2,3, isrs: 1,2,3"),
        "{listed}"
    );
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines: String = (0..1000)
        .map(|number| format!("key-{number}\tвалюе {number}\n"))
        .collect();
    fs::write(file.path(), &lines).expect("it can be written");
    let path = file.path().display().to_string();
    kcat(&[
        "-P", "-t", "kcat", "-p", "1", "-K", "\\t", "-z", "lz4", "-l", &path,
    ]);
    let consumed = kcat(&[
        "-C",
        "-q",
        "-e",
        "-t",
        "kcat",
        "-p",
        "1",
        "-o",
        "beginning",
        "-f",
        "%k\\t%s\\n",
    ]);
    assert_eq!(consumed, lines);
    let last = kcat(&[
        "-C", "-q", "-e", "-t", "kcat", "-p", "1", "-o", "-1", "-f", "%o %k",
    ]);
    assert_eq!(last, "999 key-999");
    let queried = kcat(&["-Q", "-t", "kcat:1:-1"]);
    assert!(queried.contains("kcat [1] offset 1000"), "{queried}");
}

fn rdkafka(bench: &mut Bench) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("rdkafka-{codec}");
        bench.make_topic(
            &topic,
            vec![vec![1, 2, 3], vec![2, 3, 1], vec![3, 1, 2]],
            Vec::new(),
        );
        let mut pace = Pace::default();
        if codec != "zstd" {
            // This build of librdkafka has no zstd; Python's has, below.
            pace = pace.with("compression.codec", codec);
        }
        let load = Load::start(&bench.bootstrap(), &topic, 3, &pace);
        millrace_testkit::wait::until("a thousand acknowledgements", MINUTE, || {
            let acked = load.answers().acked.len();
            if acked >= 1000 {
                Ok(())
            } else {
                Err(format!("{acked}"))
            }
        });
        let answers = load.finish();
        assert!(answers.errors.is_empty(), "{:?}", answers.errors);
        let (log, corrupt) = read_back(&bench.bootstrap(), &topic, 3, MINUTE);
        assert!(corrupt.is_empty(), "{corrupt:?}");
        let read: usize = log.values().map(Vec::len).sum();
        assert_eq!(read, answers.acked.len(), "{codec}");
    }
}

fn confluent_kafka(bench: &mut Bench) {
    let said = bench.python("confluent_client.py", &[]);
    assert!(said.contains("all is well"), "{said}");
}

fn kafka_python(bench: &mut Bench) {
    let said = bench.python("kafka_python_client.py", &["kp-new"]);
    assert!(said.contains("all is well"), "{said}");
}

fn kafka_python_pinned(bench: &mut Bench) {
    let said = bench.python("kafka_python_client.py", &["kp-old", "2.8.1"]);
    assert!(said.contains("all is well"), "{said}");
}
