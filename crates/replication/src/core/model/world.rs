//! Nodes with real cores, disks that forget, messages that arrive late, twice or never.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId};

use super::chance::{Action, Chance, Fate};
use super::controller::{Image, index};
use super::disk::{Disk, Entry};
use super::invariants::{self, Committed};
use super::setup::Setup;
use crate::core::message::{Ack, Address, Join, Progressed, StreamId, Truncate};
use crate::core::{
    Core, Effects, Follow, IsrOutcome, IsrRequest, Job, Lead, Moment, Outgoing, Part, PeerView,
    Rules, View,
};

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) core: Option<Core>,
    pub(super) disk: Disk,
    pub(super) epoch: BrokerEpoch,
    seen: usize,
    jobs: Vec<Job>,
    pub(super) streams: BTreeMap<BrokerId, StreamId>,
    next_stream: u64,
    /// The log end at the last take-over; a high watermark below is another leader's word.
    pub(super) taken_over_with: usize,
    pub(super) committed_in: Option<(LeaderEpoch, usize)>,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Join(Join),
    Ack(Ack),
    Append(Address, usize, Vec<Entry>, Progressed),
    Advance(Address, Progressed),
    Truncate(Address, Truncate),
    Refuse(StreamId),
    IsrRequest(BrokerEpoch, IsrRequest),
    IsrReply(IsrRequest, bool),
    Damaged(BrokerEpoch, LeaderEpoch),
}

const CONTROLLER: BrokerId = BrokerId(-1);
const CRASHES: usize = 4;
const LONGEST_LOG: usize = 8;

#[derive(Clone)]
pub(super) struct World {
    setup: Setup,
    pub(super) chance: Chance,
    pub(super) images: Vec<Image>,
    pub(super) nodes: Vec<Node>,
    pub(super) bag: Vec<(BrokerId, BrokerId, Message)>,
    pub(super) committed: Vec<Committed>,
    pub(super) next_value: u64,
    pub(super) next_epoch: i64,
    pub(super) crashes: usize,
    pub(super) now: Moment,
    fatal: Option<String>,
    pub(super) traces: bool,
    pub(super) trace: Vec<String>,
}

impl World {
    pub(super) fn new(setup: Setup, seed: u64) -> World {
        let image = Image::first(setup.replicas, setup.min_isr);
        let node = |id: usize| Node {
            core: None,
            disk: Disk::default(),
            epoch: image.brokers[id].epoch,
            seen: 0,
            jobs: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            taken_over_with: 0,
            committed_in: None,
        };
        let nodes = (0..image.brokers.len()).map(node).collect();
        let mut world = World {
            next_epoch: i64::from(setup.replicas) + 1,
            setup,
            chance: Chance::of(seed),
            images: vec![image],
            nodes,
            bag: Vec::new(),
            committed: Vec::new(),
            next_value: 0,
            crashes: 0,
            now: Moment::ZERO,
            fatal: None,
            traces: false,
            trace: Vec::new(),
        };
        for id in 0..world.nodes.len() {
            world.start(id);
        }
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance.below(bound)
    }

    fn node(&mut self) -> usize {
        self.below(self.nodes.len())
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        let id = self.node();
        if self.below(100) < self.setup.crash_share {
            return self.act(Action::Crash, id);
        }
        if self.setup.damages && self.below(12) == 0 {
            return self.act(Action::Damage, id);
        }
        let action = Action::drawn(&mut self.chance);
        self.act(action, id)
    }

    /// Something happens, to this node where it happens to one.
    pub(super) fn act(&mut self, action: Action, id: usize) -> Result<(), String> {
        match action {
            Action::Crash => self.crash(id),
            Action::Damage => self.damage_or_tell(id),
            Action::Produce => self.produce(),
            Action::Deliver => self.deliver(),
            Action::Push => self.push(id),
            Action::Sync => self.sync(id),
            Action::RunJob => self.run_job(id),
            Action::SeeImage => self.see_image(id),
            Action::Connect => self.connect(id),
            Action::Retry => self.retry(id),
            Action::PassTime => self.pass_time(id),
            Action::Fence => self.change(|image| image.fence(BrokerId(id as i32)), "fence", id),
            Action::Unfence => {
                self.change(|image| image.unfence(BrokerId(id as i32)), "unfence", id);
            }
            Action::SetMinIsr => self.set_min_isr(),
        }
        if let Some(fatal) = &self.fatal {
            return Err(fatal.clone());
        }
        invariants::check(self)
    }

    fn note(&mut self, what: impl FnOnce(&World) -> String) {
        if self.traces {
            self.trace.push(what(self));
        }
    }

