//! Opens the logs and starts the replicas, and what keeps them as the images want them.

use std::sync::Arc;

use millrace_model::BrokerEpoch;
use millrace_replication::{Events, ReplicaOptions, ReplicaSettings, Replicas};
use millrace_rpc::Routes;
use millrace_storage::{RecoveryReport, StorageError, Store, StoreOptions};

use super::assignments::Assignments;
use super::link::Link;
use super::start::{Parts, Strings};
use super::{StartError, failed};
use crate::api::fetch::SessionCache;
use crate::api::produce::RefusedBatches;
use crate::config::topic::TopicOverrides;
use crate::config::{cleaner_options, log_settings};
use crate::coordinator::{Coordinator, CoordinatorParts, DriverOptions, Groups};
use crate::node::{BrokerParts, Node};
use crate::producer_ids::ProducerIds;

/// What the rest of the start needs of the logs.
pub(super) struct Opened {
    /// The services for peers on listeners of brokers.
    pub(super) routes: Routes,
    /// The epoch under which the broker stopped, if it stopped cleanly.
    pub(super) clean_shutdown: Option<BrokerEpoch>,
}

/// Opens the logs; this may take a while after a crash.
///
/// # Errors
/// If no log directory can be used.
pub(super) async fn open(
    parts: &Parts,
    node: &Arc<Node>,
    strings: &Strings,
) -> Result<Opened, StartError> {
    let config = &parts.config;
    let events = Arc::new(Events::default());
    let options = store_options(parts, events.clone());
    let opened = Store::open(options).await;
    let (store, report) = opened.map_err(|error| match error {
        StorageError::NoDirectory(why) => StartError(failed::none_usable(config, &why)),
        error => StartError(format!("cannot open the logs: {error}")),
    })?;
    tell(&report);
    let assignments = Assignments::start(node, strings);
    let link = Link {
        id: config.node_id,
        quorum: node.quorum.clone(),
        clock: parts.host.clock.clone(),
        session: strings.session.clone(),
        store: store.clone(),
        assignments,
        metadata_directory: config.metadata_log_dir.clone(),
        failed: strings.failed.clone(),
    };
    let replicas = Replicas::start(ReplicaOptions {
        node: config.node_id,
        host: parts.host.clone(),
        store: store.clone(),
        events,
        channels: parts.channels.clone(),
        link: Arc::new(link),
        settings: ReplicaSettings {
            lag_max: config.replica_lag_time_max,
            session_timeout: config.session_timeout,
            ..ReplicaSettings::default()
        },
    });
    // What fails from here on is told to the link.
    if let Some(why) = failed::beyond_use(&store.directories(), &config.metadata_log_dir) {
        return Err(StartError(why));
    }
    let routes = merged(replicas.routes(), node.quorum.routes());
    let broker = BrokerParts {
        fetch_sessions: SessionCache::new(config.limits.fetch_sessions, parts.host.random.clone()),
        producer_ids: ProducerIds::default(),
        refused_batches: RefusedBatches::default(),
        groups: Arc::new(groups(parts, node, &replicas)),
        making_internal_topics: tokio::sync::Mutex::default(),
        store: store.clone(),
        replicas: replicas.clone(),
        session: strings.session.clone(),
    };
    // Nobody else sets it.
    let _ = node.broker.set(broker);
    Ok(Opened {
        routes,
        clean_shutdown: report.clean_shutdown,
    })
}

fn store_options(parts: &Parts, events: Arc<Events>) -> StoreOptions {
    let config = &parts.config;
    StoreOptions {
        followed_cache_bytes: config.followed_cache_bytes,
        tail_budget_bytes: usize::try_from(config.tail_bytes).unwrap_or(usize::MAX),
        max_open_files: config.open_files,
        recovery_threads: config.recovery_threads,
        moves_at_a_time: config.moves_at_a_time,
        recovery_checkpoint_interval: config.recovery_checkpoint_interval,
        high_watermark_checkpoint_interval: config.high_watermark_checkpoint_interval,
        reserve_bytes: config.reserve_bytes,
        retention_check_interval: config.retention_check_interval,
        initial_task_delay: config.initial_task_delay,
        cleaner: cleaner_options(&config.settings),
        producer_expiration: config.producer_expiration,
        scrub_bytes_per_second: config.scrub_bytes_per_second,
        scrub_interval: config.scrub_interval,
        unusable: parts.directories.unusable.clone(),
        default_settings: log_settings(&config.settings, &TopicOverrides::new()),
        ..StoreOptions::new(
            parts.directories.log_directories.clone(),
            parts.host.clone(),
            events,
        )
    }
}

fn groups(parts: &Parts, node: &Node, replicas: &Replicas) -> Coordinator<Groups> {
    Coordinator::new(CoordinatorParts {
        family: Groups::new(&parts.config),
        id: parts.config.node_id,
        host: parts.host.clone(),
        replicas: replicas.clone(),
        config: node.config.clone(),
        options: |config| DriverOptions {
            commit_timeout: config.offsets.commit_timeout,
            compression: config.offsets.compression,
            load_bytes: config.offsets.load_bytes,
        },
    })
}

fn tell(report: &RecoveryReport) {
    tracing::info!(
        logs = report.logs,
        scanned_segments = report.scanned_segments,
        cut_bytes = report.cut_bytes,
        clean = report.clean_shutdown.is_some(),
        "opened the logs"
    );
    for failed in &report.failed {
        let path = failed.path.display();
        tracing::error!(%path, why = failed.why, "cannot open a partition's log");
    }
    for (path, why) in &report.offline {
        tracing::error!(path = %path.display(), why, "cannot use a log directory");
    }
}

/// Services of both; what neither knows is unimplemented.
fn merged(one: Routes, other: Routes) -> Routes {
    let one = one.into_axum_router().reset_fallback();
    Routes::from(one.merge(other.into_axum_router()))
}
