//! The leader side of one replica: what goes to which follower by which way.

use std::sync::Arc;

use bytes::Bytes;
use millrace_model::{BrokerId, Offset};
use millrace_rpc::proto::replication as proto;
use millrace_storage::{ReadError, ReadPlan};
use tokio::time::Instant;

use super::todo::Way;
use super::{Inner, Replica, Todo};
use crate::core::message::{Ack, Address, Join, Progressed, Refuse};
use crate::core::{Outgoing, Role};
use crate::push::Session;
use crate::throttle::Limited;
use crate::wire;

/// By which stream a follower gets its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The live one: it needs nothing but the in-memory tail.
    Live,
    /// The catch-up one.
    CatchUp,
    /// The rest is in memory: it goes live as soon as everything sent is acknowledged, so that
    /// batches of the two streams cannot overtake each other.
    Draining,
}

/// The way to one follower.
pub(crate) struct Lane {
    pub(crate) follower: BrokerId,
    pub(crate) session: Arc<Session>,
    pub(crate) route: Route,
}

/// What a replica has for a follower.
pub(crate) enum Next {
    Nothing,
    /// Batches, but a limit lets them pass at this moment at the earliest.
    Held(Instant),
    Advance(proto::Advance),
    Batches {
        append: proto::Append,
        bytes: usize,
        more: bool,
    },
}

/// What a replica has for a follower that lags.
pub(crate) enum CatchUp {
    Nothing,
    /// As for [`Next`].
    Held(Instant),
    Advance(proto::Advance),
    Load {
        plan: ReadPlan,
        address: Address,
        progressed: Progressed,
        from: Offset,
    },
}

impl Inner {
    pub(super) fn lane(&self, follower: BrokerId) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.follower == follower)
    }

    fn lane_of(&mut self, session: &Arc<Session>) -> Option<&mut Lane> {
        let mut lanes = self.lanes.iter_mut();
        lanes.find(|lane| Arc::ptr_eq(&lane.session, session))
    }

    /// The limits on what goes to a follower; none for who is in sync.
    fn limited(&self, follower: BrokerId) -> Option<Limited> {
        let limited = Limited::of(&self.throttled, follower)?;
        (!self.core.is_in_sync(follower)).then_some(limited)
    }

    pub(super) fn forget_lanes_unless_leading(&mut self) {
        if !matches!(self.core.role(), Role::Leader { .. }) {
            self.lanes.clear();
        }
    }
}

impl Replica {
    /// A follower joins by this session.
    pub(crate) fn join(self: &Arc<Self>, session: &Arc<Session>, join: Join, todo: &mut Todo) {
        self.decide(todo, |inner, log, _, fx| {
            let leads = matches!(inner.core.role(), Role::Leader { .. });
            if leads {
                inner.lanes.retain(|lane| lane.follower != session.peer());
                inner.lanes.push(Lane {
                    follower: session.peer(),
                    session: session.clone(),
                    route: Route::Live,
                });
            }
            inner.core.join(session.peer(), join, log, fx);
        });
    }

    /// A follower keeps more.
    pub(crate) fn ack(self: &Arc<Self>, session: &Arc<Session>, ack: Ack, todo: &mut Todo) {
        let goes_live = self.decide(todo, |inner, _, now, fx| {
            inner.core.ack(session.peer(), ack, now, fx);
            let drained = inner.core.has_acknowledged_all_sent(session.peer());
            match inner.lane_of(session) {
                Some(lane) if lane.route == Route::Draining && drained => {
                    lane.route = Route::Live;
                    true
                }
                _ => false,
            }
        });
        if goes_live {
            todo.push(session.clone(), Way::Live, self.clone());
        }
    }

    /// A follower cannot go on.
    pub(crate) fn follower_refused(self: &Arc<Self>, session: &Arc<Session>, refuse: &Refuse) {
        tracing::warn!(partition = %self.id, follower = %session.peer(), ?refuse, "a follower cannot follow");
        let mut inner = self.lock();
        inner.core.follower_refused(session.peer(), refuse.epoch);
    }

    /// What goes to a follower next by its live stream.
    pub(crate) fn next_live(self: &Arc<Self>, session: &Arc<Session>) -> Next {
        let mut todo = Todo::default();
        let next = self.decide(&mut todo, |inner, _, _, fx| {
            let peer = session.peer();
            match inner.lane_of(session).map(|lane| lane.route) {
                None => return Next::Nothing,
                Some(Route::Live) => {}
                Some(Route::CatchUp | Route::Draining) => return Next::Nothing,
            }
            let (address, progressed, from, upper) =
                match inner.core.next_for(peer, session.stream()) {
                    Outgoing::Nothing => return Next::Nothing,
                    Outgoing::Advance {
                        address,
                        progressed,
                    } => {
                        return Next::Advance(wire::advance(self.id, &address, &progressed));
                    }
                    Outgoing::Batches {
                        address,
                        progressed,
                        from,
                        upper,
                    } => (address, progressed, from, upper),
                };
            let most = match self.room(inner, peer) {
                Ok(most) => most,
                Err(until) => return Next::Held(until),
            };
            match self.log().read(from, most, upper, true) {
                Ok(plan) if !plan.is_cold() => {
                    let parts = plan.parts().iter().filter_map(|part| match part {
                        millrace_storage::Part::Memory(bytes) => Some(bytes.clone()),
                        millrace_storage::Part::File { .. } => None,
                    });
                    self.batches(inner, peer, &address, &progressed, from, parts.collect())
                }
                Ok(_) => {
                    if let Some(lane) = inner.lane_of(session) {
                        lane.route = Route::CatchUp;
                    }
                    session.enqueue(Way::CatchUp, self.clone());
                    Next::Nothing
                }
                Err(error) => {
                    self.cannot_read(inner, session, &error, fx);
                    Next::Nothing
                }
            }
        });
        todo.carry_out(&self.shared);
        next
    }

