//! Starting this node's part in the quorum, and handing its leadership over before a stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, SnapshotPolicy};

use crate::controller::{Controller, Settings};
use crate::elections::Elections;
use crate::error::QuorumError;
use crate::formation::Formation;
use crate::log::{LogStore, Owner};
use crate::machine::{Machine, Published};
use crate::members::Members;
use crate::network::Network;
use crate::options::{QuorumOptions, Timing};
use crate::pacing::Pacing;
use crate::types::RaftId;
use crate::{Inner, Quorum, Raft, SessionSettings, describe, registering, standing};

/// The quorum's directory within the metadata directory.
const DIRECTORY: &str = "__millrace_metadata";

/// Entries kept beyond the newest checkpoint, in checkpoints: the one before it must still be
/// enough to start from.
const CHECKPOINTS_OF_LOG: u64 = 2;

/// How long a successor is waited for.
const RESIGN_LIMIT: Duration = Duration::from_millis(500);

impl Quorum {
    /// Opens the metadata on disk and starts to take part in the quorum; does not wait for other
    /// nodes. Mount [`Quorum::routes`] at once: the others need this node to answer.
    ///
    /// # Errors
    /// If the metadata on disk is damaged, belongs to another node or cluster, or cannot be read.
    pub async fn start(options: QuorumOptions) -> Result<Quorum, QuorumError> {
        // openraft spawns its tasks where it is started.
        let starting = options.host.control.clone().spawn(start(options));
        let ended = |error: tokio::task::JoinError| QuorumError::Stopped(error.to_string());
        starting.await.map_err(ended)?
    }
}

/// openraft counts a follower's patience from the end of the leader's lease, which lasts the
/// longest election timeout: half of what is wanted in all. The shortest one is also how long it
/// waits for a vote, which the voter's disk has to keep first.
fn config(timing: &Timing, cluster_id: &str) -> Result<Config, QuorumError> {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let lease = ms(timing.lease());
    let config = Config {
        cluster_name: cluster_id.to_owned(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min)
            .saturating_sub(lease)
            .max(ms(timing.heartbeat) + 1),
        election_timeout_max: lease,
        // It would have a leader fall silent whose followers answer late, on a busy machine.
        quorum_loss_probe_interval: None,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.entries_per_checkpoint),
        max_in_snapshot_log_to_keep: CHECKPOINTS_OF_LOG * timing.entries_per_checkpoint,
        purge_batch_size: timing.entries_per_checkpoint / 8 + 1,
        replication_lag_threshold: 2 * timing.entries_per_checkpoint,
        install_snapshot_timeout: 60_000,
        backoff: "20ms 50ms 100ms ..250ms".to_owned(),
        ..Config::default()
    };
    config
        .validate()
        .map_err(|error| QuorumError::Options(error.to_string()))
}

async fn start(options: QuorumOptions) -> Result<Quorum, QuorumError> {
    let identity = options.channels.identity().clone();
    let me = RaftId {
        node: identity.node,
        directory: identity.directory,
    };
    let configured: BTreeMap<_, _> = options
        .voters
        .iter()
        .map(|voter| (voter.id, voter.place.clone()))
        .collect();
    if options.voters.is_empty() && options.bootstrap_servers.is_empty() {
        return Err(QuorumError::Options(
            "neither voters nor bootstrap servers".to_owned(),
        ));
    }
    let host = options.host.clone();
    let members = Members::new(me, options.channels.clone(), configured, host.clock.clone());
    let directory = options.metadata_dir.join(DIRECTORY);
    let owner = Owner {
        cluster_id: identity.cluster_id.to_string(),
        id: me,
    };
    let log = LogStore::open(&host, &directory, owner).await?;
    let published = Published::new();
    let machine = Machine::open(&host, directory, log.purged(), published.clone()).await?;
    let config = Arc::new(config(&options.timing, &identity.cluster_id)?);
    let network = Network {
        members: members.clone(),
    };
    let raft = Raft::new(me, config, network, log.clone(), machine).await;
    let raft = raft.map_err(|error| QuorumError::Stopped(error.to_string()))?;
    if !options.is_controller {
        // Ticks are for leaders and for those who may become one.
        raft.runtime_config().tick(false);
    }
    let registration = options
        .registration
        .clone()
        .filter(|_| options.is_controller);
    let inner = assemble(options, raft, log, members, published);
    if let Some(registration) = registration {
        let keeping = registering::keep_registered(Arc::downgrade(&inner), registration);
        host.control.spawn(keeping);
    }
    host.control
        .spawn(describe::observe(Arc::downgrade(&inner)));
    Ok(Quorum(inner))
}

fn assemble(
    options: QuorumOptions,
    raft: Raft,
    log: LogStore,
    members: Members,
    published: Published,
) -> Arc<Inner> {
    let host = options.host;
    let standing = standing::follow(&raft, &host.control);
    let (heartbeat, patience) = (options.timing.heartbeat, options.timing.election_min / 2);
    let settings = Settings {
        timing: options.timing,
        session_timeout: options.session_timeout,
        balance: options.balance,
        bootstrap: options.bootstrap,
        registration: options.registration,
    };
    let controller = options.is_controller.then(|| {
        let (raft, members) = (raft.clone(), members.clone());
        Controller::start(raft, &host, members, standing.clone(), &published, settings)
    });
    let formation = Formation {
        raft: raft.clone(),
        log: log.clone(),
        host: host.clone(),
        members: members.clone(),
        standing: standing.clone(),
        voters: options.voters,
        bootstrap_servers: options.bootstrap_servers,
        place: options.place,
        is_controller: options.is_controller,
    };
    host.control.spawn(formation.run());
    let elections = Elections::new(
        raft.clone(),
        host.clone(),
        members.clone(),
        standing.clone(),
    );
    host.control.spawn(elections.run());
    if options.is_controller {
        let pacing = Pacing {
            raft: raft.clone(),
            host: host.clone(),
            members: members.clone(),
            standing: standing.clone(),
            heartbeat,
            patience,
        };
        host.control.spawn(pacing.run());
    }
    Arc::new(Inner {
        raft,
        log,
        host,
        members,
        standing,
        published,
        settings: SessionSettings {
            session_timeout: options.session_timeout,
            heartbeat_interval: options.heartbeat_interval,
        },
        controller,
        forward: options.forward,
        membership_change: tokio::sync::Mutex::new(()),
        seen: describe::Seen::default(),
        own_epoch: tokio::sync::watch::Sender::new(None),
    })
}

/// Hands the leadership to the voter that has come farthest.
pub(crate) async fn resign(inner: &Inner) {
    let mut standing = inner.standing.clone();
    let now = standing.borrow_and_update().clone();
    if now.leads().is_none() {
        return;
    }
    let successor = {
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        let voters = matched.filter(|(id, _)| {
            **id != now.me && now.membership.voter_ids().any(|voter| voter == **id)
        });
        voters
            .max_by_key(|(_, matched)| **matched)
            .map(|(id, _)| *id)
    };
    let Some(successor) = successor else { return };
    if inner
        .raft
        .trigger()
        .transfer_leader(successor)
        .await
        .is_ok()
    {
        let handed_over = standing.wait_for(|s| s.leader.is_some_and(|leader| leader != now.me));
        let _ = tokio::time::timeout(RESIGN_LIMIT, handed_over).await;
    }
}
