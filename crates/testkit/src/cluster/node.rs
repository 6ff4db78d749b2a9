//! One node of a cluster: its directory, its properties and its process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Options, fresh_id, listener_port};
use crate::admin::NodeId;
use crate::process::{output_within, tail};
use crate::{Links, Process, Properties, System, wait};

/// How long a directory may take to be formatted; stock Kafka starts a JVM for it.
const FORMAT_LIMIT: Duration = Duration::from_secs(120);

/// What all nodes share, worked out before the first is made.
pub struct Layout<'a> {
    options: &'a Options,
    folder: &'a Path,
    links: &'a Links,
    ports: BTreeMap<NodeId, Ports>,
    /// The voters with their directory ids, for stock Kafka.
    initial_controllers: String,
}

#[derive(Clone, Copy)]
struct Ports {
    client: u16,
    internal: u16,
    controller: u16,
    /// How peers reach the two listeners between nodes: the same ports, or the proxies'.
    internal_seen: u16,
    controller_seen: u16,
}

impl<'a> Layout<'a> {
    /// Picks ports and, if asked for, puts the proxies before them.
    pub fn of(options: &'a Options, folder: &'a Path, links: &'a Links) -> Layout<'a> {
        let mut ports = BTreeMap::new();
        for id in 1..=options.nodes as NodeId {
            let [client, internal, controller] = [(); 3].map(|()| listener_port());
            let [mut internal_seen, mut controller_seen] = [internal, controller];
            if options.proxied {
                [internal_seen, controller_seen] = [(); 2].map(|()| listener_port());
                links.proxy(id, internal_seen, internal);
                links.proxy(id, controller_seen, controller);
            }
            let all = Ports {
                client,
                internal,
                controller,
                internal_seen,
                controller_seen,
            };
            ports.insert(id, all);
        }
        let mut layout = Layout {
            options,
            folder,
            links,
            ports,
            initial_controllers: String::new(),
        };
        let with_directory = |voter: &String| format!("{voter}:{}", fresh_id());
        let voters: Vec<String> = layout.voters().iter().map(with_directory).collect();
        layout.initial_controllers = voters.join(",");
        layout
    }

    /// Each voter as `id@host:port`.
    fn voters(&self) -> Vec<String> {
        let voters = self.ports.iter().filter(|(id, _)| self.is_controller(**id));
        let address =
            |(id, ports): (&NodeId, &Ports)| format!("{id}@127.0.0.1:{}", ports.controller_seen);
        voters.map(address).collect()
    }

    fn is_controller(&self, id: NodeId) -> bool {
        id as usize <= self.options.controllers.unwrap_or(self.options.nodes)
    }

    fn properties(&self, id: NodeId, data: &str) -> Properties {
        let ports = self.ports[&id];
        let brokers = self.options.nodes;
        let factor = brokers.min(3);
        let in_sync = brokers.min(2);
        let mut listeners = format!(
            "PLAINTEXT://127.0.0.1:{},INTERNAL://127.0.0.1:{}",
            ports.client, ports.internal
        );
        let mut roles = "broker";
        if self.is_controller(id) {
            roles = "broker,controller";
            listeners += &format!(",CONTROLLER://127.0.0.1:{}", ports.controller);
        }
        let advertised = format!(
            "PLAINTEXT://127.0.0.1:{},INTERNAL://127.0.0.1:{}",
            ports.client, ports.internal_seen
        );
        let protocols = "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT";
        let mut properties = Properties::new()
            .with("process.roles", roles)
            .with("node.id", id)
            .with("listeners", listeners)
            .with("advertised.listeners", advertised)
            .with("inter.broker.listener.name", "INTERNAL")
            .with("controller.listener.names", "CONTROLLER")
            .with("listener.security.protocol.map", protocols)
            .with("log.dirs", data)
            .with("default.replication.factor", factor)
            .with("min.insync.replicas", in_sync)
            .with("offsets.topic.replication.factor", factor)
            .with("transaction.state.log.replication.factor", factor)
            .with("transaction.state.log.min.isr", in_sync)
            .with("share.coordinator.state.topic.replication.factor", factor)
            .with("share.coordinator.state.topic.min.isr", in_sync)
            .with("group.initial.rebalance.delay.ms", 0)
            .with("group.consumer.min.session.timeout.ms", 6_000)
            .with("group.consumer.session.timeout.ms", 6_000)
            .with("group.consumer.min.heartbeat.interval.ms", 500)
            .with("group.consumer.heartbeat.interval.ms", 500);
        if self.options.system.is_millrace() {
            properties.set("controller.quorum.voters", self.voters().join(","));
        } else {
            let voters = self.voters();
            let addresses = voters
                .iter()
                .filter_map(|voter| Some(voter.split_once('@')?.1));
            let addresses: Vec<&str> = addresses.collect();
            properties.set("controller.quorum.bootstrap.servers", addresses.join(","));
            // Stock Kafka tells the voters' addresses from the advertised ones.
            if self.is_controller(id) {
                let advertised = properties.get("advertised.listeners").unwrap_or_default();
                let seen = ports.controller_seen;
                let advertised = format!("{advertised},CONTROLLER://127.0.0.1:{seen}");
                properties.set("advertised.listeners", advertised);
            }
        }
        properties.merge(&self.options.properties);
        properties
    }
}

/// One broker: stopped, running or paused.
pub struct Node {
    id: NodeId,
    ports: Ports,
    folder: PathBuf,
    data: PathBuf,
    more_data: Vec<PathBuf>,
    properties: Properties,
    system: System,
    links: Links,
    process: Option<Process>,
    paused: bool,
    started: Instant,
    ready_after: Option<Duration>,
    initial_controllers: Option<String>,
}

impl Node {
    /// Makes the directory and writes the properties.
    pub fn lay_out(layout: &Layout<'_>, id: NodeId) -> Node {
        let folder = layout.folder.join(format!("node-{id}"));
        fs::create_dir_all(&folder).expect("the cluster's directory is ours");
        let given = layout.options.data.get(&id);
        let data = given.cloned().unwrap_or_else(|| folder.join("data"));
        let more = layout.options.more_data.get(&id);
        let more_data = more.cloned().unwrap_or_default();
        let all = std::iter::once(&data).chain(&more_data);
        let all: Vec<String> = all.map(|path| path.display().to_string()).collect();
        let properties = layout.properties(id, &all.join(","));
        properties.write(&folder.join("server.properties"));
        Node {
            id,
            ports: layout.ports[&id],
            folder,
            data,
            more_data,
            properties,
            system: layout.options.system.clone(),
            links: layout.links.clone(),
            process: None,
            paused: false,
            started: Instant::now(),
            ready_after: None,
            initial_controllers: layout
                .is_controller(id)
                .then(|| layout.initial_controllers.clone()),
        }
    }