    fn with_core(
        &mut self,
        id: usize,
        act: impl FnOnce(&mut Core, &mut Disk, Moment, &mut Effects),
    ) {
        let mut fx = Effects::default();
        let now = self.now;
        let node = &mut self.nodes[id];
        if let Some(core) = &mut node.core {
            act(core, &mut node.disk, now, &mut fx);
            self.apply(id, fx);
        }
    }

    fn apply(&mut self, id: usize, fx: Effects) {
        let me = BrokerId(id as i32);
        let node = &mut self.nodes[id];
        if fx.start_epoch.is_some() {
            node.taken_over_with = node.disk.entries.len();
        }
        node.jobs.extend(fx.job);
        let epoch = node.epoch;
        if let Some((to, address, truncate)) = fx.truncate {
            self.bag
                .push((me, to, Message::Truncate(address, truncate)));
        }
        if let Some((to, stream, _)) = fx.refuse {
            self.bag.push((me, to, Message::Refuse(stream)));
        }
        if let Some((to, join)) = fx.join {
            self.bag.push((me, to, Message::Join(join)));
        }
        if let Some((to, _, ack)) = fx.ack {
            self.bag.push((me, to, Message::Ack(ack)));
        }
        if let Some(request) = fx.isr {
            self.bag
                .push((me, CONTROLLER, Message::IsrRequest(epoch, request)));
        }
        self.fatal = self.fatal.take().or(fx.fatal);
    }

    fn start(&mut self, id: usize) {
        let rules = Rules {
            omitted: self.setup.omitted,
            isr_backoff: Duration::ZERO,
            ..Rules::default()
        };
        let partition = PartitionId {
            topic: Default::default(),
            index: 0,
        };
        let core = Core::new(partition, BrokerId(id as i32), rules, Arc::default());
        self.nodes[id].core = Some(core);
        self.with_core(id, |core, disk, now, fx| {
            core.opened(disk, disk.high_watermark, now, fx)
        });
        self.show_image(id);
    }

    fn show_image(&mut self, id: usize) {
        let me = BrokerId(id as i32);
        let image = self.images[self.nodes[id].seen].clone();
        let mut view = View {
            own_epoch: Some(self.nodes[id].epoch),
            ..View::default()
        };
        for (at, broker) in image.brokers.iter().enumerate() {
            let peer = PeerView {
                epoch: broker.epoch,
                fenced: broker.fenced,
                shutting_down: false,
                slow: false,
            };
            view.brokers.insert(BrokerId(at as i32), peer);
        }
        let (epoch, partition_epoch) = (image.epoch, image.partition_epoch);
        let part = if image.leader == Some(me) {
            let replicas = image.replicas();
            let (isr, elr, min_isr) = (image.isr, image.elr, image.min_isr);
            Part::Lead(Lead {
                epoch,
                partition_epoch,
                replicas,
                isr,
                elr,
                min_isr,
                confirm_fsync: false,
            })
        } else {
            Part::Follow(Follow {
                leader: image.leader,
                epoch,
                partition_epoch,
                counted_on: image.isr.contains(&me) || image.elr.contains(&me),
            })
        };
        self.with_core(id, |core, disk, now, fx| {
            core.set_view(Arc::new(view), disk, now, fx)
        });
        self.with_core(id, |core, disk, now, fx| core.assign(part, disk, now, fx));
        if let Some(leader) = image.leader.filter(|leader| *leader != me)
            && let Some(stream) = self.nodes[id].streams.get(&leader).copied()
        {
            self.with_core(id, |core, disk, _, fx| {
                core.attach(leader, stream, disk, fx)
            });
        }
    }

    fn see_image(&mut self, id: usize) {
        let newest = self.images.len() - 1;
        let seen = self.nodes[id].seen;
        if self.nodes[id].core.is_none() || seen == newest {
            return;
        }
        let next = if self.below(2) == 0 { newest } else { seen + 1 };
        self.nodes[id].seen = next;
        self.note(|world| format!("node {id} sees image {next}: {:?}", world.images[next]));
        self.show_image(id);
    }

    fn produce(&mut self) {
        let serving: Vec<usize> = (0..self.nodes.len())
            .filter(|id| {
                self.nodes[*id]
                    .core
                    .as_ref()
                    .is_some_and(|c| c.serving().is_some())
            })
            .collect();
        if serving.is_empty() {
            return;
        }
        let id = serving[self.below(serving.len())];
        if self.nodes[id].disk.entries.len() >= LONGEST_LOG {
            return;
        }
        self.next_value += 1;
        let value = self.next_value;
        self.note(|_| format!("node {id} appends value {value}"));
        self.with_core(id, |core, disk, now, fx| {
            let epoch = core.serving().expect("it serves");
            disk.entries.push(Entry { epoch, value });
            core.log_moved(disk, now, fx);
        });
    }

