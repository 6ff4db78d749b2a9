//! Elections sooner than by timeout: when the leader is seen to be gone, and when nobody leads at
//! the start of the whole cluster.
//!
//! Every voter keeps a connection to the leader. When it breaks and the leader cannot be reached
//! again, the voter drops the lease it gave that leader and stands for election, the voters one
//! after the other so that they do not split the vote. A voter that is asked for a pre-vote looks
//! after its leader too, before it answers: it may not have seen the connection break, or may have
//! had none yet. Pre-vote keeps all this harmless: where the others still hear the leader, their
//! leases stand, and no term is wasted.
//!
//! A leader may be heard and hear nobody. It finds out, for nobody answers, and says so: that word
//! needs no answer. Whom it reaches need not wait for the leader's silence to last.

use std::future::Future;
use std::time::Duration;

use millrace_host::Host;
use millrace_rpc::proto::raft;
use millrace_rpc::proto::raft::raft_client::RaftClient;
use millrace_rpc::{LinkFailure, PeerChannel, Purpose};
use openraft::raft::TransferLeaderRequest;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Raft;
use crate::hello::{self, Probe};
use crate::members::Members;
use crate::standing::Standing;
use crate::types::RaftId;
use crate::wire;

/// How long a leader whose connection broke is probed before it counts as gone.
const PROBE_LIMIT: Duration = Duration::from_millis(150);

/// How long a leader is probed whom another voter wants to replace, well below the limit of the
/// call that waits for it.
const RECONSIDER_LIMIT: Duration = Duration::from_millis(60);

/// A voter stands this much later than the one before it.
const STAGGER_MS: u64 = 30;
const JITTER_MS: u64 = 12;

/// How long the first candidacy, whoever stands, is given before the next. Each one after it is
/// given twice as long as the one before, up to the last: a vote waits for a disk, and a candidacy
/// that is cut short by the next one wins nothing.
const FIRST_ROUND: Duration = Duration::from_millis(120);
const LAST_ROUND: Duration = Duration::from_millis(960);

/// How long a leader that hears nobody tries to say so.
const GIVE_UP_LIMIT: Duration = Duration::from_millis(500);

/// How often a voter that knows no leader asks the others at a start.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

pub(crate) struct Elections {
    raft: Raft,
    host: Host,
    members: Members,
    standing: watch::Receiver<Standing>,
    /// The newest term that was seen, and when it was first: somebody stood then.
    term: Option<u64>,
    stood: Option<Instant>,
    round: Duration,
}

impl Elections {
    pub(crate) fn new(
        raft: Raft,
        host: Host,
        members: Members,
        standing: watch::Receiver<Standing>,
    ) -> Elections {
        Elections {
            raft,
            host,
            members,
            standing,
            term: None,
            stood: None,
            round: FIRST_ROUND,
        }
    }

