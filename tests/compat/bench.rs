//! What all cases share: the cluster, the tools, the golden files.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use millrace_testkit::admin::NewTopic;
use millrace_testkit::{Cluster, Options, Process, system};

use crate::golden::Golden;
use crate::tools::{Printed, Tools};

/// How long things may take on a busy machine.
pub const MINUTE: Duration = Duration::from_secs(60);

/// A cluster of three with everything to try on it.
pub struct Bench {
    /// Three brokers.
    pub cluster: Cluster,
    tools: Tools,
    golden: Golden,
}

impl Bench {
    /// Starts the cluster and the JVM for the tools.
    pub fn start() -> Bench {
        let cluster = Cluster::start(&Options::three());
        Bench {
            tools: Tools::start(),
            golden: Golden::of(&cluster),
            cluster,
        }
    }

    /// Keeps the directories of the cluster for a look, or not.
    pub fn keep_if(&mut self, keep: bool) {
        self.cluster.keep_if(keep);
    }

    /// The address of all three brokers.
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap()
    }

    /// Runs a stock tool with `--bootstrap-server` and these arguments.
    pub fn run(&mut self, tool: &str, arguments: &str) -> Printed {
        let all = format!("--bootstrap-server {} {arguments}", self.bootstrap());
        self.tools.run(tool, &all.split(' ').collect::<Vec<_>>())
    }

    /// Runs a stock tool with these arguments only.
    pub fn run_bare(&mut self, tool: &str, arguments: &[&str]) -> Printed {
        self.tools.run(tool, arguments)
    }

    /// The same as [`Bench::run`], and wants what stock Kafka printed.
    ///
    /// # Panics
    /// When it differs; the message shows both.
    pub fn same(&mut self, case: &str, tool: &str, arguments: &str) -> Printed {
        // A change is known to the broker that took it; the one that is asked next hears of it a
        // moment later. So whoever only looks may look again.
        let looks = ["--describe", "--list", "--time", "describe"];
        let looks = looks.iter().any(|word| arguments.contains(word));
        let tries = if looks && !self.golden.writes() {
            20
        } else {
            1
        };
        if looks && self.golden.writes() {
            std::thread::sleep(Duration::from_secs(2));
        }
        let command = format!("{tool} {arguments}");
        let mut printed = self.run(tool, arguments);
        for _ in 1..tries {
            if self.golden.agrees(case, &command, &printed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
            printed = self.run(tool, arguments);
        }
        self.golden.check(case, &command, &printed);
        printed
    }

    /// Wants from a tool of our own what the stock tool printed on standard output.
    pub fn same_output(&mut self, case: &str, output: &str) {
        self.golden.check_output(case, output);
    }

    /// Wants what stock Kafka printed from something that is already run and made alike.
    pub fn same_text(&mut self, case: &str, command: &str, printed: &Printed) {
        self.golden.check(case, command, printed);
    }

    /// Whether stock Kafka printed the same; always while the golden files are written.
    pub fn agrees(&self, case: &str, command: &str, printed: &Printed) -> bool {
        self.golden.writes() || self.golden.agrees(case, command, printed)
    }

    /// Makes a topic by a plain request and waits until it is there.
    pub fn make_topic(&self, name: &str, assignment: Vec<Vec<i32>>, configs: Vec<(&str, &str)>) {
        let topic = NewTopic {
            name,
            partitions: assignment.len() as i32,
            replication: 3,
            assignment,
            configs,
        };
        let made = self.cluster.admin().create_topic(&topic);
        made.expect("a live cluster makes topics");
        self.cluster.wait_in_sync(name, MINUTE);
    }

    /// A stock tool in a JVM of its own, as a person would start it.
    pub fn own_jvm(&self, tool: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(system::kit().join("run-class"));
        command.arg(crate::tools::class_of(tool)).args(arguments);
        command.env("KAFKA_HEAP_OPTS", "-Xmx512M");
        command.env("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseSerialGC");
        command
    }

    /// Runs one of the Python scripts beside these files; its output.
    ///
    /// # Panics
    /// When it ends with another status than 0.
    pub fn python(&self, script: &str, arguments: &[&str]) -> String {
        let python = std::env::var_os("MILLRACE_TEST_PYTHON").map(PathBuf::from);
        let python = python.expect("MILLRACE_TEST_PYTHON names the interpreter; tests/run sets it");
        let path = system::top().join("tests/compat/python").join(script);
        let mut command = Command::new(python);
        command.arg(path).arg(self.bootstrap()).args(arguments);
        finish(command, MINUTE * 2)
    }
}

/// Runs a command to its end within `limit`; its output, both streams.
///
/// # Panics
/// When it takes longer or ends with another status than 0.
pub fn finish(command: Command, limit: Duration) -> String {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let said = format!("{command:?}");
    let mut process = Process::start(command, log.path());
    let status = process.wait(limit);
    let output = process.output();
    assert!(
        status.is_some_and(|status| status.success()),
        "{said:.300} ended with {status:?}:\n{output}"
    );
    output
}
