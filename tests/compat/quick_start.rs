//! The words of Kafka's quick starts, old and new, in a copy of `deploy/`; and `millrace dev`.
//! Only ports and the directory of the data are others, so that the test disturbs nobody.

use std::fs;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millrace_testkit::system::{self, System};
use millrace_testkit::{Process, ports, wait};
use tempfile::TempDir;

use crate::Case;
use crate::bench::{Bench, MINUTE, finish};

pub const CASES: &[Case] = &[
    ("quick_start_before_kafka_4_works", old_words),
    ("quick_start_of_kafka_4_works", new_words),
    ("dev_cluster_of_three_works", dev),
];

/// A terminal in `deploy/`.
struct Terminal {
    folder: TempDir,
    binary: PathBuf,
    /// What the words say, and what stands for it here.
    instead: Vec<(&'static str, String)>,
}

impl Terminal {
    /// Nothing when stock Kafka is what is looked at: `deploy/` is ours.
    fn open() -> Option<Terminal> {
        let System::Millrace { binary } = System::from_environment() else {
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary directory");
        let data = folder.path().join("data").display().to_string();
        let mut instead = vec![("/tmp/kraft-combined-logs", data)];
        for port in ["9092", "9093", "9644"] {
            instead.push((port, ports::free().to_string()));
        }
        let terminal = Terminal {
            folder,
            binary: binary.canonicalize().expect("it is there"),
            instead,
        };
        terminal.copy(&system::top().join("deploy"), terminal.folder.path());
        Some(terminal)
    }

    fn copy(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("the directory is ours");
        for entry in fs::read_dir(from).expect("it is there").flatten() {
            let (path, copy) = (entry.path(), to.join(entry.file_name()));
            if path.is_dir() {
                self.copy(&path, &copy);
            } else if path.extension().is_some_and(|is| is == "properties") {
                let text = fs::read_to_string(&path).expect("it is text");
                fs::write(copy, self.here(&text)).expect("the directory is ours");
            } else {
                fs::copy(&path, &copy).expect("the directory is ours");
            }
        }
    }

    fn here(&self, words: &str) -> String {
        let instead = self.instead.iter();
        instead.fold(words.to_owned(), |text, (said, real)| {
            text.replace(said, real)
        })
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", &self.here(words)]);
        command.current_dir(self.folder.path());
        command.env("MILLRACE_BIN", &self.binary);
        command
    }

    /// Runs these words; what they print.
    fn run(&self, words: &str) -> String {
        finish(self.command(words), MINUTE)
    }

    /// Runs words that go on until they are ended; returns when they have said `sign`.
    fn start(&self, words: &str, sign: &str) -> Process {
        let log = self.folder.path().join("output");
        let mut process = Process::start(self.command(&format!("exec {words}")), &log);
        wait::until("the cluster to be up", MINUTE, || {
            let output = process.output();
            match output.contains(sign) {
                true => Ok(()),
                false if process.is_running() => Err(output),
                false => panic!("`{words}` ended:\n{output}"),
            }
        });
        process
    }
}

fn old_words(_: &mut Bench) {
    let Some(terminal) = Terminal::open() else {
        return;
    };
    let format = "KAFKA_CLUSTER_ID=\"$(bin/kafka-storage.sh random-uuid)\"; \
                  bin/kafka-storage.sh format -t $KAFKA_CLUSTER_ID -c config/kraft/server.properties";
    let said = terminal.run(format);
    assert!(said.contains("Formatting "), "{said}");
    let start = "bin/kafka-server-start.sh config/kraft/server.properties";
    let mut server = terminal.start(start, "Kafka Server started");
    assert!(
        !server.output().contains("WARN"),
        "our own configuration is warned of:\n{}",
        server.output()
    );
    topics(&terminal, "--partitions 3 --replication-factor 1");
    keyed_records(&terminal);
    let told = terminal.run("bin/kafka-broker-api-versions.sh --bootstrap-server localhost:9092");
    assert!(told.contains("Produce(0): 0 to 13"), "{told}");
    let help = terminal.run("bin/kafka-topics.sh --help 2>&1");
    assert!(help.contains("--replication-factor"), "{help}");
    delete(&terminal);
    let ended = server.terminate(MINUTE);
    assert!(ended.success(), "{ended}: {}", server.output());
    let output = server.output();
    let reigns = output.matches("this node is the active controller");
    assert_eq!(reigns.count(), 1, "it was controller once:\n{output}");
    // What was there is there after another start.
    let mut server = terminal.start(start, "Kafka Server started");
    let listed = terminal.run("bin/kafka-topics.sh --list --bootstrap-server localhost:9092");
    assert_eq!(listed, "keyed\n");
    assert!(server.terminate(MINUTE).success());
}

fn new_words(bench: &mut Bench) {
    let Some(terminal) = Terminal::open() else {
        return;
    };
    // Kafka asks for --standalone here; without it a node that is alone is meant.
    for standalone in ["", "--standalone"] {
        let format = format!(
            "bin/kafka-storage.sh format {standalone} -t $(bin/kafka-storage.sh random-uuid) \
             -c config/server.properties"
        );
        let said = terminal.run(&format);
        assert!(said.contains("Formatting "), "{said}");
        let start = "bin/kafka-server-start.sh config/server.properties";
        let mut server = terminal.start(start, "Kafka Server started");
        let create = "--create --topic quickstart-events --bootstrap-server localhost:9092";
        // Kafka's own tool first: it must find all that it expects of a node like this.
        let create = terminal.here(create);
        let words: Vec<&str> = create.split(' ').collect();
        let created = bench
            .run_bare("kafka-topics.sh", &words)
            .expect_success()
            .output;
        assert_eq!(created, "Created topic quickstart-events.\n");
        terminal.run(
            "printf 'This is my first event\\nThis is my second event\\n' | \
             bin/kafka-console-producer.sh --topic quickstart-events --bootstrap-server localhost:9092",
        );
        let read = terminal.run(
            "bin/kafka-console-consumer.sh --topic quickstart-events --from-beginning \
             --max-messages 2 --bootstrap-server localhost:9092 2>/dev/null",
        );
        assert_eq!(read, "This is my first event\nThis is my second event\n");
        assert!(server.terminate(MINUTE).success(), "{}", server.output());
        fs::remove_dir_all(terminal.folder.path().join("data")).expect("it is there");
    }
}

fn dev(_: &mut Bench) {
    let Some(mut terminal) = Terminal::open() else {
        return;
    };
    terminal.instead = vec![("9092", port_for_dev().to_string())];
    let words = "bin/millrace-run dev --port 9092 --data data --fresh";
    let cluster = terminal.start(words, "Ctrl-C ends the cluster");
    let mut cluster = EndedWell(cluster);
    assert!(cluster.0.output().contains("bootstrap.servers=localhost:"));
    topics(&terminal, "--partitions 3 --replication-factor 2");
    keyed_records(&terminal);
    delete(&terminal);
    let ended = cluster.0.terminate(MINUTE);
    assert!(ended.success(), "{}", cluster.0.output());
}

/// Ends its brokers with it also when the test fails, which a plain kill would not.
struct EndedWell(Process);

impl Drop for EndedWell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = catch_unwind(AssertUnwindSafe(|| self.0.terminate(MINUTE)));
        }
    }
}

