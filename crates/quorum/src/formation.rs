//! How a node becomes part of the quorum.
//!
//! The first membership is made only when every configured voter says that its directory is empty.
//! If any of them holds metadata, the quorum exists, and this node asks its leader to be let in: a
//! voter whose disk was wiped as a learner first, which takes its old self's place once it has
//! caught up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millrace_host::Host;
use millrace_rpc::Purpose;
use millrace_rpc::proto::control::JoinRequest;
use millrace_rpc::proto::control::control_client::ControlClient;
use millrace_rpc::proto::raft as wire_raft;
use tokio::sync::watch;

use crate::Raft;
use crate::hello::{self, Hello};
use crate::log::LogStore;
use crate::members::Members;
use crate::options::Voter;
use crate::standing::Standing;
use crate::types::{Place, RaftId, StoredMembership};
use crate::wire;

const ASK_LIMIT: Duration = Duration::from_millis(500);
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait before asking again, with jitter.
const PAUSE_MS: std::ops::Range<u64> = 20..60;

pub(crate) struct Formation {
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) host: Host,
    pub(crate) members: Members,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) voters: Vec<Voter>,
    pub(crate) bootstrap_servers: Vec<Place>,
    pub(crate) place: Place,
    pub(crate) is_controller: bool,
}

impl Formation {
    fn is_voter(&self) -> bool {
        self.is_controller
            && self
                .voters
                .iter()
                .any(|voter| voter.id == self.members.me.node)
    }

    /// Runs until this node is part of the quorum, in the role and at the place it should have.
    pub(crate) async fn run(self) {
        loop {
            let standing = self.standing.borrow().clone();
            if standing.stopped.is_some() || self.is_done(&standing) {
                return;
            }
            let hellos = self.ask().await;
            if hellos.iter().any(|hello| !hello.empty) || !self.log.is_empty() {
                if self.join(&hellos).await {
                    return;
                }
            } else if self.is_voter() && hellos.len() == self.voters.len() - 1 {
                self.initialize(&hellos).await;
            }
            let pause = Duration::from_millis(self.host.random.range(PAUSE_MS));
            let mut standing = self.standing.clone();
            let _ = tokio::time::timeout(pause, standing.changed()).await;
        }
    }

    fn is_done(&self, standing: &Standing) -> bool {
        let me = standing.me;
        let mut voters = standing.membership.voter_ids();
        if self.is_controller && voters.any(|voter| voter.node == me.node && voter != me) {
            // Its place among the voters is still that of its old directory.
            return false;
        }
        match self.is_voter() {
            true => standing.is_voter(),
            // A learner's address may have changed while it was away.
            false => standing
                .membership
                .get_node(&standing.me)
                .is_some_and(|place| *place == self.place),
        }
    }

    /// What every other configured voter says, or every bootstrap server.
    async fn ask(&self) -> Vec<Hello> {
        if !self.voters.is_empty() {
            let hellos = hello::ask_all(&self.members, self.members.others(), ASK_LIMIT).await;
            return hellos.into_iter().flatten().collect();
        }
        let servers = self
            .bootstrap_servers
            .iter()
            .filter(|place| **place != self.place);
        let asking = servers.map(|place| {
            hello::ask(
                self.members.channels.channel_to(&place.host, place.port),
                ASK_LIMIT,
            )
        });
        let answers = futures::future::join_all(asking).await;
        answers
            .into_iter()
            .flatten()
            .filter(|hello| hello.id != self.members.me)
            .collect()
    }

    /// Makes the first membership, if it is this voter's turn: the lowest of those that have not
    /// even voted yet.
    async fn initialize(&self, hellos: &[Hello]) {
        let me = self.members.me;
        let first = hellos
            .iter()
            .filter(|hello| hello.pristine)
            .map(|hello| hello.id)
            .min();
        if !self.log.is_pristine() || first.is_some_and(|first| first < me) {
            return;
        }
        let mut ids: BTreeMap<_, _> = hellos
            .iter()
            .map(|hello| (hello.id.node, hello.id))
            .collect();
        ids.insert(me.node, me);
        let mut members = BTreeMap::new();
        for voter in &self.voters {
            let Some(id) = ids.get(&voter.id) else { return };
            if voter
                .directory
                .is_some_and(|directory| directory != id.directory)
            {
                tracing::warn!(%id, "a voter's directory is not the one the quorum was formatted with");
                return;
            }
            members.insert(*id, voter.place.clone());
        }
        tracing::info!(voters = members.len(), "forming the quorum");
        if let Err(error) = self.raft.initialize(members).await {
            tracing::debug!(%error, "the quorum is formed already");
        }
    }

