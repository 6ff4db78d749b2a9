//! The follower side of one replica: what comes from its leader.

use std::sync::Arc;

use bytes::Bytes;
use millrace_model::{BrokerId, Offset};

use super::{Inner, LogRef, Replica, Todo};
use crate::core::Effects;
use crate::core::message::{Address, Progressed, StreamId, Truncate};
use crate::pull::Link;

impl Replica {
    /// A stream to the leader is up.
    pub(crate) fn attach(self: &Arc<Self>, link: &Link, stream: StreamId) {
        self.act(|inner, log, _, fx| inner.core.attach(link.leader(), stream, log, fx));
    }

    /// The stream has ended.
    pub(crate) fn detach(&self, stream: StreamId) {
        self.lock().core.detach(stream);
    }

    /// The leader sent batches.
    pub(crate) fn append_from(
        self: &Arc<Self>,
        leader: BrokerId,
        address: &Address,
        progressed: Progressed,
        base: Offset,
        batches: Vec<Bytes>,
        todo: &mut Todo,
    ) {
        self.decide(todo, |inner, log, _, fx| {
            if !inner.core.may_follow(leader, address, base, fx) {
                return;
            }
            match self.take_in(base, batches) {
                Ok(()) => self.advanced(inner, leader, address, progressed, log, fx),
                Err(error) => {
                    tracing::warn!(partition = %self.id, %error, "cannot append the leader's batches");
                    inner.core.append_failed(fx);
                }
            }
        });
    }

    fn take_in(
        &self,
        base: Offset,
        batches: Vec<Bytes>,
    ) -> Result<(), millrace_storage::AppendError> {
        let mut base = base;
        for batch in batches {
            base = self.log().append_as_follower(base, batch)?.log_end;
        }
        Ok(())
    }

    /// The leader answered without batches.
    pub(crate) fn advance_from(
        self: &Arc<Self>,
        leader: BrokerId,
        address: &Address,
        progressed: Progressed,
        todo: &mut Todo,
    ) {
        self.decide(todo, |inner, log, _, fx| {
            self.advanced(inner, leader, address, progressed, log, fx);
        });
    }

    /// Rules 8 and 9.
    fn advanced(
        &self,
        inner: &mut Inner,
        leader: BrokerId,
        address: &Address,
        progressed: Progressed,
        log: &LogRef<'_>,
        fx: &mut Effects,
    ) {
        if !inner.core.obeys(leader, address) {
            return;
        }
        if progressed.log_start > inner.core.bounds().log_start {
            self.log().advance_log_start(progressed.log_start);
        }
        inner.failed_joins = 0;
        inner.core.followed(leader, address, progressed, log, fx);
    }

    /// The leader's log parts from this one.
    pub(crate) fn truncate_from(
        self: &Arc<Self>,
        leader: BrokerId,
        address: &Address,
        truncate: Truncate,
        todo: &mut Todo,
    ) {
        self.decide(todo, |inner, log, _, fx| {
            inner.core.truncate(leader, address, truncate, log, fx);
        });
    }

    /// The leader does not take the join.
    pub(crate) fn refused_by(
        self: &Arc<Self>,
        leader: BrokerId,
        stream: StreamId,
        todo: &mut Todo,
    ) {
        self.decide(todo, |inner, _, _, fx| {
            inner.core.leader_refused(leader, stream, fx)
        });
    }
}
