//! `millrace dev`: a cluster on this machine in one command, one process a broker.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// What a broker prints when it serves clients.
const READY: &str = "Kafka Server started";
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// From a broker's client port to its controller port and to its HTTP port.
const CONTROLLER_PORTS_FROM: u16 = 10_000;
const HTTP_PORTS_FROM: u16 = 20_000;

/// Start a cluster on this machine, for development.
#[derive(Args, Debug)]
pub struct DevArgs {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// The first broker's port; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1024..=40000))]
    port: u16,
    /// Where the data lie [default: millrace-dev in the user's data directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Begin with empty data
    #[arg(long)]
    fresh: bool,
}

/// Runs the command: until it is interrupted, or every broker has ended.
pub async fn run(args: DevArgs) -> Result<(), Failure> {
    let directory = args.data.clone().map_or_else(default_directory, Ok)?;
    for index in 1..=args.nodes {
        check_port(args.client_port(index))?;
        check_port(args.client_port(index) + CONTROLLER_PORTS_FROM)?;
        check_port(args.client_port(index) + HTTP_PORTS_FROM)?;
    }
    if args.fresh && directory.join("cluster-id").exists() {
        std::fs::remove_dir_all(&directory).map_err(|e| at(&directory, &e))?;
    }
    std::fs::create_dir_all(&directory).map_err(|e| at(&directory, &e))?;
    let cluster_id = cluster_id(&directory, args.nodes)?;
    println!(
        "Starting {} broker(s); data in {}",
        args.nodes,
        directory.display()
    );
    let mut brokers = Vec::new();
    for index in 1..=args.nodes {
        brokers.push(launch(&args, index, &directory, &cluster_id).await?);
    }
    for broker in &mut brokers {
        broker.await_ready(&directory).await?;
    }
    explain(&args, &brokers);
    watch(brokers).await
}

impl DevArgs {
    fn client_port(&self, index: u16) -> u16 {
        self.port + index - 1
    }

    fn bootstrap(&self) -> String {
        let each = (1..=self.nodes).map(|index| format!("localhost:{}", self.client_port(index)));
        each.collect::<Vec<_>>().join(",")
    }

    fn properties(&self, index: u16, directory: &Path) -> String {
        let voters = (1..=self.nodes).map(|i| {
            format!(
                "{i}@localhost:{}",
                self.client_port(i) + CONTROLLER_PORTS_FROM
            )
        });
        let client = self.client_port(index);
        let replicas = self.nodes.min(3);
        let in_sync = self.nodes.min(2);
        format!(
            "process.roles=broker,controller\nnode.id={index}\n\
             controller.quorum.voters={}\n\
             listeners=PLAINTEXT://localhost:{client},CONTROLLER://localhost:{}\n\
             advertised.listeners=PLAINTEXT://localhost:{client}\n\
             inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n\
             default.replication.factor={replicas}\nmin.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\n\
             group.initial.rebalance.delay.ms=0\n\
             millrace.http.listener=127.0.0.1:{}\n",
            voters.collect::<Vec<_>>().join(","),
            client + CONTROLLER_PORTS_FROM,
            directory.join(format!("broker-{index}/data")).display(),
            client + HTTP_PORTS_FROM,
        )
    }
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn default_directory() -> Result<PathBuf, Failure> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    let data =
        data.ok_or_else(|| Failure::new("there is no home directory; name one with --data"))?;
    Ok(data.join("millrace-dev"))
}

fn check_port(port: u16) -> Result<(), Failure> {
    TcpListener::bind(("127.0.0.1", port))
        .map(drop)
        .map_err(|error| {
            Failure::new(format!(
                "port {port} cannot be used: {error}; choose others with --port"
            ))
        })
}

/// The id of the cluster in this directory, which must have as many brokers as are asked for now.
fn cluster_id(directory: &Path, nodes: u16) -> Result<String, Failure> {
    let file = directory.join("cluster-id");
    if let Ok(known) = std::fs::read_to_string(&file) {
        let mut words = known.split_whitespace();
        let (id, count) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if count != nodes.to_string() {
            return Err(Failure::new(format!(
                "{} holds a cluster of {count} broker(s), not {nodes}: use --fresh to replace it, or \
                 another --data",
                directory.display()
            )));
        }
        return Ok(id.to_owned());
    }
    let id = millrace_client::this_machine().random.uuid().to_string();
    std::fs::write(&file, format!("{id} {nodes}\n")).map_err(|e| at(&file, &e))?;
    Ok(id)
}

struct Broker {
    index: u16,
    properties: PathBuf,
    process: Child,
}