    /// How many bytes may go to a follower in one piece, or when to ask again.
    fn room(&self, inner: &Inner, to: BrokerId) -> Result<usize, Instant> {
        let chunk = self.shared.settings.chunk_bytes;
        let Some(limited) = inner.limited(to) else {
            return Ok(chunk);
        };
        let now = self.shared.host.clock.now();
        let room = self.shared.throttle.room(limited, now)?;
        Ok(usize::try_from(room).unwrap_or(chunk).min(chunk))
    }

    fn batches(
        &self,
        inner: &mut Inner,
        to: BrokerId,
        address: &Address,
        progressed: &Progressed,
        from: Offset,
        parts: Vec<Bytes>,
    ) -> Next {
        let mut more = false;
        let Some(end) = wire::end_of(&parts) else {
            inner.core.follower_refused(to, address.epoch);
            return Next::Nothing;
        };
        if !inner.core.sent(to, *address, end, &mut more) {
            return Next::Nothing;
        }
        let bytes = parts.iter().map(Bytes::len).sum();
        if let Some(limited) = inner.limited(to) {
            let now = self.shared.host.clock.now();
            self.shared.throttle.spend(limited, bytes, now);
        }
        Next::Batches {
            bytes,
            append: wire::append(self.id, address, progressed, from, parts),
            more,
        }
    }

    fn cannot_read(
        &self,
        inner: &mut Inner,
        session: &Arc<Session>,
        error: &ReadError,
        fx: &mut crate::core::Effects,
    ) {
        match error {
            ReadError::Damaged { .. } => tracing::warn!(
                partition = %self.id, follower = %session.peer(), %error,
                "nothing damaged goes to a follower"
            ),
            _ => tracing::debug!(
                partition = %self.id, follower = %session.peer(), %error,
                "cannot read for a follower"
            ),
        }
        inner
            .core
            .out_of_range(session.peer(), session.stream(), fx);
    }

    /// What goes to a follower next by its catch-up stream.
    pub(crate) fn next_catch_up(self: &Arc<Self>, session: &Arc<Session>) -> CatchUp {
        let mut todo = Todo::default();
        let next = self.decide(&mut todo, |inner, _, _, fx| {
            let peer = session.peer();
            if inner.lane_of(session).is_none() {
                return CatchUp::Nothing;
            }
            match inner.core.next_for(peer, session.stream()) {
                Outgoing::Nothing => CatchUp::Nothing,
                Outgoing::Advance {
                    address,
                    progressed,
                } => CatchUp::Advance(wire::advance(self.id, &address, &progressed)),
                Outgoing::Batches {
                    address,
                    progressed,
                    from,
                    upper,
                } => {
                    let most = match self.room(inner, peer) {
                        Ok(most) => most,
                        Err(until) => return CatchUp::Held(until),
                    };
                    match self.log().read(from, most, upper, true) {
                        Ok(plan) if plan.is_cold() => {
                            if let Some(lane) = inner.lane_of(session) {
                                lane.route = Route::CatchUp;
                            }
                            CatchUp::Load {
                                plan,
                                address,
                                progressed,
                                from,
                            }
                        }
                        Ok(_) => {
                            self.go_live(inner, session);
                            CatchUp::Nothing
                        }
                        Err(error) => {
                            self.cannot_read(inner, session, &error, fx);
                            CatchUp::Nothing
                        }
                    }
                }
            }
        });
        todo.carry_out(&self.shared);
        next
    }

    /// The rest is in memory: the live stream takes over, once nothing is under way.
    fn go_live(self: &Arc<Self>, inner: &mut Inner, session: &Arc<Session>) {
        let drained = inner.core.has_acknowledged_all_sent(session.peer());
        let Some(lane) = inner.lane_of(session) else {
            return;
        };
        lane.route = if drained {
            Route::Live
        } else {
            Route::Draining
        };
        if drained {
            session.enqueue(Way::Live, self.clone());
        }
    }

    /// Batches were read from the disk for a follower.
    pub(crate) fn loaded(
        self: &Arc<Self>,
        session: &Arc<Session>,
        address: &Address,
        progressed: &Progressed,
        from: Offset,
        loaded: Result<Vec<Bytes>, ReadError>,
    ) -> Next {
        let mut todo = Todo::default();
        let next = self.decide(&mut todo, |inner, _, _, fx| match loaded {
            Ok(parts) if parts.iter().all(Bytes::is_empty) => {
                // The tail has moved meanwhile: look again.
                session.enqueue(Way::CatchUp, self.clone());
                Next::Nothing
            }
            Err(ReadError::Changed) => {
                // Compaction gave the segment other files: look again.
                session.enqueue(Way::CatchUp, self.clone());
                Next::Nothing
            }
            Ok(parts) => self.batches(inner, session.peer(), address, progressed, from, parts),
            Err(error) => {
                self.cannot_read(inner, session, &error, fx);
                Next::Nothing
            }
        });
        todo.carry_out(&self.shared);
        next
    }
}
