//! The controller's rules (10 to 13) over one partition.

use millrace_model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch};

use crate::core::IsrRequest;

/// A rule that a test leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    PartitionEpochUnchecked,
    SameEpochAfterRestart,
    ElrKeptWhenMinIsrChanges,
    SameEpochAfterDamage,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Broker {
    pub(super) epoch: BrokerEpoch,
    pub(super) fenced: bool,
}

/// One version of the metadata.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) brokers: Vec<Broker>,
    pub(super) isr: Vec<BrokerId>,
    pub(super) elr: Vec<BrokerId>,
    pub(super) leader: Option<BrokerId>,
    pub(super) epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) min_isr: usize,
}

pub(super) fn index(id: BrokerId) -> usize {
    usize::try_from(id.0).expect("brokers are numbered from 0")
}

impl Image {
    pub(super) fn first(replicas: i32, min_isr: usize) -> Image {
        let broker = |id| Broker {
            epoch: BrokerEpoch(i64::from(id) + 1),
            fenced: false,
        };
        Image {
            brokers: (0..replicas).map(broker).collect(),
            isr: (0..replicas).map(BrokerId).collect(),
            elr: Vec::new(),
            leader: Some(BrokerId(0)),
            epoch: LeaderEpoch(1),
            partition_epoch: PartitionEpoch(1),
            min_isr,
        }
    }

    pub(super) fn replicas(&self) -> Vec<BrokerId> {
        (0..self.brokers.len())
            .map(|id| BrokerId(id as i32))
            .collect()
    }

    fn lives(&self, id: BrokerId) -> bool {
        !self.brokers[index(id)].fenced
    }

    /// Rule 12 for members that leave.
    fn leave(&mut self, leaving: &[BrokerId]) {
        self.isr.retain(|id| !leaving.contains(id));
        if self.isr.len() < self.min_isr {
            self.elr.extend(leaving);
        }
        self.settle_elr();
    }

    fn settle_elr(&mut self) {
        let isr = self.isr.clone();
        self.elr.retain(|id| !isr.contains(id));
        if self.isr.len() >= self.min_isr {
            self.elr.clear();
        }
    }

    /// Rule 11; every change has a new partition epoch, every new leader a new epoch.
    fn elect(&mut self) {
        if self
            .leader
            .is_some_and(|id| self.lives(id) && self.isr.contains(&id))
        {
            return;
        }
        let replicas = self.replicas();
        let of = |set: &[BrokerId]| {
            replicas
                .iter()
                .copied()
                .find(|id| set.contains(id) && self.lives(*id))
        };
        let leader = of(&self.isr);
        let revived = if leader.is_none() {
            of(&self.elr)
        } else {
            None
        };
        if let Some(revived) = revived {
            let former = std::mem::replace(&mut self.isr, vec![revived]);
            self.elr.extend(former);
            self.settle_elr();
        }
        let next = leader.or(revived);
        if next != self.leader {
            self.leader = next;
            self.epoch = self.epoch.next();
        }
    }

    pub(super) fn fence(&mut self, id: BrokerId) {
        self.brokers[index(id)].fenced = true;
        if self.isr.contains(&id) && self.isr.len() > 1 {
            self.leave(&[id]);
        }
        self.partition_epoch = self.partition_epoch.next();
        self.elect();
    }

    pub(super) fn unfence(&mut self, id: BrokerId) {
        self.brokers[index(id)].fenced = false;
        let before = self.leader;
        self.elect();
        if self.leader != before {
            self.partition_epoch = self.partition_epoch.next();
        }
    }

    /// Rule 13 under fsync: the places are kept, the leadership gets a new epoch. Rule 14: an
    /// empty disk keeps no place.
    pub(super) fn register(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
        wiped: bool,
        lapse: Option<Lapse>,
    ) {
        self.brokers[index(id)].epoch = epoch;
        if wiped {
            self.isr.retain(|member| *member != id);
            self.elr.retain(|member| *member != id);
            self.partition_epoch = self.partition_epoch.next();
            return self.elect();
        }
        if self.leader == Some(id) && lapse != Some(Lapse::SameEpochAfterRestart) {
            self.epoch = self.epoch.next();
            self.partition_epoch = self.partition_epoch.next();
        }
    }

    /// A replica is damaged: it leaves ISR and ELR, and a new leadership begins, where another
    /// member of the ISR can lead.
    pub(super) fn relieve(
        &mut self,
        from: BrokerId,
        broker_epoch: BrokerEpoch,
        epoch: LeaderEpoch,
        lapse: Option<Lapse>,
    ) {
        let current = self.epoch == epoch && self.brokers[index(from)].epoch == broker_epoch;
        let mut others = self.isr.iter().filter(|id| **id != from);
        if !current || !others.any(|id| self.lives(*id)) {
            return;
        }
        self.isr.retain(|id| *id != from);
        self.elr.retain(|id| *id != from);
        self.partition_epoch = self.partition_epoch.next();
        let before = self.epoch;
        self.elect();
        let anew = self.epoch == before && self.leader.is_some();
        if anew && lapse != Some(Lapse::SameEpochAfterDamage) {
            self.epoch = self.epoch.next();
        }
    }

    /// Rule 10.
    pub(super) fn change_isr(
        &mut self,
        from: BrokerId,
        broker_epoch: BrokerEpoch,
        request: &IsrRequest,
        lapse: Option<Lapse>,
    ) -> bool {
        let current = request.epoch == self.epoch
            && (request.partition_epoch == self.partition_epoch
                || lapse == Some(Lapse::PartitionEpochUnchecked));
        let leads = self.leader == Some(from) && self.brokers[index(from)].epoch == broker_epoch;
        let eligible = request.isr.iter().all(|(id, epoch)| {
            let broker = self.brokers[index(*id)];
            !broker.fenced && broker.epoch == *epoch
        });
        if !current || !leads || !eligible {
            return false;
        }
        let wanted: Vec<BrokerId> = request.isr.iter().map(|(id, _)| *id).collect();
        let leaving: Vec<BrokerId> = self
            .isr
            .iter()
            .copied()
            .filter(|id| !wanted.contains(id))
            .collect();
        self.isr = wanted;
        self.leave(&leaving);
        self.partition_epoch = self.partition_epoch.next();
        true
    }

    pub(super) fn set_min_isr(&mut self, min_isr: usize, lapse: Option<Lapse>) {
        self.min_isr = min_isr;
        if lapse != Some(Lapse::ElrKeptWhenMinIsrChanges) {
            self.elr.clear();
            self.partition_epoch = self.partition_epoch.next();
        }
    }
}