    /// Runs until openraft stops.
    pub(crate) async fn run(mut self) {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            if standing.stopped.is_some() {
                return;
            }
            for (id, place) in standing.membership.nodes() {
                self.members.learn_place(id.node, place);
            }
            self.note_candidacy(&standing);
            let known = standing.leader.filter(|leader| *leader != standing.me);
            let next = match (standing.is_voter(), known) {
                (true, Some(leader)) if self.members.live_leader() == Some(leader) => {
                    self.watch_leader(leader, &standing).await
                }
                (true, _) if standing.leads().is_none() => self.seek_leader(&standing).await,
                _ => self.changed().await,
            };
            if next.is_none() {
                return;
            }
        }
    }

    async fn changed(&mut self) -> Option<()> {
        self.standing.changed().await.ok()
    }

    /// Waits for `done` unless the standing changes first.
    async fn unless_changed<T>(&mut self, done: impl Future<Output = T>) -> Option<Option<T>> {
        tokio::select! {
            biased;
            changed = self.standing.changed() => changed.ok().map(|()| None),
            done = done => Some(Some(done)),
        }
    }

    /// Follows the connection to the leader; if it is gone, stands for election.
    async fn watch_leader(&mut self, leader: RaftId, standing: &Standing) -> Option<()> {
        let channel = self.members.channels.channel(leader.node, Purpose::Raft);
        let mut given_up = self.members.given_up();
        let parting = async move {
            tokio::select! {
                biased;
                _ = given_up.changed() => Parting::GivenUp,
                parting = parting(&channel) => parting,
            }
        };
        match self.unless_changed(parting).await? {
            None => return Some(()),
            Some(Parting::GivenUp) => {
                tracing::info!(%leader, "the leader of the quorum hears nobody, as it says itself");
                return self.stand(standing, leader).await;
            }
            Some(Parting::Unreachable) => {
                tracing::debug!(%leader, "the leader cannot be reached from here");
                self.unless_changed(tokio::time::sleep(PROBE_LIMIT)).await?;
                return Some(());
            }
            Some(Parting::Broke) => {}
        }
        match hello::probe(&self.members, leader.node, PROBE_LIMIT).await {
            Probe::Answered(hello) if hello.leads_as(leader) => return Some(()),
            _ => {}
        }
        tracing::info!(%leader, term = standing.term, "the leader of the quorum is gone");
        self.members.forget_leader();
        drop_lease(&self.raft, standing).await;
        self.stand(standing, leader).await
    }

    /// Stands for election in turn, until there is a new leader or a new candidate.
    async fn stand(&mut self, seen: &Standing, gone: RaftId) -> Option<()> {
        let turn = self.turn(seen, Some(gone));
        loop {
            let wait = turn * STAGGER_MS + self.host.random.range(0..JITTER_MS);
            let waiting = tokio::time::sleep(Duration::from_millis(wait));
            // Whoever is heard of again was not gone, only hard to reach from here.
            if self.unless_changed(waiting).await?.is_none() || self.members.live_leader().is_some()
            {
                return Some(());
            }
            if self.campaign().await?.is_none() {
                return Some(());
            }
        }
    }

    /// A new term without a leader is a candidacy, this voter's or another's.
    fn note_candidacy(&mut self, standing: &Standing) {
        if standing.leader.is_some() {
            self.round = FIRST_ROUND;
            self.stood = None;
        } else if self.term.is_some_and(|term| term < standing.term) {
            if self.stood.is_some() {
                self.round = (2 * self.round).min(LAST_ROUND);
            }
            self.stood = Some(self.host.clock.now());
        }
        self.term = Some(standing.term);
    }

    /// Stands, and gives the others this round's time to answer, unless the standing changes.
    async fn campaign(&mut self) -> Option<Option<()>> {
        self.raft.trigger().elect(true).await.ok()?;
        self.unless_changed(tokio::time::sleep(self.round)).await
    }

    /// This voter's place among those that may stand.
    fn turn(&self, standing: &Standing, gone: Option<RaftId>) -> u64 {
        let others = standing
            .membership
            .voter_ids()
            .filter(|id| Some(*id) != gone);
        others.filter(|id| *id < standing.me).count() as u64
    }

    /// Nobody was heard to lead: asks the others; if no one knows a leader and enough of them are
    /// there, stands for election.
    async fn seek_leader(&mut self, standing: &Standing) -> Option<()> {
        let voters: Vec<RaftId> = standing.membership.voter_ids().collect();
        let others = voters
            .iter()
            .filter(|id| **id != standing.me)
            .map(|id| id.node);
        let asked = hello::ask_all(&self.members, others, PROBE_LIMIT).await;
        let answers: Vec<_> = asked.into_iter().flatten().collect();
        // That this node leads it would know: the others mean the run of it before this one.
        let mut leaders = answers.iter().filter_map(|answer| answer.leader.as_ref());
        let led = leaders.any(|(leader, _)| *leader != standing.me)
            || self.members.live_leader().is_some();
        if !led && 2 * (answers.len() + 1) > voters.len() {
            let turn = self.turn(standing, None);
            let wait = turn * STAGGER_MS + self.host.random.range(0..JITTER_MS);
            let until = self.stood.map(|stood| stood + self.round);
            let others = until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(self.host.clock.now())
            });
            let waiting = tokio::time::sleep(others + Duration::from_millis(wait));
            if self.unless_changed(waiting).await?.is_some() {
                tracing::info!(term = standing.term, "nobody leads the quorum, standing");
                self.campaign().await?;
            }
            return Some(());
        }
        self.unless_changed(tokio::time::sleep(ASK_INTERVAL))
            .await?;
        Some(())
    }
}

/// How a connection to the leader ended.
enum Parting {
    /// It was there, or the leader's machine says that nothing listens there any more; and the
    /// leader spoke a moment ago.
    Broke,
    /// It never was there: the leader is left to the election timeout.
    Unreachable,
    /// The leader says that it hears nobody.
    GivenUp,
}

/// Connects to the leader and waits until that breaks.
async fn parting(channel: &PeerChannel) -> Parting {
    match tokio::time::timeout(PROBE_LIMIT, channel.connect()).await {
        Ok(Ok(())) => {}
        Ok(Err(LinkFailure::Refused(_))) => return Parting::Broke,
        Ok(Err(_)) | Err(_) => return Parting::Unreachable,
    }
    // The channel lives as long as its link's watch does.
    let _ = channel.link().wait_for(|link| !link.is_up()).await;
    Parting::Broke
}

/// Another voter wants to replace the leader that this one follows: if that leader is gone, this
/// voter must not let its lease refuse the vote.
pub(crate) async fn reconsider(raft: &Raft, members: &Members, standing: &Standing) {
    let leader = members.live_leader().filter(|leader| {
        standing.leader == Some(*leader) && *leader != standing.me && standing.is_voter()
    });
    let Some(leader) = leader else { return };
    match hello::probe(members, leader.node, RECONSIDER_LIMIT).await {
        Probe::Answered(hello) if hello.leads_as(leader) => return,
        // Silence proves nothing yet.
        Probe::Silent => return,
        Probe::Answered(_) | Probe::Refused => {}
    }
    tracing::info!(%leader, term = standing.term, "the leader is gone, as another voter says");
    members.forget_leader();
    drop_lease(raft, standing).await;
}

/// Tells another voter that this leader hears nobody. Whether that arrives nobody can say.
pub(crate) async fn give_up(members: Members, standing: Standing, to: RaftId) {
    let channel = members.channels.channel(to.node, Purpose::Raft);
    let request = raft::TransferRequest {
        from: Some(wire::encode_vote(&standing.vote)),
        to: Some(wire::encode_id(&standing.me)),
        last: None,
    };
    let mut client = RaftClient::new(channel);
    // No answer is what made it say so.
    let _ = tokio::time::timeout(GIVE_UP_LIMIT, client.transfer_leader(request)).await;
}

/// Takes back the promise not to vote against the leader for a while.
async fn drop_lease(raft: &Raft, standing: &Standing) {
    let leader = standing.vote.leader_id().voted_for;
    // Naming somebody else as the successor only disables the lease of this very leader.
    let request = TransferLeaderRequest::new(standing.vote, leader, None);
    if let Err(error) = raft.handle_transfer_leader(request).await {
        tracing::debug!(%error, "could not drop the leader's lease");
    }
}