/// A port that is free with all that `dev` derives from it.
fn port_for_dev() -> u16 {
    wait::until("nine free ports", MINUTE, || {
        let first = ports::free();
        let used = [0, 10_000, 20_000].into_iter().flat_map(|from| {
            let first = first + from;
            first..first + 3
        });
        let mut taken = used.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_err());
        match taken.next() {
            None => Ok(first),
            Some(port) => Err(format!("{port} is taken")),
        }
    })
}

fn topics(terminal: &Terminal, size: &str) {
    let create = format!(
        "bin/kafka-topics.sh --create --topic keyed {size} --bootstrap-server localhost:9092"
    );
    assert_eq!(terminal.run(&create), "Created topic keyed.\n");
    let other = "bin/kafka-topics.sh --create --topic other --bootstrap-server localhost:9092";
    terminal.run(other);
    let listed = terminal.run("bin/kafka-topics.sh --list --bootstrap-server localhost:9092");
    assert_eq!(listed, "keyed\nother\n");
    let described = terminal
        .run("bin/kafka-topics.sh --describe --topic keyed --bootstrap-server localhost:9092");
    assert!(described.contains("PartitionCount: 3"), "{described}");
    assert_eq!(described.matches("Partition: ").count(), 3, "{described}");
}

fn keyed_records(terminal: &Terminal) {
    terminal.run(
        "printf 'a:1\\nb:2\\na:3\\n' | bin/kafka-console-producer.sh --broker-list localhost:9092 \
         --topic keyed --property parse.key=true --property key.separator=:",
    );
    let read = terminal.run(
        "bin/kafka-console-consumer.sh --bootstrap-server localhost:9092 --topic keyed \
         --from-beginning --property print.key=true --max-messages 3 2>/dev/null",
    );
    let of = |key: &str| read.lines().filter(|line| line.starts_with(key)).count();
    assert_eq!(
        (of("a\t"), of("b\t"), read.lines().count()),
        (2, 1, 3),
        "{read}"
    );
    let place = |line: &str| {
        read.find(line)
            .unwrap_or_else(|| panic!("no {line} in {read}"))
    };
    assert!(place("a\t1") < place("a\t3"), "{read}");
}

fn delete(terminal: &Terminal) {
    terminal.run("bin/kafka-topics.sh --delete --topic other --bootstrap-server localhost:9092");
    wait::until("the topic to be gone", Duration::from_secs(20), || {
        let listed = terminal.run("bin/kafka-topics.sh --list --bootstrap-server localhost:9092");
        match listed == "keyed\n" {
            true => Ok(()),
            false => Err(listed),
        }
    });
}
