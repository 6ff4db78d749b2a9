//! When openraft looks at the time.
//!
//! Left to itself it does so five times each heartbeat, on every voter, and each look wakes a
//! process that had nothing to do: most of what an idle cluster costs. A leader needs it for nothing
//! but heartbeats, which this task says for it; a follower only once the leader has been silent for
//! a good part of the shortest election timeout. Only a voter without a leader is left to itself.

use std::time::Duration;

use millrace_host::Host;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::Raft;
use crate::members::Members;
use crate::standing::Standing;

pub(crate) struct Pacing {
    pub(crate) raft: Raft,
    pub(crate) host: Host,
    pub(crate) members: Members,
    pub(crate) standing: watch::Receiver<Standing>,
    /// How often a leader says that it lives.
    pub(crate) heartbeat: Duration,
    /// After how long a silence of the leader openraft must count the time itself.
    pub(crate) patience: Duration,
}

impl Pacing {
    /// Runs until openraft stops.
    pub(crate) async fn run(mut self) {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            if standing.stopped.is_some() {
                return;
            }
            let next = match standing.leads() {
                Some(_) => self.lead().await,
                None => self.follow(&standing).await,
            };
            if next.is_none() {
                return;
            }
        }
    }

    fn tick(&self, wanted: bool) {
        self.raft.runtime_config().tick(wanted);
    }

    /// Says the heartbeats until this node leads no more.
    async fn lead(&mut self) -> Option<()> {
        let mut due = tokio::time::interval(self.heartbeat);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = self.standing.changed() => {
                    changed.ok()?;
                    if self.standing.borrow().leads().is_none() {
                        return Some(());
                    }
                }
                _ = due.tick() => {
                    self.tick(false);
                    self.raft.trigger().heartbeat().await.ok()?;
                    self.members.beat();
                }
            }
        }
    }

    /// Listens for the leader until the standing changes.
    async fn follow(&mut self, standing: &Standing) -> Option<()> {
        let mut pulse = self.members.pulse();
        loop {
            let now = self.host.clock.now();
            let speaks_until = self.speaks_until(standing).filter(|until| *until > now);
            self.tick(speaks_until.is_none());
            let silent = async {
                match speaks_until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.standing.changed() => return changed.ok(),
                // The sender lives as long as `self`.
                _ = pulse.changed() => {}
                () = silent => {}
            }
        }
    }

    /// Until when the leader's last word is good for.
    fn speaks_until(&self, standing: &Standing) -> Option<Instant> {
        let (leader, at) = self.members.last_heard()?;
        (standing.leader == Some(leader)).then(|| at + self.patience)
    }
}
