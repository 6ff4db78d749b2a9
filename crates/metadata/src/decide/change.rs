//! One change of one partition: ISR, ELR and leader are settled together (rules 11, 12 and 15).
//!
//! Whatever causes a change says only what it wants; what follows from that for eligible leader
//! replicas, leadership, epochs and a running reassignment is the same for all and stands here.

use millrace_model::limits::QUICK_MEMBERS;
use millrace_model::{BrokerId, DirectoryId, Durability, PartitionId};

use crate::image::Image;
use crate::partition::{Partition, Recovery};
use crate::record::{PartitionChange, Record};

/// Which leader is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// The present one, or else who can.
    IfNeeded,
    /// The first replica if it can.
    Preferred,
    /// Anybody who lives: an operator takes the loss of records upon themselves.
    Ordered,
}

/// A change in the making.
pub(super) struct Change<'a> {
    image: &'a Image,
    id: PartitionId,
    before: &'a Partition,
    /// The partition as it is to be; epochs and leader are settled in the end.
    pub next: Partition,
    /// Whose data are not to be trusted: they enter no ELR.
    distrusted: Vec<BrokerId>,
    /// Replicas that begin empty, and where.
    moved: Vec<(BrokerId, DirectoryId)>,
    election: Election,
    forget_elr: bool,
    new_epoch: bool,
    fsync_confirmed: bool,
}

/// How a leader came to be chosen.
enum Choice {
    /// From the ISR, or nobody.
    InSync(Option<BrokerId>),
    /// From the ELR: it makes the ISR alone.
    Eligible(BrokerId),
    /// Although it may lack records: it makes the ISR alone, and the others follow it.
    Unclean(BrokerId),
}

