//! The settings of one broker, and the table of all properties that Kafka knows.
//!
//! [`table`] says what there is; [`settings`] holds what was given, by file, environment, command
//! line and, while running, by the cluster; [`Config`] is what the broker's parts read. Topics have
//! their settings from [`topic`]; [`describe`] tells all of it to clients.

pub mod describe;
pub mod environment;
mod groups;
pub mod java_properties;
mod listeners;
mod log_settings;
pub mod rules;
pub mod settings;
pub mod table;
pub mod topic;
pub mod valid;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use millrace_metadata::Image;
use millrace_model::BrokerId;

pub use groups::{OffsetsTopic, check_group, group_settings};
pub use log_settings::{cleaner_options, leader_rate, log_settings, move_rate, rate};
pub use settings::{Settings, Sources};
use valid::split_address;

/// Why a broker cannot start with what it was told: one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// What a node does (`process.roles`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds partitions and serves clients.
    Broker,
    /// Votes in the metadata quorum.
    Controller,
}

/// A listener's name and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// For instance `PLAINTEXT` or `CONTROLLER`.
    pub name: String,
    /// A name or an address; empty for all addresses of the machine.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

/// One of `controller.quorum.voters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVoter {
    /// Its `node.id`.
    pub id: BrokerId,
    /// A name or an address.
    pub host: String,
    /// The port of its controller listener.
    pub port: u16,
}

