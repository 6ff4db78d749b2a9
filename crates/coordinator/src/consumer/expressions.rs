//! Subscriptions by regular expression (Kafka's `maybeUpdateRegularExpressions`, class
//! `TopicRegexResolver`).
//!
//! Kafka resolves on another thread and bumps the epoch in a later decision. Here an expression is
//! resolved in the heartbeat that brings it: matching is linear and its automaton bounded, so that a
//! pass over ten thousand topics takes a millisecond or so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_model::ErrorCode;

use super::records;
use super::work::{Refusal, Work, soft};
use crate::group::state::Soft as Groups;
use crate::regex::TopicExpression;

/// Least time between two passes for expressions that are resolved already, as in Kafka.
const MIN_REFRESH_MS: i64 = 10_000;

/// Refuses a new expression that is none.
pub(super) fn validate(expression: &str) -> Result<(), Refusal> {
    match TopicExpression::parse(expression) {
        Ok(_) => Ok(()),
        Err(error) => Refusal::err(
            ErrorCode::InvalidRegularExpression,
            format!(
                "SubscribedTopicRegex `{expression}` is not a valid regular expression: {}.",
                error.0
            ),
        ),
    }
}

/// Resolves what is not resolved and, when it is time, everything anew; says whether that changed
/// the group's topics.
pub(super) fn resolve(work: &mut Work<'_>, groups: &mut Groups) -> bool {
    if work.state.derived.expressions.is_empty() {
        return false;
    }
    let all = is_time(work, groups);
    let state = &work.state;
    let wanted: Vec<Arc<str>> = state
        .derived
        .expressions
        .keys()
        .filter(|expression| all || !state.expressions.contains_key(*expression))
        .cloned()
        .collect();
    if wanted.is_empty() {
        return false;
    }
    let version = work.context.topics.version();
    let now = work.context.wall;
    let mut changed = false;
    for (expression, topics) in matching(work, &wanted) {
        let known = work.state.expressions.get(&expression);
        if known.is_none_or(|known| *known.topics != topics) {
            changed = true;
            let record = records::expression(work.id, &expression, &topics, version, now);
            work.decide(record);
        }
    }
    if all && !changed {
        // Only once there is nothing to record: a record may not be appended.
        soft(groups, work.id).resolve(version, now);
    }
    changed
}

/// Whether resolved expressions may stand for something else by now.
fn is_time(work: &Work<'_>, groups: &mut Groups) -> bool {
    let Some((version, time)) = soft(groups, work.id).resolved() else {
        return true;
    };
    let age = work.context.wall.get().saturating_sub(time.get());
    let refresh = work.context.settings.consumer_regex_refresh_interval_ms;
    // What was resolved by a clock that was ahead says nothing.
    age < 0 || (age > MIN_REFRESH_MS && version != work.context.topics.version()) || age > refresh
}

/// The topics that each of these stands for. One that cannot be read, from a log that another
/// version wrote, stands for none.
fn matching(work: &Work<'_>, expressions: &[Arc<str>]) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
    let mut matching: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = expressions
        .iter()
        .map(|expression| (expression.clone(), BTreeSet::new()))
        .collect();
    let compiled: Vec<(&Arc<str>, TopicExpression)> = expressions
        .iter()
        .filter_map(|text| {
            TopicExpression::parse(text)
                .ok()
                .map(|parsed| (text, parsed))
        })
        .collect();
    work.context.topics.each(&mut |name, _| {
        let name = name.as_str();
        for (text, expression) in &compiled {
            if expression.matches(name) {
                let topics = matching.get_mut(*text).expect("one for each");
                topics.insert(work.state.derived.name(name));
            }
        }
    });
    matching
}