async fn launch(
    args: &DevArgs,
    index: u16,
    directory: &Path,
    cluster_id: &str,
) -> Result<Broker, Failure> {
    let home = directory.join(format!("broker-{index}"));
    std::fs::create_dir_all(&home).map_err(|e| at(&home, &e))?;
    let properties = home.join("server.properties");
    std::fs::write(&properties, args.properties(index, directory))
        .map_err(|e| at(&properties, &e))?;
    let binary = std::env::current_exe()?;
    let formatted = Command::new(&binary)
        .args(["format", "--ignore-formatted", "-t", cluster_id, "-c"])
        .arg(&properties)
        .stdout(Stdio::null())
        .output()
        .await?;
    if !formatted.status.success() {
        let why = String::from_utf8_lossy(&formatted.stderr).trim().to_owned();
        return Err(Failure::new(format!(
            "broker {index} could not be formatted: {why}"
        )));
    }
    let log = home.join("output");
    let output = std::fs::File::create(&log).map_err(|e| at(&log, &e))?;
    let process = Command::new(&binary)
        .arg("start")
        .arg(&properties)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()?;
    Ok(Broker {
        index,
        properties,
        process,
    })
}

impl Broker {
    /// Waits until the broker says that it serves clients.
    async fn await_ready(&mut self, directory: &Path) -> Result<(), Failure> {
        let log = directory.join(format!("broker-{}/output", self.index));
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            if says_ready(&log).await? {
                return Ok(());
            }
            let ended = self.process.try_wait()?;
            if ended.is_some() || tokio::time::Instant::now() >= deadline {
                let what = if ended.is_some() {
                    "ended"
                } else {
                    "is not ready"
                };
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().last().unwrap_or_default();
                return Err(Failure::new(format!(
                    "broker {} {what}: {last} (see {})",
                    self.index,
                    log.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn ask_to_stop(&self) {
        let pid = self
            .process
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

async fn says_ready(log: &Path) -> Result<bool, Failure> {
    let file = tokio::fs::File::open(log).await.map_err(|e| at(log, &e))?;
    let mut lines = BufReader::new(file).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains(READY) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn explain(args: &DevArgs, brokers: &[Broker]) {
    for broker in brokers {
        println!(
            "  broker {} at localhost:{}, process {}, metrics at http://localhost:{}/metrics",
            broker.index,
            args.client_port(broker.index),
            broker.process.id().unwrap_or_default(),
            args.client_port(broker.index) + HTTP_PORTS_FROM,
        );
    }
    let bootstrap = args.bootstrap();
    let replicas = args.nodes.min(3);
    let command = std::env::args()
        .next()
        .unwrap_or_else(|| "millrace".to_owned());
    println!(
        "\nReady: bootstrap.servers={bootstrap}\n\nTry, in another terminal:\n  \
         {command} topics --bootstrap-server localhost:{port} --create --topic orders --partitions 3 \
         --replication-factor {replicas}\n  \
         {command} produce --bootstrap-server localhost:{port} --topic orders\n  \
         {command} consume --bootstrap-server localhost:{port} --topic orders --from-beginning\n  \
         {command} topics --bootstrap-server localhost:{port} --describe --topic orders",
        port = args.port,
    );
    if let [_, second, ..] = brokers {
        println!(
            "\nThen kill a broker and watch another lead its partitions:\n  kill -9 {}\n  {command} start {}",
            second.process.id().unwrap_or_default(),
            second.properties.display(),
        );
    }
    println!("\nCtrl-C ends the cluster; the data stay.");
}

async fn watch(mut brokers: Vec<Broker>) -> Result<(), Failure> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    while !brokers.is_empty() {
        let ended = async {
            let waits = brokers
                .iter_mut()
                .map(|broker| Box::pin(broker.process.wait()));
            futures::future::select_all(waits).await
        };
        let ended = tokio::select! {
            biased;
            _ = interrupted.recv() => None,
            _ = terminated.recv() => None,
            (status, place, _) = ended => Some((status, place)),
        };
        let Some((status, place)) = ended else {
            return stop(brokers).await;
        };
        let broker = brokers.remove(place);
        println!(
            "broker {} ended ({}); the others go on",
            broker.index, status?
        );
    }
    Err(Failure::new("every broker has ended"))
}

async fn stop(mut brokers: Vec<Broker>) -> Result<(), Failure> {
    println!("Stopping ...");
    brokers.iter().for_each(Broker::ask_to_stop);
    let deadline = tokio::time::Instant::now() + STOP_LIMIT;
    for broker in &mut brokers {
        if tokio::time::timeout_at(deadline, broker.process.wait())
            .await
            .is_err()
        {
            println!(
                "broker {} did not hand over in time and is killed",
                broker.index
            );
            broker.process.kill().await?;
        }
    }
    Ok(())
}