impl<'a> Change<'a> {
    /// A change of a partition of `image`, whose brokers are as they will be.
    pub fn of(image: &'a Image, id: PartitionId) -> Change<'a> {
        let before = image
            .partition(id)
            .expect("a change is of a partition that exists");
        Change {
            image,
            id,
            before,
            next: (**before).clone(),
            distrusted: Vec::new(),
            moved: Vec::new(),
            election: Election::IfNeeded,
            forget_elr: false,
            new_epoch: false,
            fsync_confirmed: false,
        }
    }

    /// Takes a broker out of the ISR, unless it is the last member (rule 12).
    pub fn without(&mut self, broker: BrokerId) {
        if self.next.isr != [broker] {
            self.next.isr.retain(|member| *member != broker);
        }
    }

    /// Takes a broker out of the ISR if its disk is slow, where as many quick ones stay as acks=all asks
    /// for, and two at least.
    pub fn without_slow(&mut self, broker: BrokerId) {
        let is_quick = |member: &BrokerId| self.image.is_quick(*member, &self.next);
        let others = self.next.isr.iter().filter(|member| **member != broker);
        let enough = self.min_insync(&self.next).max(QUICK_MEMBERS);
        if !is_quick(&broker) && others.filter(|member| is_quick(member)).count() >= enough {
            self.without(broker);
        }
    }

    /// Takes a broker out of ISR and ELR, the last member too: its data may be gone (rules 13, 14).
    pub fn distrust(&mut self, broker: BrokerId) {
        self.next.isr.retain(|member| *member != broker);
        self.exclude_from_elr(broker);
    }

    /// Takes a broker out of the ELR and keeps it out.
    pub fn exclude_from_elr(&mut self, broker: BrokerId) {
        self.distrusted.push(broker);
    }

    /// Takes a broker whose replica is damaged out of ISR and ELR, and lets a new leadership begin.
    /// False, and nothing changes, where no other member of either can lead: those of the ELR too
    /// have all that was committed.
    pub fn relieve(&mut self, broker: BrokerId) -> bool {
        let members = self.next.isr.iter().chain(&self.next.elr);
        let mut others = members.filter(|member| **member != broker);
        if !others.any(|other| self.can_lead(*other)) {
            return false;
        }
        self.distrust(broker);
        self.raise_epoch();
        true
    }

    /// The broker's replica is empty and lies in `directory` from now on. If nobody is left to
    /// fill it, the old directory stays on record, in case it comes back.
    pub fn begin_empty(&mut self, broker: BrokerId, directory: DirectoryId) {
        self.distrust(broker);
        self.moved.push((broker, directory));
    }

    /// The broker's replica lies in `directory`.
    pub fn set_directory(&mut self, broker: BrokerId, directory: DirectoryId) {
        if let Some(place) = self.next.replicas.iter().position(|r| *r == broker) {
            self.next.directories[place] = directory;
        }
    }

    /// Which leader is wanted.
    pub fn elect(&mut self, election: Election) {
        self.election = election;
    }

    /// `min.insync.replicas` changes: an ELR counted by the old value means nothing (rule 12). It
    /// stays where the ISR is empty, since then the high watermark cannot move by either value.
    pub fn forget_elr(&mut self) {
        self.forget_elr = true;
    }

    /// Whoever leads on does so under a new epoch.
    pub fn raise_epoch(&mut self) {
        self.new_epoch = true;
    }

    /// The ISR holds everything durably. That counts only when there is no ELR, which nobody asked.
    pub fn confirm_fsync(&mut self) {
        self.fsync_confirmed = true;
    }

    /// The record that makes it so; `None` when nothing changes.
    pub fn record(self) -> Option<Record> {
        self.settle().map(Record::PartitionChange)
    }

    /// The change, settled.
    pub fn settle(mut self) -> Option<PartitionChange> {
        self.complete_reassignment();
        self.settle_elr();
        let choice = self.choose();
        self.install(choice);
        if self.fsync_confirmed && self.next.elr.is_empty() {
            self.next.durability = Durability::Fsync;
        }
        self.settle_directories();
        self.settle_last_known();
        self.difference()
    }

    /// Rule 15: once everybody who stays is in sync, those who leave leave.
    fn complete_reassignment(&mut self) {
        let next = &mut self.next;
        if !next.is_reassigning() {
            return;
        }
        let stays = |broker: &BrokerId| !next.removing.contains(broker);
        let replicas: Vec<_> = next.replicas.iter().copied().filter(stays).collect();
        let isr: Vec<_> = next.isr.iter().copied().filter(stays).collect();
        if replicas.is_empty() || !replicas.iter().all(|r| isr.contains(r)) {
            return;
        }
        self.set_replicas(replicas);
        self.next.isr = isr;
        self.next.adding.clear();
        self.next.removing.clear();
    }

    /// Replaces the replicas; each new one goes where its broker puts new replicas.
    pub fn set_replicas(&mut self, replicas: Vec<BrokerId>) {
        let directory = |broker: &BrokerId| {
            let fresh = self.image.broker(*broker).map(|b| b.default_directory());
            self.next.directory(*broker).or(fresh).unwrap_or_default()
        };
        self.next.directories = replicas.iter().map(directory).collect();
        self.next.replicas = replicas;
    }

    fn min_insync(&self, partition: &Partition) -> usize {
        self.image
            .min_insync(self.image.topic_name(self.id), partition)
    }

    /// Rule 12: who leaves an ISR that is, or falls, below the minimum is eligible still.
    fn settle_elr(&mut self) {
        let min_insync = self.min_insync(&self.next);
        let forget = self.forget_elr || min_insync != self.min_insync(self.before);
        let known = if forget && !self.next.isr.is_empty() {
            &[]
        } else {
            &self.before.elr[..]
        };
        let eligible = |broker: &BrokerId| {
            (known.contains(broker) || self.before.isr.contains(broker))
                && !self.next.isr.contains(broker)
                && !self.distrusted.contains(broker)
        };
        let elr: Vec<_> = self
            .next
            .replicas
            .iter()
            .copied()
            .filter(eligible)
            .collect();
        let needed = self.next.isr.len() < min_insync;
        self.next.elr = if needed { elr } else { Vec::new() };
    }

    /// Rule 11.
    fn choose(&self) -> Choice {
        let next = &self.next;
        let in_sync = |broker: &BrokerId| next.isr.contains(broker);
        let fit = self.fit_to_lead(&next.isr);
        let can = |broker: &BrokerId| fit.contains(broker);
        let preferred = next.preferred_leader().filter(can);
        if self.election == Election::Preferred && preferred.is_some() {
            return Choice::InSync(preferred);
        }
        let present = self.before.leader.filter(in_sync);
        if let Some(leader) = present.filter(can).or_else(|| fit.first().copied()) {
            return Choice::InSync(Some(leader));
        }
        // A leader that shuts down leads on until another can.
        if let Some(leader) = present.filter(|b| self.is_alive(*b)) {
            return Choice::InSync(Some(leader));
        }
        if let Some(leader) = self.fit_to_lead(&next.elr).first() {
            return Choice::Eligible(*leader);
        }
        match self.choose_unclean() {
            Some(leader) => Choice::Unclean(leader),
            None => Choice::InSync(None),
        }
    }

    /// Those of `members` that can lead, in the order of the replicas: who is short of space only
    /// where everybody is, and of the others who is slow only where all of them are.
    fn fit_to_lead(&self, members: &[BrokerId]) -> Vec<BrokerId> {
        let replicas = self.next.replicas.iter().copied();
        let can = |broker: &BrokerId| members.contains(broker) && self.can_lead(*broker);
        let condition = |broker: &BrokerId| {
            let has_room = self.image.has_room(*broker, &self.next);
            (has_room, self.image.is_quick(*broker, &self.next))
        };
        let mut fit: Vec<BrokerId> = replicas.filter(can).collect();
        let best = fit.iter().map(condition).max();
        fit.retain(|broker| Some(condition(broker)) == best);
        fit
    }

    /// Where nobody is in sync or eligible any more, who led last may lead on (KIP-966, balanced
    /// recovery); anybody else only where that is allowed or ordered.
    fn choose_unclean(&self) -> Option<BrokerId> {
        let next = &self.next;
        let can = |broker: &BrokerId| self.can_lead(*broker);
        let trusted = |broker: &BrokerId| can(broker) && !self.distrusted.contains(broker);
        let last = self.before.last_known_elr.iter().copied().find(trusted);
        if next.isr.is_empty() && next.elr.is_empty() && last.is_some() {
            return last;
        }
        let ordered = self.election == Election::Ordered;
        let name = self.image.topic_name(self.id);
        if !ordered && !self.image.unclean_election_allowed(name) {
            return None;
        }
        let anybody = last.or_else(|| next.replicas.iter().copied().find(can));
        let empty = |broker: &BrokerId| ordered && self.image.is_active(*broker);
        anybody.or_else(|| next.replicas.iter().copied().find(empty))
    }

    fn can_lead(&self, broker: BrokerId) -> bool {
        self.image.is_active(broker) && self.image.serves(broker, &self.next)
    }

    fn is_alive(&self, broker: BrokerId) -> bool {
        let registered = self.image.broker(broker);
        registered.is_some_and(|b| !b.fenced) && self.image.serves(broker, &self.next)
    }

    fn install(&mut self, choice: Choice) {
        match choice {
            Choice::InSync(leader) => self.next.leader = leader,
            Choice::Eligible(leader) => {
                let former = std::mem::replace(&mut self.next.isr, vec![leader]);
                self.next.elr.retain(|member| *member != leader);
                let trusted = |b: &BrokerId| !self.distrusted.contains(b);
                self.next.elr.extend(former.into_iter().filter(trusted));
                if self.min_insync(&self.next) <= 1 {
                    self.next.elr.clear();
                }
                self.next.leader = Some(leader);
            }
            Choice::Unclean(leader) => {
                self.next.isr = vec![leader];
                self.next.elr.clear();
                self.next.recovery = Recovery::Recovering;
                self.next.leader = Some(leader);
                self.replace_lost_directories();
            }
        }
    }

    /// After an unclean election nothing is worth waiting for: replicas whose directory is not
    /// there begin anew elsewhere.
    fn replace_lost_directories(&mut self) {
        for place in 0..self.next.replicas.len() {
            if let Some(broker) = self.image.broker(self.next.replicas[place])
                && !broker.has_online(self.next.directories[place])
            {
                self.next.directories[place] = broker.default_directory();
            }
        }
    }

    fn settle_directories(&mut self) {
        if self.next.isr.is_empty() && self.next.elr.is_empty() {
            return;
        }
        for (broker, directory) in std::mem::take(&mut self.moved) {
            self.set_directory(broker, directory);
        }
    }

    fn settle_last_known(&mut self) {
        if self.next.leader.is_some() {
            self.next.last_known_elr.clear();
        } else if self.next.isr.is_empty() && !self.before.isr.is_empty() {
            let last = self.before.leader;
            let last = last.or_else(|| self.before.isr.first().copied());
            self.next.last_known_elr = last.into_iter().collect();
        }
    }

    fn difference(self) -> Option<PartitionChange> {
        let (before, next) = (self.before, self.next);
        let lost_replica = before.replicas.iter().any(|r| !next.replicas.contains(r));
        let leads_on_anew = next.leader.is_some() && (self.new_epoch || lost_replica);
        let raised = next.leader != before.leader || leads_on_anew;
        let brokers = |new: Vec<BrokerId>, old: &Vec<BrokerId>| (new != *old).then_some(new);
        let nothing = PartitionChange::of(self.id, before);
        let change = PartitionChange {
            leader_epoch: if raised {
                before.leader_epoch.next()
            } else {
                before.leader_epoch
            },
            leader: raised.then_some(next.leader),
            replicas: brokers(next.replicas, &before.replicas),
            directories: (next.directories != before.directories).then_some(next.directories),
            isr: brokers(next.isr, &before.isr),
            elr: brokers(next.elr, &before.elr),
            last_known_elr: brokers(next.last_known_elr, &before.last_known_elr),
            adding: brokers(next.adding, &before.adding),
            removing: brokers(next.removing, &before.removing),
            recovery: (next.recovery != before.recovery).then_some(next.recovery),
            durability: (next.durability != before.durability).then_some(next.durability),
            ..nothing.clone()
        };
        (change != nothing).then_some(change)
    }
}
