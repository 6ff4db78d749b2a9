//! What is counted for operators; each function is named after what happened.
//!
//! Names begin with `millrace_` and end in their unit. Handles are kept, so that counting on the
//! data path looks nothing up.

mod groups;

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millrace_protocol::api::ApiKey;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub use groups::{GroupLag, GroupMetrics, GroupSnapshot};

type Labels = [(&'static str, String); 1];
type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

/// The metrics of one broker.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Vec<Option<RequestMetrics>>,
    malformed_requests: Count,
    connections: Family<Labels, Level>,
    connections_refused: Family<Labels, Count>,
    received_bytes: Count,
    sent_bytes: Count,
    produced_bytes: Count,
    produced_batches: Count,
    fetched_bytes: Count,
    levels: Levels,
    /// Groups of consumers.
    pub groups: GroupMetrics,
}

struct RequestMetrics {
    count: Count,
    duration: Histogram,
}

/// What is looked up when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Replicas on this broker.
    pub replicas: i64,
    /// Partitions it leads.
    pub led_partitions: i64,
    /// Partitions it leads whose ISR lacks a replica.
    pub under_replicated_partitions: i64,
    /// Partitions it leads whose ISR is below `min.insync.replicas`.
    pub under_min_isr_partitions: i64,
    /// Partitions of the cluster without a leader.
    pub offline_partitions: i64,
    /// Topics of the cluster.
    pub topics: i64,
    /// Brokers of the cluster that are not fenced.
    pub active_brokers: i64,
    /// Brokers of the cluster that are fenced.
    pub fenced_brokers: i64,
    /// Whether this node is the active controller.
    pub is_active_controller: bool,
    /// The newest image this node has applied.
    pub image_version: i64,
    /// Bytes of requests being received or answered.
    pub request_memory_bytes: i64,
    /// Bytes free in the log directory with the least room.
    pub least_free_bytes: i64,
    /// Log directories without room for producers.
    pub full_directories: i64,
    /// Log directories whose syncs take long.
    pub slow_directories: i64,
    /// Log directories that have failed.
    pub offline_directories: i64,
    /// Bytes that were read to find damage, since the start.
    pub scrubbed_bytes: u64,
    /// How often all closed segments were gone through, since the start.
    pub scrub_passes: u64,
    /// How often damage was found on the disks, since the start.
    pub damages_found: u64,
    /// Replicas that are damaged now.
    pub damaged_replicas: i64,
}

#[derive(Default)]
struct Levels {
    replicas: Level,
    led_partitions: Level,
    under_replicated_partitions: Level,
    under_min_isr_partitions: Level,
    offline_partitions: Level,
    topics: Level,
    active_brokers: Level,
    fenced_brokers: Level,
    active_controller: Level,
    image_version: Level,
    request_memory: Level,
    least_free: Level,
    full_directories: Level,
    slow_directories: Level,
    offline_directories: Level,
    scrubbed_bytes: Count,
    scrub_passes: Count,
    damages_found: Count,
    damaged_replicas: Level,
}

