//! A decision that takes several steps: each sees what the ones before it decided.

use std::borrow::Cow;

use millrace_model::ErrorCode;

use super::soft::Soft;
use super::state::State;
use super::{epoch, records};
use crate::group::Record;
use crate::group::state::Soft as Groups;
use crate::group::topics::Context;

/// Why a caller is turned down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }

    pub fn err<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::new(code, message))
    }
}

/// The decision so far: what is to be recorded, and the group as it will be then.
pub(super) struct Work<'a> {
    pub id: &'a str,
    pub state: Cow<'a, State>,
    pub records: Vec<Record>,
    pub context: Context<'a>,
    /// Whether the records stand or fall together: part of them would lose a member that is there.
    /// Otherwise a target that is too large for one batch may be cut anywhere: what a member may own
    /// does not depend on it alone, and it is computed anew where its epoch is missing.
    pub is_indivisible: bool,
}

impl<'a> Work<'a> {
    /// On a group that is there.
    pub fn on(id: &'a str, state: &'a State, context: Context<'a>) -> Work<'a> {
        Work {
            id,
            state: Cow::Borrowed(state),
            records: Vec::new(),
            context,
            is_indivisible: false,
        }
    }

    /// On a group that these records make, after others that end what was there.
    pub fn from_nothing(id: &'a str, records: Vec<Record>, context: Context<'a>) -> Work<'a> {
        Work {
            id,
            state: Cow::Owned(State::default()),
            is_indivisible: !records.is_empty(),
            records,
            context,
        }
    }

    /// Decides on a record that later steps are to see. The first costs a copy of the group, which
    /// shares its members with it.
    pub fn decide(&mut self, record: Record) {
        self.state.to_mut().apply(&record);
        self.records.push(record);
    }

    /// Ends a member.
    pub fn remove_member(&mut self, member: &str) {
        for record in records::no_member(self.id, member) {
            self.decide(record);
        }
    }

    /// Ends expressions that nobody subscribes to.
    pub fn drop_expressions(&mut self) {
        let state = &self.state;
        let unused: Vec<Record> = state
            .expressions
            .keys()
            .filter(|expression| !state.derived.expressions.contains_key(*expression))
            .map(|expression| records::no_expression(self.id, expression))
            .collect();
        for record in unused {
            self.decide(record);
        }
    }

    /// Brings the group to its next epoch if that was asked for or its topics look different.
    pub fn next_epoch(&mut self, groups: &mut Groups, wanted: bool) {
        let version = self.context.topics.version();
        let seen = groups
            .group(self.id)
            .consumer
            .has_seen(version, self.state.epoch);
        if !wanted && seen {
            return;
        }
        let hashes = &mut groups.topic_hashes;
        let hash = epoch::metadata_hash(&self.state, self.context.topics, hashes);
        if wanted || hash != self.state.metadata_hash {
            self.decide(records::epoch(self.id, self.state.epoch + 1, hash));
            groups.counters.consumer_rebalances += 1;
        }
        if self.state.has_partition_metadata {
            self.decide(records::no_partition_metadata(self.id));
        }
        groups
            .group(self.id)
            .consumer
            .see(version, self.state.epoch);
    }
}

/// The soft state of this group.
pub(super) fn soft<'s>(groups: &'s mut Groups, id: &str) -> &'s mut Soft {
    &mut groups.group(id).consumer
}