    fn sync(&mut self, id: usize) {
        let runs = self.nodes[id].core.is_some();
        let disk = &mut self.nodes[id].disk;
        if runs && disk.durable < disk.entries.len() {
            disk.durable = disk.entries.len();
            self.note(|world| format!("node {id} syncs to {}", world.nodes[id].disk.durable));
            self.with_core(id, |core, disk, now, fx| core.log_moved(disk, now, fx));
        }
    }

    fn run_job(&mut self, id: usize) {
        if self.nodes[id].jobs.is_empty() {
            return;
        }
        let job = self.nodes[id].jobs.remove(0);
        self.note(|_| format!("node {id} ends {job:?}"));
        let disk = &mut self.nodes[id].disk;
        match job {
            Job::Open => {}
            Job::MakeDurable(_) => disk.durable = disk.entries.len(),
            Job::Cut(to) | Job::Restart(to) => disk.cut(to.0 as usize),
        }
        self.with_core(id, |core, disk, now, fx| core.job_done(job, disk, now, fx));
    }

    /// A disk changes what it holds, unless one has done so already; then its broker tells of it.
    fn damage_or_tell(&mut self, id: usize) {
        let damaged = |node: &Node| node.disk.damaged.is_some();
        let Some(id) = self.nodes.iter().position(damaged) else {
            let length = self.nodes[id].disk.entries.len();
            if length > 0 {
                let at = self.below(length);
                self.nodes[id].disk.damaged = Some(at);
                self.note(|_| format!("the disk of node {id} is damaged from {at} on"));
            }
            return;
        };
        let node = &self.nodes[id];
        let epoch = node.core.as_ref().and_then(|c| c.wants_relief(&node.disk));
        if let Some(epoch) = epoch {
            let message = Message::Damaged(node.epoch, epoch);
            self.note(|_| format!("node {id} tells of its damage in epoch {epoch}"));
            self.bag.push((BrokerId(id as i32), CONTROLLER, message));
        }
    }

    fn connect(&mut self, id: usize) {
        let me = BrokerId(id as i32);
        let Some((leader, _)) = self.nodes[id].core.as_ref().and_then(Core::following) else {
            return;
        };
        let node = &mut self.nodes[id];
        node.next_stream += 1;
        let stream = StreamId(node.next_stream);
        let old = node.streams.insert(leader, stream);
        self.note(|_| format!("node {me} opens {stream:?} to {leader}"));
        self.with_core(id, |core, disk, _, fx| {
            if let Some(old) = old {
                core.detach(old);
            }
            core.attach(leader, stream, disk, fx);
        });
    }

    fn retry(&mut self, id: usize) {
        self.with_core(id, |core, disk, _, fx| core.retry_join(disk, fx));
    }

    fn pass_time(&mut self, id: usize) {
        let spans = [0, 600, 1200, 40_000];
        let span = spans[self.below(spans.len())];
        self.now += Duration::from_millis(span);
        self.note(|_| format!("{span} ms later node {id} looks around"));
        self.with_core(id, |core, _, now, fx| core.tick(now, fx));
    }

    fn crash(&mut self, id: usize) {
        if self.nodes[id].core.is_none() {
            self.restart(id);
            return;
        }
        if self.crashes == CRASHES {
            return;
        }
        self.crashes += 1;
        let core = self.nodes[id].core.take().expect("it runs");
        let hint = self.below(core.high_watermark().0 as usize + 1);
        let disk = &mut self.nodes[id].disk;
        let at_risk = disk.entries.len() - disk.durable;
        let kept = disk.durable + self.below(at_risk + 1);
        let node = &mut self.nodes[id];
        node.disk.cut(kept);
        node.disk.high_watermark = Offset(hint as i64);
        node.jobs.clear();
        node.streams.clear();
        let seen = node.seen;
        self.nodes[id].seen = self.below(seen + 1);
        self.note(|_| format!("node {id} crashes and keeps {kept}"));
        if self.below(2) == 0 {
            self.restart(id);
        }
    }

    fn restart(&mut self, id: usize) {
        self.next_epoch += 1;
        let epoch = BrokerEpoch(self.next_epoch);
        self.nodes[id].epoch = epoch;
        let (me, lapse) = (BrokerId(id as i32), self.setup.lapse);
        let image = self.images.last().expect("there is a first image");
        let others_hold_it = image
            .isr
            .iter()
            .chain(&image.elr)
            .any(|member| *member != me);
        let wiped = self.setup.wipes && others_hold_it && self.below(3) == 0;
        if wiped {
            self.nodes[id].disk = Disk::default();
        }
        let what = if wiped { "register wiped" } else { "register" };
        self.change(|image| image.register(me, epoch, wiped, lapse), what, id);
        self.start(id);
    }