    /// Asks the leader to let this node in; true once it did.
    async fn join(&self, hellos: &[Hello]) -> bool {
        let leader = hellos.iter().find_map(|hello| hello.leader.clone());
        let Some((leader, place)) = leader.filter(|(leader, _)| *leader != self.members.me) else {
            return false;
        };
        self.members.learn_place(leader.node, &place);
        let request = JoinRequest {
            id: Some(wire::encode_id(&self.members.me)),
            place: Some(wire_raft::Node {
                host: self.place.host.clone(),
                port: self.place.port.into(),
            }),
            voter: self.is_controller,
        };
        let channel = self.members.channels.channel(leader.node, Purpose::Control);
        let mut client = ControlClient::new(channel);
        match tokio::time::timeout(JOIN_LIMIT, client.join(request)).await {
            Ok(Ok(_)) => {
                tracing::info!(%leader, "joined the quorum");
                true
            }
            Ok(Err(status)) => {
                tracing::debug!(%leader, %status, "cannot join the quorum yet");
                false
            }
            Err(_) => false,
        }
    }
}

/// Lets a node in, on the leader: in the place of the voter that its node was with another
/// directory if it wants to vote, else as a learner.
pub(crate) async fn admit(
    raft: &Raft,
    standing: &Standing,
    id: RaftId,
    place: Place,
    voter: bool,
) -> Result<(), String> {
    use openraft::ChangeMembers;
    let membership = &standing.membership;
    let is_voter = |of: &RaftId| membership.voter_ids().any(|voter| voter == *of);
    if is_voter(&id) {
        return Ok(());
    }
    let former = membership.nodes().map(|(former, _)| *former);
    let former: Vec<_> = former
        .filter(|old| old.node == id.node && *old != id)
        .collect();
    let takes_over = voter && former.iter().any(is_voter);
    if voter && !takes_over {
        tracing::warn!(%id, "a controller joins that was never a voter: it only observes");
    }
    let describe = |error: &dyn std::fmt::Display| error.to_string();
    if !takes_over {
        let mut changes = vec![ChangeMembers::SetNodes(BTreeMap::from([(id, place)]))];
        let learners: BTreeSet<_> = former.into_iter().filter(|old| !is_voter(old)).collect();
        if !learners.is_empty() {
            changes.push(ChangeMembers::RemoveNodes(learners));
        }
        let changing = raft.change_membership(ChangeMembers::Batch(changes), false);
        return changing.await.map(drop).map_err(|error| describe(&error));
    }
    // Returns when the new directory has caught up with the log.
    raft.add_learner(id, place, true)
        .await
        .map_err(|error| describe(&error))?;
    let replaced: BTreeSet<_> = former.iter().copied().filter(|old| is_voter(old)).collect();
    let changes = vec![
        ChangeMembers::AddVoterIds([id].into()),
        ChangeMembers::RemoveVoters(replaced),
    ];
    let changing = raft.change_membership(ChangeMembers::Batch(changes), false);
    changing.await.map_err(|error| describe(&error))?;
    tracing::info!(%id, "a voter with a new directory took its old one's place");
    Ok(())
}

/// Finishes, on a new leader, a change of the voters that the one before it had begun.
pub(crate) async fn finish_change(raft: Raft, membership: Arc<StoredMembership>) {
    use openraft::ChangeMembers;
    if membership.membership().get_joint_config().len() <= 1 {
        return;
    }
    // A change of nothing ends in what the joint membership leads to.
    let nothing = ChangeMembers::AddVoterIds(BTreeSet::new());
    match raft.change_membership(nothing, false).await {
        Ok(_) => tracing::info!("finished the change of voters of the leader before"),
        Err(error) => tracing::debug!(%error, "could not finish the change of voters"),
    }
}