/// What one broker was told. Values that can change while it runs are those of the moment:
/// [`Config::with_dynamic`] makes them anew.
#[derive(Clone, Debug)]
pub struct Config {
    /// `node.id`.
    pub node_id: BrokerId,
    /// Whether `process.roles` names `broker`.
    pub is_broker: bool,
    /// Whether `process.roles` names `controller`.
    pub is_controller: bool,
    /// `CLUSTER_ID` of the environment, to format with at the first start.
    pub cluster_id: Option<String>,
    /// `listeners`, in their order.
    pub listeners: Vec<Endpoint>,
    /// `advertised.listeners`, or what stands for it, the controller's listeners included; a host
    /// may be empty, for the machine's own name.
    pub advertised_listeners: Vec<Endpoint>,
    /// `inter.broker.listener.name`.
    pub inter_broker_listener: String,
    /// `controller.listener.names`.
    pub controller_listeners: Vec<String>,
    /// `controller.quorum.voters`; empty where the quorum is found by its bootstrap servers.
    pub quorum_voters: Vec<QuorumVoter>,
    /// `controller.quorum.bootstrap.servers`, as host and port.
    pub quorum_bootstrap_servers: Vec<(String, u16)>,
    /// `log.dirs`, or `log.dir`.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`, or the first of the log directories.
    pub metadata_log_dir: PathBuf,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `millrace.http.listener`, as host and port.
    pub http_listener: Option<(String, u16)>,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`.
    pub session_timeout: Duration,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max: Duration,
    /// `request.timeout.ms`: how long a request to the controller may take.
    pub request_timeout: Duration,
    /// How often leaderships are handed back to preferred leaders, if at all
    /// (`auto.leader.rebalance.enable`, `leader.imbalance.check.interval.seconds`).
    pub leader_rebalance_interval: Option<Duration>,
    /// `controlled.shutdown.enable`.
    pub controlled_shutdown: bool,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `offsets.*`.
    pub offsets: OffsetsTopic,
    /// `millrace.metrics.group.lags`: how many lags of groups this broker shows at most.
    pub shown_group_lags: usize,
    /// Whether `replica.selector.class` asks for a replica in the consumer's rack (KIP-392).
    pub rack_aware_reads: bool,
    /// Bounds on what clients may take.
    pub limits: Limits,
    /// `millrace.followed.cache.bytes`.
    pub followed_cache_bytes: u64,
    /// `millrace.tail.bytes`.
    pub tail_bytes: u64,
    /// `millrace.open.files`.
    pub open_files: usize,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads: usize,
    /// `num.replica.alter.log.dirs.threads`.
    pub moves_at_a_time: Option<usize>,
    /// The shorter of `log.flush.offset.checkpoint.interval.ms` and
    /// `log.flush.start.offset.checkpoint.interval.ms`.
    pub recovery_checkpoint_interval: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub high_watermark_checkpoint_interval: Duration,
    /// `millrace.disk.reserve.bytes`; none lets the broker choose.
    pub reserve_bytes: Option<u64>,
    /// `producer.id.expiration.ms`.
    pub producer_expiration: Duration,
    /// `millrace.scrub.bytes.per.second`.
    pub scrub_bytes_per_second: u64,
    /// `millrace.scrub.interval.ms`.
    pub scrub_interval: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `log.initial.task.delay.ms`.
    pub initial_task_delay: Duration,
    /// All values as they were given.
    pub settings: Settings,
}

/// Bounds on what clients may take of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max.connections`.
    pub connections: usize,
    /// `max.connections.per.ip`.
    pub connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`, by address.
    pub connections_per_ip_overrides: BTreeMap<IpAddr, usize>,
    /// `connections.max.idle.ms`; `None` for ever.
    pub idle: Option<Duration>,
    /// `socket.request.max.bytes`.
    pub request_bytes: usize,
    /// `fetch.max.bytes`.
    pub fetch_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions: usize,
    /// `max.request.partition.size.limit`: partitions in one DescribeTopicPartitions answer.
    pub request_partitions: usize,
}

impl Config {
    /// Reads what the sources say. Returns with it the warnings to log.
    ///
    /// # Errors
    /// One sentence, in Kafka's words where Kafka refuses the same.
    pub fn load(sources: &Sources) -> Result<(Config, Vec<String>), ConfigError> {
        let (settings, warnings) = Settings::load(sources)?;
        let cluster_id = sources.environment.cluster_id.clone();
        Ok((Config::from_settings(settings, cluster_id)?, warnings))
    }

    /// Reads the text of a server.properties alone; for tests and for `dev`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        Ok(Config::load(&Sources::of_file(text)?)?.0)
    }

    /// The same broker with what the cluster has set while it runs, for all brokers and for this.
    ///
    /// # Errors
    /// If the values do not go together; the caller keeps what it has.
    pub fn with_dynamic(
        &self,
        for_all: &BTreeMap<String, String>,
        for_this: &BTreeMap<String, String>,
    ) -> Result<Config, ConfigError> {
        let settings = self.settings.with_dynamic(for_all, for_this);
        Config::from_settings(settings, self.cluster_id.clone())
    }

    /// The same broker with what an image of the cluster has set for all brokers and for this.
    ///
    /// # Errors
    /// As [`Config::with_dynamic`].
    pub fn at_image(&self, image: &Image) -> Result<Config, ConfigError> {
        let settings = self.settings.at_image(image, Some(self.node_id));
        Config::from_settings(settings, self.cluster_id.clone())
    }

    fn from_settings(
        settings: Settings,
        cluster_id: Option<String>,
    ) -> Result<Config, ConfigError> {
        let roles = roles(&settings);
        let node_id = node_id(&settings)?;
        let quorum_voters = voters(&settings);
        check_quorum(&settings, &roles, node_id, &quorum_voters)?;
        let listeners = listeners::read(&settings, &roles)?;
        groups::check_broker(&settings)?;
        let log_dirs = log_dirs(&settings);
        let first = log_dirs.first().cloned().unwrap_or_default();
        let metadata_log_dir = settings.value("metadata.log.dir");
        let rebalance = settings.boolean("auto.leader.rebalance.enable");
        Ok(Config {
            node_id,
            is_broker: roles.contains(&Role::Broker),
            is_controller: roles.contains(&Role::Controller),
            cluster_id,
            listeners: listeners.bound,
            advertised_listeners: listeners.advertised,
            inter_broker_listener: listeners.inter_broker,
            controller_listeners: listeners.controller,
            quorum_voters,
            quorum_bootstrap_servers: settings
                .list("controller.quorum.bootstrap.servers")
                .iter()
                .filter_map(|server| split_address(server))
                .collect(),
            metadata_log_dir: metadata_log_dir.map_or(first, PathBuf::from),
            log_dirs,
            rack: settings.value("broker.rack").map(str::to_owned),
            http_listener: http_listener(&settings)?,
            heartbeat_interval: millis(&settings, "broker.heartbeat.interval.ms"),
            session_timeout: millis(&settings, "broker.session.timeout.ms"),
            replica_lag_time_max: millis(&settings, "replica.lag.time.max.ms"),
            request_timeout: millis(&settings, "request.timeout.ms"),
            leader_rebalance_interval: rebalance.then(|| {
                let name = "leader.imbalance.check.interval.seconds";
                Duration::from_secs(u64::try_from(settings.number(name)).unwrap_or(u64::MAX))
            }),
            controlled_shutdown: settings.boolean("controlled.shutdown.enable"),
            auto_create_topics: settings.boolean("auto.create.topics.enable"),
            delete_topics: settings.boolean("delete.topic.enable"),
            num_partitions: number(&settings, "num.partitions"),
            default_replication_factor: number(&settings, "default.replication.factor"),
            offsets: OffsetsTopic::of(&settings),
            shown_group_lags: number(&settings, "millrace.metrics.group.lags"),
            rack_aware_reads: rack_aware_reads(&settings)?,
            limits: limits(&settings)?,
            followed_cache_bytes: number(&settings, "millrace.followed.cache.bytes"),
            tail_bytes: number(&settings, "millrace.tail.bytes"),
            open_files: number(&settings, "millrace.open.files"),
            recovery_threads: number(&settings, "num.recovery.threads.per.data.dir"),
            moves_at_a_time: moves_at_a_time(&settings)?,
            recovery_checkpoint_interval: recovery_checkpoint_interval(&settings),
            high_watermark_checkpoint_interval: millis(
                &settings,
                "replica.high.watermark.checkpoint.interval.ms",
            ),
            reserve_bytes: u64::try_from(settings.number("millrace.disk.reserve.bytes")).ok(),
            producer_expiration: millis(&settings, "producer.id.expiration.ms"),
            scrub_bytes_per_second: number(&settings, "millrace.scrub.bytes.per.second"),
            scrub_interval: millis(&settings, "millrace.scrub.interval.ms"),
            retention_check_interval: millis(&settings, "log.retention.check.interval.ms"),
            initial_task_delay: millis(&settings, "log.initial.task.delay.ms"),
            settings,
        })
    }

    /// Whether a listener of this name serves controllers.
    pub fn is_controller_listener(&self, name: &str) -> bool {
        let mut names = self.controller_listeners.iter();
        names.any(|other| other.eq_ignore_ascii_case(name))
    }
}

fn error<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

fn number<T: TryFrom<i64> + Default>(settings: &Settings, name: &str) -> T {
    T::try_from(settings.number(name)).unwrap_or_default()
}

fn millis(settings: &Settings, name: &str) -> Duration {
    Duration::from_millis(number(settings, name))
}

fn recovery_checkpoint_interval(settings: &Settings) -> Duration {
    let ends = millis(settings, "log.flush.offset.checkpoint.interval.ms");
    ends.min(millis(
        settings,
        "log.flush.start.offset.checkpoint.interval.ms",
    ))
}

fn roles(settings: &Settings) -> Vec<Role> {
    let roles = settings.list("process.roles");
    let role = |role: &String| match role.as_str() {
        "controller" => Role::Controller,
        _ => Role::Broker,
    };
    roles.iter().map(role).collect()
}

fn node_id(settings: &Settings) -> Result<BrokerId, ConfigError> {
    let old_name = settings.value("broker.id").unwrap_or("-1");
    if old_name != "-1" && old_name != settings.text("node.id") {
        return error("You must set `node.id` to the same value as `broker.id`.");
    }
    Ok(BrokerId(number(settings, "node.id")))
}

fn voters(settings: &Settings) -> Vec<QuorumVoter> {
    let voter = |entry: &String| {
        let (id, address) = entry.split_once('@')?;
        let (host, port) = split_address(address)?;
        let id = BrokerId(id.parse().ok()?);
        Some(QuorumVoter { id, host, port })
    };
    let entries = settings.list("controller.quorum.voters");
    entries.iter().filter_map(voter).collect()
}

fn check_quorum(
    settings: &Settings,
    roles: &[Role],
    node_id: BrokerId,
    voters: &[QuorumVoter],
) -> Result<(), ConfigError> {
    if voters.is_empty() {
        if settings
            .list("controller.quorum.bootstrap.servers")
            .is_empty()
        {
            return error(
                "If using process.roles, either controller.quorum.bootstrap.servers must contain \
                 the set of bootstrap controllers or controller.quorum.voters must contain a \
                 parseable set of controllers.",
            );
        }
        return Ok(());
    }
    let ids: std::collections::BTreeSet<String> =
        voters.iter().map(|voter| voter.id.to_string()).collect();
    if ids.len() != voters.len() {
        return error("controller.quorum.voters names a node twice.");
    }
    let is_voter = voters.iter().any(|voter| voter.id == node_id);
    let set = ids.into_iter().collect::<Vec<_>>().join(",");
    match roles.contains(&Role::Controller) {
        true if !is_voter => error(format!(
            "If process.roles contains the 'controller' role, the node id {node_id} must be \
             included in the set of voters controller.quorum.voters=Set({set})"
        )),
        false if is_voter => error(format!(
            "If process.roles contains just the 'broker' role, the node id {node_id} must not be \
             included in the set of voters controller.quorum.voters=Set({set})"
        )),
        _ => Ok(()),
    }
}

fn log_dirs(settings: &Settings) -> Vec<PathBuf> {
    let name = match settings.value("log.dirs") {
        Some(_) => "log.dirs",
        None => "log.dir",
    };
    settings.list(name).iter().map(PathBuf::from).collect()
}

fn moves_at_a_time(settings: &Settings) -> Result<Option<usize>, ConfigError> {
    let name = "num.replica.alter.log.dirs.threads";
    let set = settings.value(name).map(|_| settings.number(name));
    match set.map(usize::try_from).transpose() {
        // Kafka would start, and fail at each move.
        Err(_) | Ok(Some(0)) => error(format!(
            "Invalid value {} for configuration {name}: Value must be at least 1",
            set.unwrap_or(0)
        )),
        Ok(threads) => Ok(threads),
    }
}

fn http_listener(settings: &Settings) -> Result<Option<(String, u16)>, ConfigError> {
    let text = settings.text("millrace.http.listener");
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.rsplit_once(':').and_then(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        Some((bare.unwrap_or(host).to_owned(), port.parse().ok()?))
    });
    match address {
        Some(address) => Ok(Some(address)),
        None => error(format!(
            "Invalid value {text} for configuration millrace.http.listener: it must be of the form \
             host:port"
        )),
    }
}

fn rack_aware_reads(settings: &Settings) -> Result<bool, ConfigError> {
    let class = settings.text("replica.selector.class");
    match class.rsplit('.').next().unwrap_or_default() {
        "" | "LeaderSelector" => Ok(false),
        "RackAwareReplicaSelector" => Ok(true),
        _ => error(format!(
            "Invalid value {class} for configuration replica.selector.class: Class {class} could \
             not be found."
        )),
    }
}

fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let overrides = connection_overrides(settings)?;
    let connections_per_ip = number(settings, "max.connections.per.ip");
    if connections_per_ip == 0 && overrides.is_empty() {
        return error(
            "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides \
             property is set.",
        );
    }
    let idle = settings.number("connections.max.idle.ms");
    Ok(Limits {
        connections: number(settings, "max.connections"),
        connections_per_ip,
        connections_per_ip_overrides: overrides,
        idle: u64::try_from(idle).ok().map(Duration::from_millis),
        request_bytes: number(settings, "socket.request.max.bytes"),
        fetch_bytes: number(settings, "fetch.max.bytes"),
        fetch_sessions: number(settings, "max.incremental.fetch.session.cache.slots"),
        request_partitions: number(settings, "max.request.partition.size.limit"),
    })
}

/// `max.connections.per.ip.overrides`. Kafka looks names up when it reads them; a broker whose
/// bounds hang on a name server at that moment is no help, so only `localhost` is taken by name.
fn connection_overrides(settings: &Settings) -> Result<BTreeMap<IpAddr, usize>, ConfigError> {
    let name = "max.connections.per.ip.overrides";
    let mut overrides = BTreeMap::new();
    for entry in valid::split_list(settings.text(name)) {
        let parsed = entry.rsplit_once(':').and_then(|(host, max)| {
            let host = host.trim().trim_start_matches('[').trim_end_matches(']');
            Some((addresses(host)?, max.trim().parse::<usize>().ok()?))
        });
        let Some((addresses, max)) = parsed else {
            return error(format!(
                "Error parsing configuration property '{name}': '{entry}' is not of the form \
                 address:connections"
            ));
        };
        overrides.extend(addresses.into_iter().map(|address| (address, max)));
    }
    Ok(overrides)
}

fn addresses(host: &str) -> Option<Vec<IpAddr>> {
    match host {
        "localhost" => Some(vec![
            IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ]),
        host => Some(vec![host.parse().ok()?]),
    }
}
