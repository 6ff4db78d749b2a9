//! The active controller: the one task that decides, on the node that leads the quorum.
//!
//! Whatever arrives while a batch is on its way is decided together, each decision on the image as
//! the ones before it leave it, and proposed as one batch. One batch is in flight at a time. A
//! batch that meets another image than the one it was decided on changes nothing, and its decisions
//! are taken again.

mod pending;
mod reign;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_host::Host;
use millrace_metadata::Image;
use millrace_metadata::decide::Heartbeat;
use millrace_model::{BrokerEpoch, BrokerId};
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) use self::pending::{Pending, decision};
use self::reign::Reign;
use crate::Raft;
use crate::elections;
use crate::error::DecideError;
use crate::formation;
use crate::machine::{AppliedState, Published};
use crate::members::Members;
use crate::options::{Balance, Bootstrap, Timing};
use crate::standing::Standing;

/// Requests that wait for the controller; whoever comes then waits outside.
const INBOX: usize = 4096;

/// What reaches the controller task.
pub(crate) enum Event {
    Decide(Box<dyn Pending>),
    /// A broker lives; the decision follows from it.
    Heartbeat(Heartbeat, Box<dyn Pending>),
    StreamBegan(BrokerId, BrokerEpoch),
    StreamEnded(BrokerId, BrokerEpoch),
    /// A broker does not listen any more.
    Gone(BrokerId, BrokerEpoch),
}

/// What the controller goes by.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) timing: Timing,
    pub(crate) session_timeout: Duration,
    pub(crate) balance: Option<Balance>,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) registration: Option<millrace_metadata::Controller>,
}

/// How everybody else reaches the controller task of this node.
#[derive(Clone)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Event>,
    /// The term in which this node is the active controller.
    pub(crate) active: watch::Receiver<Option<u64>>,
}

impl Handle {
    /// False where the task has ended.
    pub(crate) async fn send(&self, event: Event) -> bool {
        self.inbox.send(event).await.is_ok()
    }
}

/// The task; it lives as long as openraft does.
pub(crate) struct Controller {
    raft: Raft,
    host: Host,
    members: Members,
    standing: watch::Receiver<Standing>,
    images: watch::Receiver<Arc<Image>>,
    applied: watch::Receiver<AppliedState>,
    settings: Settings,
    /// Sessions count time from here.
    began: Instant,
    events: mpsc::Receiver<Event>,
    /// For what the task's own helpers find out.
    inbox: mpsc::WeakSender<Event>,
    active: watch::Sender<Option<u64>>,
    /// Streams of brokers, also across reigns.
    streams: BTreeMap<BrokerId, (BrokerEpoch, usize)>,
}

impl Controller {
    pub(crate) fn start(
        raft: Raft,
        host: &Host,
        members: Members,
        standing: watch::Receiver<Standing>,
        published: &Published,
        settings: Settings,
    ) -> Handle {
        let (inbox, events) = mpsc::channel(INBOX);
        let (active, is_active) = watch::channel(None);
        let controller = Controller {
            raft,
            host: host.clone(),
            members,
            standing,
            images: published.images.subscribe(),
            applied: published.applied.subscribe(),
            settings,
            began: host.clock.now(),
            events,
            inbox: inbox.downgrade(),
            active,
            streams: BTreeMap::new(),
        };
        host.control.spawn(controller.run());
        Handle {
            inbox,
            active: is_active,
        }
    }

    async fn run(mut self) {
        while let Some(term) = self.wait_to_lead().await {
            if self.catch_up(term).await.is_none() {
                continue;
            }
            tracing::info!(term, "this node is the active controller");
            self.active.send_replace(Some(term));
            let membership = self.standing.borrow().membership.clone();
            let finishing = formation::finish_change(self.raft.clone(), membership);
            self.host.control.spawn(finishing);
            Reign::new(&mut self, term).run().await;
            tracing::info!(term, "this node is not the active controller any more");
            self.active.send_replace(None);
        }
    }

