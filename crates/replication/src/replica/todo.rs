//! What follows from decisions, done once no lock is held.

use std::sync::Arc;

use millrace_model::{BrokerId, PartitionId};
use tokio::sync::oneshot;

use super::lanes::Route;
use super::{Inner, Replica};
use crate::core::message::{Ack, Address, Join, Refuse, StreamId, Truncate};
use crate::core::{Effects, IsrRequest, Job};
use crate::pull::Link;
use crate::push::Session;
use crate::shared::Shared;
use crate::waiting::Bell;

/// An answer to a follower.
pub(crate) enum Reply {
    Truncate(Address, Truncate),
    Refuse(StreamId, Refuse),
}

/// A word to a leader.
pub(crate) enum ToLeader {
    Join(Join),
    Ack(StreamId, Ack),
    Refuse(StreamId, Refuse),
}

/// Which queue of a session a replica belongs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Live,
    Advance,
    CatchUp,
}

/// What is to be done; empty it costs nothing.
#[derive(Default)]
pub(crate) struct Todo {
    woken: Vec<oneshot::Sender<()>>,
    bells: Vec<Arc<Bell>>,
    pushes: Vec<(Arc<Session>, Way, Arc<Replica>)>,
    replies: Vec<(BrokerId, PartitionId, Reply)>,
    to_leader: Vec<(Arc<Link>, PartitionId, ToLeader)>,
    retries: Vec<(Arc<Replica>, u32)>,
    jobs: Vec<(Arc<Replica>, Job)>,
    isr: Vec<(Arc<Replica>, IsrRequest)>,
    relink: Vec<Arc<Replica>>,
    fatal: Option<String>,
}

impl Todo {
    pub(crate) fn push(&mut self, session: Arc<Session>, into: Way, replica: Arc<Replica>) {
        self.pushes.push((session, into, replica));
    }

    /// Does it all.
    pub(crate) fn carry_out(self, shared: &Arc<Shared>) {
        if let Some(why) = self.fatal {
            (shared.host.fatal)(&why);
        }
        for (session, into, replica) in self.pushes {
            session.enqueue(into, replica);
        }
        for waiting in self.woken {
            let _ = waiting.send(());
        }
        for bell in self.bells {
            bell.ring();
        }
        for (to, id, reply) in self.replies {
            if let Some(session) = shared.session(to) {
                session.reply(id, reply);
            }
        }
        Link::say_all(self.to_leader);
        for (replica, failures) in self.retries {
            replica.retry_join_later(failures);
        }
        for (replica, job) in self.jobs {
            replica.start_job(job);
        }
        for request in self.isr {
            shared.ask_controller(request);
        }
        for replica in self.relink {
            replica.relink();
        }
    }
}

impl Replica {
    /// Turns effects of the core into what is to be done, while the lock is still held.
    pub(super) fn note(self: &Arc<Self>, inner: &mut Inner, fx: Effects, todo: &mut Todo) {
        if let (Some(epoch), Some(log)) = (fx.start_epoch, self.log.get()) {
            log.start_epoch(epoch);
        }
        if fx.high_watermark_moved {
            let reached = inner.core.high_watermark();
            if let Some(log) = self.log.get() {
                log.note_high_watermark(reached);
            }
            inner.commits.take_to(reached, &mut todo.woken);
        }
        if fx.durable_moved {
            let reached = inner.core.bounds().durable_end;
            inner.durables.take_to(reached, &mut todo.woken);
        }
        if fx.role_changed {
            inner.commits.take_all(&mut todo.woken);
            inner.durables.take_all(&mut todo.woken);
            inner.forget_lanes_unless_leading();
            inner.failed_joins = 0;
            todo.relink.push(self.clone());
        }
        if fx.high_watermark_moved || fx.role_changed || fx.low_watermark_moved {
            todo.bells.extend(inner.watchers.iter().cloned());
        }
        for (followers, advance) in [(&fx.push, false), (&fx.advance, true)] {
            for follower in followers {
                if let Some(lane) = inner.lane(*follower) {
                    let into = match (lane.route, advance) {
                        (Route::Live, true) => Way::Advance,
                        (Route::Live, false) => Way::Live,
                        (Route::CatchUp | Route::Draining, _) => Way::CatchUp,
                    };
                    todo.push(lane.session.clone(), into, self.clone());
                }
            }
        }
        self.note_messages(inner, fx, todo);
    }

    fn note_messages(self: &Arc<Self>, inner: &mut Inner, fx: Effects, todo: &mut Todo) {
        if let Some((to, address, truncate)) = fx.truncate {
            todo.replies
                .push((to, self.id, Reply::Truncate(address, truncate)));
        }
        if let Some((to, stream, refuse)) = fx.refuse {
            todo.replies
                .push((to, self.id, Reply::Refuse(stream, refuse)));
        }
        let link = inner.link.as_ref();
        let to = |leader: BrokerId| link.filter(|link| link.leader() == leader).cloned();
        if let Some((leader, join)) = fx.join
            && let Some(link) = to(leader)
        {
            todo.to_leader.push((link, self.id, ToLeader::Join(join)));
        }
        if let Some((leader, stream, ack)) = fx.ack
            && let Some(link) = to(leader)
        {
            todo.to_leader
                .push((link, self.id, ToLeader::Ack(stream, ack)));
        }
        if let Some((leader, stream, refuse)) = fx.cannot_follow
            && let Some(link) = to(leader)
        {
            todo.to_leader
                .push((link, self.id, ToLeader::Refuse(stream, refuse)));
        }
        if fx.retry_join {
            inner.failed_joins = inner.failed_joins.saturating_add(1);
            todo.retries.push((self.clone(), inner.failed_joins));
        }
        todo.jobs.extend(fx.job.map(|job| (self.clone(), job)));
        todo.isr
            .extend(fx.isr.map(|request| (self.clone(), request)));
        todo.fatal = todo.fatal.take().or(fx.fatal);
    }
}
