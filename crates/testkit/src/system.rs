//! The two systems that the harness can drive: Millrace, and the stock Kafka it is compared with.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands behind the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// Our binary.
    Millrace {
        /// The `millrace` executable.
        binary: PathBuf,
    },
    /// Kafka's own classes, run by `tests/compat/kit/run-class`.
    Stock {
        /// The folder of the kit.
        kit: PathBuf,
    },
}

impl System {
    /// `MILLRACE_TEST_SYSTEM=stock` picks stock Kafka; otherwise the binary is `MILLRACE_BIN`, by
    /// default `target/release/millrace` of this repository.
    ///
    /// # Panics
    /// When there is no such binary.
    pub fn from_environment() -> System {
        match std::env::var("MILLRACE_TEST_SYSTEM").as_deref() {
            Ok("stock") => System::stock(),
            Ok("millrace") | Err(_) => System::millrace(),
            Ok(other) => panic!("MILLRACE_TEST_SYSTEM is '{other}'; it may be stock or millrace"),
        }
    }

    /// Our own brokers.
    ///
    /// # Panics
    /// When the binary is not there.
    pub fn millrace() -> System {
        let default = || top().join("target/release/millrace");
        let binary = std::env::var_os("MILLRACE_BIN").map_or_else(default, PathBuf::from);
        assert!(
            binary.is_file(),
            "no binary at {}; `cargo build --release` or tests/run makes it",
            binary.display()
        );
        System::Millrace { binary }
    }

    /// Stock Kafka.
    pub fn stock() -> System {
        System::Stock { kit: kit() }
    }

    /// Whether these are our own brokers.
    pub fn is_millrace(&self) -> bool {
        matches!(self, System::Millrace { .. })
    }

    /// The command that formats the directories of `properties`. Stock Kafka is told of the first
    /// voters here (a node that is none of them gets none), since only so its quorum has directory
    /// ids; ours knows them by `controller.quorum.voters`.
    pub fn format(&self, properties: &Path, cluster_id: &str, voters: Option<&str>) -> Command {
        let mut command = match self {
            System::Millrace { binary } => Command::new(binary),
            System::Stock { .. } => self.class("kafka.tools.StorageTool"),
        };
        command
            .args(["format", "-t", cluster_id, "--ignore-formatted", "-c"])
            .arg(properties);
        if !self.is_millrace() {
            match voters {
                Some(voters) => command.args(["--initial-controllers", voters]),
                None => command.arg("--no-initial-controllers"),
            };
        }
        command
    }

    /// The command that runs one broker in the foreground.
    pub fn broker(&self, properties: &Path) -> Command {
        match self {
            System::Millrace { binary } => {
                let mut command = Command::new(binary);
                command.arg("start").arg(properties);
                command
            }
            System::Stock { kit } => {
                let log4j = kit.join("server-log4j2.yaml");
                let mut command = self.class("kafka.Kafka");
                command.arg(properties);
                if std::env::var_os("KAFKA_HEAP_OPTS").is_none() {
                    command.env("KAFKA_HEAP_OPTS", "-Xms256m -Xmx512m");
                }
                command.env("KAFKA_JVM_PERFORMANCE_OPTS", "-XX:+UseG1GC");
                command.env(
                    "KAFKA_LOG4J_OPTS",
                    format!("-Dlog4j2.configurationFile={}", log4j.display()),
                );
                command
            }
        }
    }

    fn class(&self, name: &str) -> Command {
        let mut command = Command::new(kit().join("run-class"));
        command.arg(name);
        command
    }
}

/// The top of this repository.
pub fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("the crate lies two folders deep")
        .to_owned()
}

/// The kit of stock Kafka.
pub fn kit() -> PathBuf {
    top().join("tests/compat/kit")
}