    /// Formats the data directory.
    ///
    /// # Panics
    /// When the command says no.
    pub fn format(&self, cluster_id: &str) {
        let command = self.format_command(cluster_id);
        let output = output_within(command, FORMAT_LIMIT);
        assert!(
            output.status.success(),
            "formatting node {} ended with {}: {}{}",
            self.id,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The command that formats the data directory.
    pub fn format_command(&self, cluster_id: &str) -> Command {
        let voters = self.initial_controllers.as_deref();
        self.system
            .format(&self.properties_file(), cluster_id, voters)
    }

    /// Its number.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The port for clients.
    pub fn client_port(&self) -> u16 {
        self.ports.client
    }

    /// The port of the listener between controllers.
    pub fn controller_port(&self) -> u16 {
        self.ports.controller
    }

    /// The first of `log.dirs`, where the metadata is.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where this node has a partition of this name, `topic-0` for instance; where it would be in
    /// the first of its directories if it is in none.
    pub fn partition(&self, name: &str) -> PathBuf {
        let all = std::iter::once(&self.data).chain(&self.more_data);
        let mut places = all.map(|path| path.join(name));
        let found = places.find(|path| path.is_dir());
        found.unwrap_or_else(|| self.data.join(name))
    }

    /// Where `server.properties` lies.
    pub fn properties_file(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Sets a property for the next start.
    pub fn set_property(&mut self, key: &str, value: &str) {
        self.properties.set(key, value);
        self.properties.write(&self.properties_file());
    }

    /// The process id while it runs.
    ///
    /// # Panics
    /// When it does not.
    pub fn pid(&self) -> u32 {
        let process = self.process.as_ref();
        process
            .unwrap_or_else(|| panic!("node {} does not run", self.id))
            .pid()
    }

    /// Whether it was started and neither paused nor ended by the test.
    pub fn should_answer(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// Whether its process is there, paused or not.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// What it has printed since its last start.
    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    /// How long the last start took until it said that it serves.
    pub fn ready_after(&self) -> Option<Duration> {
        self.ready_after
    }

    /// Starts it without waiting.
    pub fn start(&mut self) {
        assert!(!self.is_running(), "node {} runs already", self.id);
        let log = self.folder.join("output");
        self.started = Instant::now();
        self.ready_after = None;
        let command = self.system.broker(&self.properties_file());
        let process = Process::start(command, &log);
        self.links.introduce(process.pid(), self.id);
        self.process = Some(process);
        self.paused = false;
    }

    /// Waits until it has said that it serves.
    ///
    /// # Panics
    /// When it ends before, or takes too long.
    pub fn wait_started(&mut self) {
        let limit = Duration::from_secs(if self.system.is_millrace() { 60 } else { 240 });
        let id = self.id;
        let process = self
            .process
            .as_mut()
            .unwrap_or_else(|| panic!("node {id} was not started"));
        wait::until(&format!("node {id} to start"), limit, || {
            let output = process.output();
            if output.contains("Kafka Server started") {
                return Ok(());
            }
            assert!(
                process.is_running(),
                "node {id} ended while it started; it said:\n{}",
                tail(&output, 30)
            );
            Err(tail(&output, 5))
        });
        self.ready_after = Some(self.started.elapsed());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let id = self.id;
        let process = self.process.take();
        process
            .unwrap_or_else(|| panic!("node {id} does not run"))
            .kill();
        self.paused = false;
    }

    /// SIGKILL, if there is anything to kill.
    pub fn kill_if_running(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.paused = false;
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        let id = self.id;
        let process = self.process.take();
        let mut process = process.unwrap_or_else(|| panic!("node {id} does not run"));
        process.terminate(Duration::from_secs(60))
    }

    /// Waits for it to end by itself.
    pub fn wait_ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process
            .as_mut()
            .and_then(|process| process.wait(limit))
    }

    /// Removes everything below its data directory; it must not run.
    pub fn wipe(&mut self) {
        assert!(!self.is_running(), "node {} still runs", self.id);
        for entry in fs::read_dir(&self.data).expect("the data directory is there") {
            let path = entry.expect("the data directory can be listed").path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.unwrap_or_else(|error| panic!("removing {}: {error}", path.display()));
        }
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref();
        process
            .unwrap_or_else(|| panic!("node {} does not run", self.id))
            .signal(signal);
    }
}
