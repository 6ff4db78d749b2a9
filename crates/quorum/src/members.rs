//! The other nodes of the quorum, as this node reaches them and hears of their leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_host::Clock;
use millrace_model::BrokerId;
use millrace_rpc::{Channels, PeerListener};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::types::{Place, RaftId};

/// How long after its last message a leader counts as alive: a few heartbeats.
const LEADER_FRESH: Duration = Duration::from_millis(400);

/// How long a leader that nobody answers says nothing: longer than its followers wait before they
/// elect another.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long it then speaks again before it may fall silent once more.
const BETWEEN_SILENCES: Duration = Duration::from_secs(1);

/// Where the others are, and who led last; clones share it.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) me: RaftId,
    pub(crate) channels: Channels,
    /// Nodes whose address the configuration gives.
    configured: Arc<BTreeSet<BrokerId>>,
    clock: Clock,
    heard: Arc<Mutex<Heard>>,
    pulse: watch::Sender<()>,
    given_up: watch::Sender<()>,
}

#[derive(Default)]
struct Heard {
    leader: Option<(RaftId, Instant)>,
    /// The last leader before this node led itself.
    predecessor: Option<RaftId>,
    /// The end of the last silence of this node as a leader.
    silent_until: Option<Instant>,
}

impl Members {
    pub(crate) fn new(
        me: RaftId,
        channels: Channels,
        configured: BTreeMap<BrokerId, Place>,
        clock: Clock,
    ) -> Members {
        for (node, place) in &configured {
            channels.set_address(*node, PeerListener::Controller, &place.host, place.port);
        }
        let configured = Arc::new(configured.into_keys().collect());
        Members {
            me,
            channels,
            configured,
            clock,
            heard: Arc::default(),
            pulse: watch::Sender::default(),
            given_up: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member says where it listens; what the configuration says goes before it.
    pub(crate) fn learn_place(&self, node: BrokerId, place: &Place) {
        if !self.configured.contains(&node) && place.port != 0 {
            self.channels
                .set_address(node, PeerListener::Controller, &place.host, place.port);
        }
    }

    /// Every configured voter but this node.
    pub(crate) fn others(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.configured
            .iter()
            .copied()
            .filter(|node| *node != self.me.node)
    }

    /// The leader spoke.
    pub(crate) fn heard_leader(&self, leader: RaftId) {
        let now = self.clock.now();
        let mut heard = self.lock();
        heard.leader = Some((leader, now));
        heard.predecessor = Some(leader);
        drop(heard);
        self.beat();
    }

    /// The quorum's heartbeat passes here: it was heard, or this node as the leader says it.
    pub(crate) fn beat(&self) {
        self.pulse.send_replace(());
    }

    /// Changes with each heartbeat of the quorum that passes here. What must be done about as often
    /// is done then: a process that is awake already does it for a fraction of what waking it costs.
    pub(crate) fn pulse(&self) -> watch::Receiver<()> {
        self.pulse.subscribe()
    }

    /// When the leader spoke last.
    pub(crate) fn last_heard(&self) -> Option<(RaftId, Instant)> {
        self.lock().leader
    }

    /// The leader that spoke within the last moments.
    pub(crate) fn live_leader(&self) -> Option<RaftId> {
        let (leader, at) = self.lock().leader?;
        (self.clock.now() < at + LEADER_FRESH).then_some(leader)
    }

    /// The leader is known to be gone.
    pub(crate) fn forget_leader(&self) {
        self.lock().leader = None;
    }

    /// The leader says that it hears nobody: another one is needed.
    pub(crate) fn leader_gave_up(&self) {
        self.forget_leader();
        self.given_up.send_replace(());
    }

    /// Changes when a leader says that it hears nobody.
    pub(crate) fn given_up(&self) -> watch::Receiver<()> {
        self.given_up.subscribe()
    }

    /// No majority answers this leader, though it may still be heard: it says nothing for a while,
    /// so that those who hear it may elect another. Where it was only slow, it then goes on. Whether
    /// the silence has just begun.
    pub(crate) fn fall_silent(&self) -> bool {
        let now = self.clock.now();
        let mut heard = self.lock();
        let spoke_long_enough = |until: Instant| now >= until + BETWEEN_SILENCES;
        let begins = heard.silent_until.is_none_or(spoke_long_enough);
        if begins {
            tracing::warn!("no majority answers this leader of the quorum: it falls silent");
            heard.silent_until = Some(now + SILENCE);
        }
        begins
    }

    /// Whether this node says nothing as a leader.
    pub(crate) fn is_silent(&self) -> bool {
        let now = self.clock.now();
        self.lock().silent_until.is_some_and(|until| now < until)
    }

    /// Whoever led before this node does.
    pub(crate) fn predecessor(&self) -> Option<RaftId> {
        self.lock().predecessor
    }
}
