//! The stock tools: one JVM that runs them one after the other (`java/ToolServer.java`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use millrace_testkit::process::output_within;
use millrace_testkit::system;

use crate::golden::base64;

/// How long one tool may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How long the jars may take to arrive, if they are not there yet.
const FETCHING: Duration = Duration::from_secs(600);

/// What a tool printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Printed {
    /// The same, wanting status 0.
    pub fn expect_success(self) -> Printed {
        assert_eq!(self.status, 0, "{}{}", self.output, self.errors);
        self
    }
}

/// The class behind the stock name of a tool, as the scripts of the release have it.
pub fn class_of(tool: &str) -> &'static str {
    match tool {
        "kafka-topics.sh" => "org.apache.kafka.tools.TopicCommand",
        "kafka-configs.sh" => "kafka.admin.ConfigCommand",
        "kafka-get-offsets.sh" => "org.apache.kafka.tools.GetOffsetShell",
        "kafka-metadata-quorum.sh" => "org.apache.kafka.tools.MetadataQuorumCommand",
        "kafka-leader-election.sh" => "org.apache.kafka.tools.LeaderElectionCommand",
        "kafka-reassign-partitions.sh" => {
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
        }
        "kafka-log-dirs.sh" => "org.apache.kafka.tools.LogDirsCommand",
        "kafka-broker-api-versions.sh" => "org.apache.kafka.tools.BrokerApiVersionsCommand",
        "kafka-consumer-groups.sh" => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "kafka-groups.sh" => "org.apache.kafka.tools.GroupsCommand",
        "kafka-dump-log.sh" => "org.apache.kafka.tools.DumpLogSegments",
        "kafka-cluster.sh" => "org.apache.kafka.tools.ClusterTool",
        "kafka-features.sh" => "org.apache.kafka.tools.FeatureCommand",
        "kafka-console-producer.sh" => "org.apache.kafka.tools.ConsoleProducer",
        "kafka-console-consumer.sh" => "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "kafka-producer-perf-test.sh" => "org.apache.kafka.tools.ProducerPerformance",
        "kafka-verifiable-producer.sh" => "org.apache.kafka.tools.VerifiableProducer",
        other => panic!("no class known for {other}"),
    }
}

/// The JVM.
pub struct Tools {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl Tools {
    /// Compiles the server and starts it.
    ///
    /// # Panics
    /// When there is no JDK or no kit; tests/run sets both up.
    pub fn start() -> Tools {
        let classes = system::top().join("target/test-classes");
        let sources = ["ToolServer", "GroupMember"]
            .map(|class| system::top().join(format!("tests/compat/java/{class}.java")));
        let libs = libs();
        let mut compile = Command::new("javac");
        compile
            .args(["-cp", &format!("{libs}/*"), "-d"])
            .arg(&classes)
            .args(&sources);
        let compiled = output_within(compile, LIMIT);
        assert!(
            compiled.status.success(),
            "javac could not compile the tool server: {}",
            String::from_utf8_lossy(&compiled.stderr)
        );
        let mut child = Command::new(system::kit().join("run-class"))
            .arg("ToolServer")
            .env("CLASSPATH", &classes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the kit can be run");
        let requests = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Tools {
            child,
            requests,
            answers,
        }
    }

    /// Runs a tool to its end.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn run(&mut self, tool: &str, arguments: &[&str]) -> Printed {
        let mut request = class_of(tool).to_owned();
        for argument in arguments.iter().filter(|argument| !argument.is_empty()) {
            request += &format!(" ={}", base64::encode(argument.as_bytes()));
        }
        writeln!(self.requests, "{request}").expect("the tools' JVM is there");
        let answer = self.answers.recv_timeout(LIMIT);
        let answer =
            answer.unwrap_or_else(|_| panic!("{tool} {arguments:?} gave no answer in {LIMIT:?}"));
        let mut parts = answer.split(' ');
        let status = parts.next().and_then(|status| status.parse().ok());
        let mut text = || {
            let encoded = parts
                .next()
                .and_then(|part| part.strip_prefix('='))
                .unwrap_or_default();
            String::from_utf8_lossy(&base64::decode(encoded)).into_owned()
        };
        Printed {
            status: status.unwrap_or_else(|| panic!("no status in {answer:.200}")),
            output: text(),
            errors: text(),
        }
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of the kit's jars.
fn libs() -> String {
    let output = output_within(Command::new(system::kit().join("fetch")), FETCHING);
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        !path.is_empty(),
        "no stock jars: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}
