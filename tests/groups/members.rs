//! Members of a group: processes of stock clients that say what they do.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use millrace_testkit::{Process, process, system};
use tempfile::NamedTempFile;

use super::local::LocalMember;

/// Whose client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The stock Java client.
    Java,
    /// librdkafka, by confluent-kafka.
    Confluent,
    /// kafka-python.
    KafkaPython,
    /// librdkafka in this very process, where nothing is killed.
    Local,
}

/// How a group shares its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The classic protocol; everything is given up in a rebalance.
    Eager,
    /// The classic protocol; only what moves is given up (KIP-429).
    Cooperative,
    /// The coordinator shares (KIP-848).
    Consumer,
}

impl Protocol {
    fn word(self) -> &'static str {
        match self {
            Protocol::Eager => "eager",
            Protocol::Cooperative => "cooperative",
            Protocol::Consumer => "consumer",
        }
    }
}

/// Some members of a group that live and die together.
pub struct Members {
    kind: Kind,
}

enum Kind {
    Process {
        process: Process,
        count: u32,
        // Removed when this is.
        _log: NamedTempFile,
    },
    Local(Vec<LocalMember>),
    Ended(Said),
}

/// What members have said so far.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Partition and offset of each record that was read.
    pub read: Vec<(i32, i64)>,
    /// Partition, offset and time of each commit that was acknowledged.
    pub commits: Vec<(i32, i64, u64)>,
    /// How many partitions are owned, each time that changed.
    pub owned: Vec<usize>,
}

impl Members {
    /// Starts so many members; `names` are bootstrap, topic and group.
    pub fn start(
        client: Client,
        names: [&str; 3],
        protocol: Protocol,
        first: u32,
        count: u32,
    ) -> Members {
        let [bootstrap, topic, group] = names;
        let mut command = match client {
            Client::Java => java(),
            Client::Confluent => python("confluent"),
            Client::KafkaPython => python("kafka-python"),
            Client::Local => {
                let start = |_| LocalMember::start(bootstrap, topic, group, protocol);
                let members = (0..count).map(start).collect();
                return Members {
                    kind: Kind::Local(members),
                };
            }
        };
        command
            .args(names)
            .arg(protocol.word())
            .args([first.to_string(), count.to_string()]);
        let log = NamedTempFile::new().expect("a temporary file");
        Members {
            kind: Kind::Process {
                process: Process::start(command, log.path()),
                count,
                _log: log,
            },
        }
    }

    /// Kills the process; threads of this one cannot be.
    ///
    /// # Panics
    /// Where there is none.
    pub fn kill(&mut self) {
        match &mut self.kind {
            Kind::Process { process, .. } => process.kill(),
            _ => panic!("only a process can be killed"),
        };
        self.kind = Kind::Ended(self.said());
    }

    /// Ends the members; they leave their group.
    ///
    /// # Panics
    /// When they do not end.
    pub fn stop(&mut self) {
        if let Kind::Process { process, .. } = &mut self.kind {
            process.terminate(Duration::from_secs(30));
            let said = process.output();
            let end = process::tail(&said, 20);
            assert!(said.contains("bye"), "a member ended early:\n{end}");
        }
        let said = match &mut self.kind {
            Kind::Local(members) => {
                let mut all = Said::default();
                for member in members.drain(..) {
                    all.add(member.finish());
                }
                all
            }
            _ => self.said(),
        };
        self.kind = Kind::Ended(said);
    }

    /// How many partitions its members own, if that can be told: of one member.
    pub fn owned(&self) -> usize {
        self.said().owned.iter().sum()
    }

    /// How many of its members own something.
    pub fn owners(&self) -> usize {
        self.said().owned.iter().filter(|owned| **owned > 0).count()
    }

    /// The last lines it said.
    pub fn tail(&self, lines: usize) -> String {
        match &self.kind {
            Kind::Process { process, .. } => process::tail(&process.output(), lines),
            _ => String::new(),
        }
    }

    /// What they have read and committed.
    pub fn said(&self) -> Said {
        match &self.kind {
            Kind::Process { process, count, .. } => Said::of_lines(&process.output(), *count),
            Kind::Local(members) => {
                let mut all = Said::default();
                for member in members {
                    all.add(member.said());
                }
                all
            }
            Kind::Ended(said) => said.clone(),
        }
    }
}

impl Said {
    fn add(&mut self, other: Said) {
        self.read.extend(other.read);
        self.commits.extend(other.commits);
        self.owned.extend(other.owned);
    }

    fn of_lines(output: &str, members: u32) -> Said {
        let mut said = Said {
            owned: vec![0; members as usize],
            ..Said::default()
        };
        for line in output.lines() {
            let mut words = line.split(' ');
            let kind = words.next();
            let numbers: Vec<i64> = words.filter_map(|word| word.parse().ok()).collect();
            match (kind, &numbers[..]) {
                (Some("r"), [partition, offset]) => said.read.push((*partition as i32, *offset)),
                (Some("c"), [partition, offset, at]) => {
                    said.commits.push((*partition as i32, *offset, *at as u64));
                }
                (Some("a"), [member, owned]) => {
                    if let Some(known) = said.owned.get_mut(*member as usize) {
                        *known = *owned as usize;
                    }
                }
                _ => {}
            }
        }
        said
    }
}

fn python(client: &str) -> Command {
    let python = std::env::var_os("MILLRACE_TEST_PYTHON").map(PathBuf::from);
    let python = python.expect("MILLRACE_TEST_PYTHON names the interpreter; tests/run sets it");
    let mut command = Command::new(python);
    let script = system::top().join("tests/compat/python/group_member.py");
    command.arg(script).arg(client);
    command
}

fn java() -> Command {
    let mut command = Command::new(system::kit().join("run-class"));
    command.arg("GroupMember");
    command.env("CLASSPATH", system::top().join("target/test-classes"));
    command.env("KAFKA_HEAP_OPTS", "-Xmx256M");
    command.env("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseSerialGC");
    command
}