    fn now(&self) -> Duration {
        self.host.clock.now().duration_since(self.began)
    }

    fn unanswered(&self) -> Duration {
        unanswered(&self.raft)
    }

    /// Whether no majority of the voters has answered this leader for a session: another node may
    /// be the controller by now, and nobody must take this one's word for being in touch with it.
    fn is_cut_off(&self) -> bool {
        self.unanswered() > self.settings.session_timeout
    }

    /// Whether openraft takes what this leader proposes: no longer than the others keep from
    /// electing another.
    fn has_lease(&self) -> bool {
        self.unanswered() < self.settings.timing.lease()
    }

    /// Makes room for another leader: says that this one hears nobody, and then nothing.
    fn fall_silent(&self) {
        if !self.members.fall_silent() {
            return;
        }
        let standing = self.standing.borrow().clone();
        for voter in standing.membership.voter_ids() {
            if voter != self.members.me {
                let telling = elections::give_up(self.members.clone(), standing.clone(), voter);
                self.host.control.spawn(telling);
            }
        }
    }

    fn image(&self) -> Arc<Image> {
        self.images.borrow().clone()
    }

    fn refuse(&self, event: Event) {
        let leader = self.standing.borrow().leader;
        let leader = leader.filter(|l| *l != self.members.me).map(|l| l.node);
        match event {
            Event::Decide(pending) | Event::Heartbeat(_, pending) => {
                pending.resolve(Err(DecideError::NotController { leader }));
            }
            _ => {}
        }
    }

    /// Waits until openraft makes this node the leader; sends everybody away until then.
    async fn wait_to_lead(&mut self) -> Option<u64> {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            // What it says of the leader stays as it was then; and once the callers are gone,
            // nobody is left who could ask for a decision.
            if standing.stopped.is_some() || self.events.is_closed() {
                return None;
            }
            if let Some(term) = standing.leads() {
                return Some(term);
            }
            tokio::select! {
                biased;
                changed = self.standing.changed() => changed.ok()?,
                event = self.events.recv() => {
                    let event = event?;
                    self.count_streams(&event);
                    self.refuse(event);
                }
            }
        }
    }

    /// A leader decides nothing before it has applied an entry of its own term: only then does its
    /// image hold all that was ever confirmed. Requests wait meanwhile.
    async fn catch_up(&mut self, term: u64) -> Option<()> {
        loop {
            let last = self.applied.borrow_and_update().last;
            if last.is_some_and(|last| last.leader_id.term == term) {
                return Some(());
            }
            if self.standing.borrow_and_update().leads() != Some(term) {
                return None;
            }
            tokio::select! {
                biased;
                changed = self.standing.changed() => changed.ok()?,
                changed = self.applied.changed() => changed.ok()?,
            }
        }
    }

    /// Keeps count of a broker's streams; true if the event was about one.
    fn count_streams(&mut self, event: &Event) {
        match event {
            Event::StreamBegan(id, epoch) => {
                let (of, count) = self.streams.entry(*id).or_insert((*epoch, 0));
                if of != epoch {
                    (*of, *count) = (*epoch, 0);
                }
                *count += 1;
            }
            Event::StreamEnded(id, epoch) => {
                if let Some((of, count)) = self.streams.get_mut(id)
                    && of == epoch
                {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    fn has_stream(&self, id: BrokerId, epoch: BrokerEpoch) -> bool {
        self.streams
            .get(&id)
            .is_some_and(|(of, count)| *of == epoch && *count > 0)
    }
}

/// How long ago the newest message of this leader left that a majority of the voters has answered.
pub(crate) fn unanswered(raft: &Raft) -> Duration {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let alone = metrics.membership_config.voter_ids().count() <= 1;
    let acked = metrics.last_quorum_acked.as_ref().filter(|_| !alone);
    acked.map_or(Duration::ZERO, |acked| acked.elapsed())
}