impl Metrics {
    /// All metrics at zero; `served` are the APIs that may be counted.
    pub fn new(served: impl Iterator<Item = ApiKey>) -> Metrics {
        let mut registry = Registry::default();
        let requests = register_requests(&mut registry, served);
        let mut count = |name: &str, help: &str| {
            let counter = Count::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let malformed_requests = count(
            "millrace_malformed_requests",
            "Requests that were no requests; their connections were closed",
        );
        let received_bytes = count("millrace_received_bytes", "Bytes of requests");
        let sent_bytes = count("millrace_sent_bytes", "Bytes of answers");
        let produced_bytes = count("millrace_produced_bytes", "Bytes of batches appended");
        let produced_batches = count("millrace_produced_batches", "Sets of batches appended");
        let fetched_bytes = count(
            "millrace_fetched_bytes",
            "Bytes of batches read by consumers",
        );
        let connections = Family::default();
        let connections_refused = Family::default();
        registry.register(
            "millrace_connections",
            "Open connections by listener",
            connections.clone(),
        );
        registry.register(
            "millrace_connections_refused",
            "Connections closed at once because there were too many",
            connections_refused.clone(),
        );
        let levels = register_levels(&mut registry);
        let groups = GroupMetrics::register(&mut registry);
        Metrics {
            registry: Mutex::new(registry),
            requests,
            malformed_requests,
            connections,
            connections_refused,
            received_bytes,
            sent_bytes,
            produced_bytes,
            produced_batches,
            fetched_bytes,
            levels,
            groups,
        }
    }

    /// A connection was accepted.
    pub fn connection_opened(&self, listener: &str) {
        self.connections.get_or_create(&by_listener(listener)).inc();
    }

    /// A connection ended, however it did.
    pub fn connection_closed(&self, listener: &str) {
        self.connections.get_or_create(&by_listener(listener)).dec();
    }

    /// A connection was one too many.
    pub fn connection_refused(&self, listener: &str) {
        self.connections_refused
            .get_or_create(&by_listener(listener))
            .inc();
    }

    /// A request came in.
    pub fn request_received(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }

    /// A request was no request.
    pub fn request_malformed(&self) {
        self.malformed_requests.inc();
    }

    /// A request was answered, `duration` after it was read.
    pub fn request_answered(&self, api: ApiKey, duration: Duration, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
        if let Some(Some(metrics)) = self.requests.get(index_of(api)) {
            metrics.count.inc();
            metrics.duration.observe(duration.as_secs_f64());
        }
    }

    /// Batches were appended to one partition.
    pub fn batches_appended(&self, bytes: usize) {
        self.produced_batches.inc();
        self.produced_bytes.inc_by(bytes as u64);
    }

    /// A consumer was given batches.
    pub fn batches_fetched(&self, bytes: usize) {
        self.fetched_bytes.inc_by(bytes as u64);
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self, now: &Snapshot) -> String {
        self.levels.set(now);
        let mut text = String::new();
        let registry = self.registry.lock();
        let registry = registry.unwrap_or_else(std::sync::PoisonError::into_inner);
        if encode(&mut text, &registry).is_err() {
            // Writing to a string cannot fail; a metric that cannot be written is left out.
            let _ = writeln!(text, "# EOF");
        }
        text
    }
}

impl Levels {
    fn set(&self, now: &Snapshot) {
        self.replicas.set(now.replicas);
        self.led_partitions.set(now.led_partitions);
        self.under_replicated_partitions
            .set(now.under_replicated_partitions);
        self.under_min_isr_partitions
            .set(now.under_min_isr_partitions);
        self.offline_partitions.set(now.offline_partitions);
        self.topics.set(now.topics);
        self.active_brokers.set(now.active_brokers);
        self.fenced_brokers.set(now.fenced_brokers);
        self.active_controller
            .set(i64::from(now.is_active_controller));
        self.image_version.set(now.image_version);
        self.request_memory.set(now.request_memory_bytes);
        self.least_free.set(now.least_free_bytes);
        self.full_directories.set(now.full_directories);
        self.slow_directories.set(now.slow_directories);
        self.offline_directories.set(now.offline_directories);
        self.damaged_replicas.set(now.damaged_replicas);
        for (counter, value) in [
            (&self.scrubbed_bytes, now.scrubbed_bytes),
            (&self.scrub_passes, now.scrub_passes),
            (&self.damages_found, now.damages_found),
        ] {
            // Two who ask at once must not count anything twice.
            counter.inner().fetch_max(value, Ordering::Relaxed);
        }
    }
}

fn by_listener(listener: &str) -> Labels {
    [("listener", listener.to_owned())]
}

fn index_of(api: ApiKey) -> usize {
    usize::try_from(api as i16).unwrap_or(usize::MAX)
}

fn register_requests(
    registry: &mut Registry,
    served: impl Iterator<Item = ApiKey>,
) -> Vec<Option<RequestMetrics>> {
    let counts = Family::<Labels, Count>::default();
    let durations = Family::<Labels, Histogram>::new_with_constructor(|| {
        // 100 microseconds to 26 seconds.
        Histogram::new(exponential_buckets(0.0001, 4.0, 10))
    });
    let mut requests = Vec::new();
    for api in served {
        let labels = [("api", api.name().to_owned())];
        let metrics = RequestMetrics {
            count: counts.get_or_create(&labels).clone(),
            duration: durations.get_or_create(&labels).clone(),
        };
        let index = index_of(api);
        requests.resize_with(requests.len().max(index + 1), || None);
        requests[index] = Some(metrics);
    }
    registry.register("millrace_requests", "Requests answered, by API", counts);
    registry.register_with_unit(
        "millrace_request_duration",
        "Time from reading a request to its answer, by API",
        Unit::Seconds,
        durations,
    );
    requests
}

fn register_levels(registry: &mut Registry) -> Levels {
    let levels = Levels::default();
    let mut level = |name: &str, help: &str, gauge: &Level| {
        registry.register(name, help, gauge.clone());
    };
    level(
        "millrace_replicas",
        "Replicas on this broker",
        &levels.replicas,
    );
    level(
        "millrace_led_partitions",
        "Partitions this broker leads",
        &levels.led_partitions,
    );
    level(
        "millrace_under_replicated_partitions",
        "Partitions this broker leads whose ISR lacks a replica",
        &levels.under_replicated_partitions,
    );
    level(
        "millrace_under_min_isr_partitions",
        "Partitions this broker leads whose ISR is below min.insync.replicas",
        &levels.under_min_isr_partitions,
    );
    level(
        "millrace_offline_partitions",
        "Partitions of the cluster without a leader",
        &levels.offline_partitions,
    );
    level("millrace_topics", "Topics of the cluster", &levels.topics);
    level(
        "millrace_active_brokers",
        "Brokers of the cluster that are not fenced",
        &levels.active_brokers,
    );
    level(
        "millrace_fenced_brokers",
        "Brokers of the cluster that are fenced",
        &levels.fenced_brokers,
    );
    level(
        "millrace_active_controller",
        "1 on the active controller, else 0",
        &levels.active_controller,
    );
    level(
        "millrace_image_version",
        "The newest metadata this node has applied",
        &levels.image_version,
    );
    level(
        "millrace_request_memory_bytes",
        "Bytes of requests being received or answered",
        &levels.request_memory,
    );
    register_directory_levels(registry, &levels);
    levels
}

fn register_directory_levels(registry: &mut Registry, levels: &Levels) {
    let mut level = |name: &str, help: &str, gauge: &Level| {
        registry.register(name, help, gauge.clone());
    };
    level(
        "millrace_log_directory_least_free_bytes",
        "Bytes free in the log directory with the least room",
        &levels.least_free,
    );
    level(
        "millrace_log_directories_full",
        "Log directories in which producers are refused for want of space",
        &levels.full_directories,
    );
    level(
        "millrace_log_directories_slow",
        "Log directories whose syncs take long, so that others lead and nobody waits for them",
        &levels.slow_directories,
    );
    level(
        "millrace_log_directories_offline",
        "Log directories that have failed",
        &levels.offline_directories,
    );
    level(
        "millrace_damaged_replicas",
        "Replicas with batches that are damaged on the disk",
        &levels.damaged_replicas,
    );
    let mut count = |name: &str, help: &str, counter: &Count| {
        registry.register(name, help, counter.clone());
    };
    count(
        "millrace_scrubbed_bytes",
        "Bytes of closed segments read to find damage",
        &levels.scrubbed_bytes,
    );
    count(
        "millrace_scrub_passes",
        "How often all closed segments were gone through",
        &levels.scrub_passes,
    );
    count(
        "millrace_damages_found",
        "How often damage was found on the disks",
        &levels.damages_found,
    );
}