    fn set_min_isr(&mut self) {
        if self.setup.min_isr == 1 && self.setup.lapse.is_none() {
            return;
        }
        let min_isr = 1 + self.below(self.nodes.len());
        let lapse = self.setup.lapse;
        self.change(
            |image| image.set_min_isr(min_isr, lapse),
            "min ISR",
            min_isr,
        );
    }

    fn change(&mut self, change: impl FnOnce(&mut Image), what: &str, about: usize) {
        let mut image = self.images.last().expect("there is a first image").clone();
        change(&mut image);
        self.note(|world| {
            format!(
                "controller: {what} {about}: image {}: {image:?}",
                world.images.len()
            )
        });
        self.images.push(image);
    }

    fn push(&mut self, id: usize) {
        let me = BrokerId(id as i32);
        let to = BrokerId(self.node() as i32);
        if to == me {
            return;
        }
        let Some(stream) = self.nodes[id]
            .core
            .as_ref()
            .and_then(|core| core.stream_to(to))
        else {
            return;
        };
        let take = 1 + self.below(3);
        let mut out = None;
        self.with_core(id, |core, disk, _, _| match core.next_for(to, stream) {
            Outgoing::Nothing => {}
            Outgoing::Advance {
                address,
                progressed,
            } => {
                out = Some(Message::Advance(address, progressed));
            }
            Outgoing::Batches {
                address,
                progressed,
                from,
                upper,
            } => {
                let from = from.0 as usize;
                let readable = disk.damaged.unwrap_or(usize::MAX);
                let end = (upper.0 as usize).min(from + take).min(readable);
                let mut more = false;
                if end > from && core.sent(to, address, Offset(end as i64), &mut more) {
                    let entries = disk.entries[from..end].to_vec();
                    out = Some(Message::Append(address, from, entries, progressed));
                }
            }
        });
        if let Some(message) = out {
            self.note(|_| format!("node {id} sends {message:?} to {to}"));
            self.bag.push((me, to, message));
        }
    }

    fn deliver(&mut self) {
        if self.bag.is_empty() {
            return;
        }
        let at = self.below(self.bag.len());
        let (from, to, message) = match self.chance.fate() {
            Fate::Lost => {
                self.bag.swap_remove(at);
                return;
            }
            Fate::ArrivesAndStays if self.bag.len() < 24 => self.bag[at].clone(),
            Fate::ArrivesAndStays | Fate::Arrives => self.bag.swap_remove(at),
        };
        self.note(|_| format!("{to} gets {message:?} from {from}"));
        if to == CONTROLLER {
            self.decide(from, message);
        } else {
            self.with_core(index(to), |core, disk, now, fx| {
                receive(core, disk, from, message, now, fx);
            });
        }
    }

    fn decide(&mut self, from: BrokerId, message: Message) {
        let lapse = self.setup.lapse;
        if let Message::Damaged(broker_epoch, epoch) = message {
            let what = "relieve";
            let relieve = |image: &mut Image| image.relieve(from, broker_epoch, epoch, lapse);
            return self.change(relieve, what, index(from));
        }
        let Message::IsrRequest(broker_epoch, request) = message else {
            return;
        };
        let mut image = self.images.last().expect("there is a first image").clone();
        let granted = image.change_isr(from, broker_epoch, &request, lapse);
        if granted {
            self.note(|world| {
                format!("controller grants: image {}: {image:?}", world.images.len())
            });
            self.images.push(image);
        }
        self.bag
            .push((CONTROLLER, from, Message::IsrReply(request, granted)));
    }
}

fn receive(
    core: &mut Core,
    disk: &mut Disk,
    from: BrokerId,
    message: Message,
    now: Moment,
    fx: &mut Effects,
) {
    match message {
        Message::Join(join) => core.join(from, join, disk, fx),
        Message::Ack(ack) => core.ack(from, ack, now, fx),
        Message::Append(address, base, entries, progressed) => {
            if core.may_follow(from, &address, Offset(base as i64), fx) {
                disk.entries.extend(entries);
                core.followed(from, &address, progressed, disk, fx);
            }
        }
        Message::Advance(address, progressed) => {
            core.followed(from, &address, progressed, disk, fx)
        }
        Message::Truncate(address, truncate) => core.truncate(from, &address, truncate, disk, fx),
        Message::Refuse(stream) => core.leader_refused(from, stream, fx),
        Message::IsrReply(request, granted) => {
            let outcome = if granted {
                IsrOutcome::Accepted
            } else {
                IsrOutcome::Refused
            };
            core.isr_answered(&request, outcome, now, fx);
        }
        Message::IsrRequest(..) | Message::Damaged(..) => {
            unreachable!("only the controller gets these")
        }
    }
}
