//! What AlterConfigs and IncrementalAlterConfigs share (Kafka classes `ConfigAdminManager`,
//! `ControllerApis`).
//!
//! Each resource is altered as a whole or refused, and the answer keeps the request's order. Any
//! node takes changes for any broker: Kafka's tools send them to the broker itself, which there has
//! to check them; here the table of properties is the same everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_metadata::decide::ConfigRules;
use millrace_metadata::{Decision, Image, Refusal, Resource, ResourceKind};
use millrace_model::ErrorCode;

use super::{Context, decide};
use crate::config::rules::TableRules;

/// How long the decision may take: these requests carry no time of their own.
const LIMIT: Duration = Duration::from_secs(30);

/// One resource of a request: what it is, and what is asked or why that cannot be.
pub struct Alteration<T> {
    /// The number of its kind.
    pub kind: i8,
    /// Its name.
    pub name: String,
    /// What is asked of it.
    pub asked: Result<(Resource, T), Refusal>,
}

/// What became of one resource.
pub struct Altered {
    /// The number of its kind.
    pub kind: i8,
    /// Its name.
    pub name: String,
    /// Whether it was altered.
    pub result: Result<(), Refusal>,
}

/// Takes the decision; of [`millrace_metadata::decide`].
pub type Decide<T> = fn(
    &Image,
    &dyn ConfigRules,
    &[(Resource, T)],
    bool,
) -> Decision<Vec<(Resource, Result<(), Refusal>)>>;

/// The keys of resources or settings that stand more than once in a request.
pub fn repeated<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeSet<K> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    let repeated = counts.into_iter().filter(|(_, count)| *count > 1);
    repeated.map(|(key, _)| key).collect()
}

/// Refuses with INVALID_REQUEST.
pub fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, why))
}

/// Whether a resource of this kind and name can be altered at all, with these settings.
///
/// # Errors
/// INVALID_REQUEST, in Kafka's words.
pub fn check_resource(
    kind: i8,
    name: &str,
    is_repeated: bool,
    settings: &[(&str, bool)],
) -> Result<Resource, Refusal> {
    if is_repeated {
        return refuse("Each resource must appear at most once.");
    }
    if !repeated(settings.iter().map(|(key, _)| *key)).is_empty() {
        return refuse("Error due to duplicate config keys");
    }
    let nulls = settings.iter().filter(|(_, is_null)| *is_null);
    let nulls: Vec<&str> = nulls.map(|(key, _)| *key).collect();
    if !nulls.is_empty() {
        return refuse(format!(
            "Null value not supported for : {}",
            nulls.join(", ")
        ));
    }
    let Some(kind) = ResourceKind::from_code(kind) else {
        return refuse(format!("Unknown resource type {kind}"));
    };
    if kind == ResourceKind::Broker && !name.is_empty() && name.parse::<i32>().is_err() {
        return refuse(format!("Node id must be an integer, but it is: {name}"));
    }
    Ok(Resource {
        kind,
        name: name.to_owned(),
    })
}

/// Has the resources altered that can be, and says what became of each.
pub async fn alter<T: Clone + Send + 'static>(
    context: &Context,
    alterations: Vec<Alteration<T>>,
    validate_only: bool,
    change: Decide<T>,
) -> Vec<Altered> {
    let asked = alterations.iter().filter_map(|alteration| {
        let asked = alteration.asked.as_ref().ok()?;
        Some(asked.clone())
    });
    let asked: Vec<(Resource, T)> = asked.collect();
    let decided = match asked.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let settings = context.node.config().settings.clone();
            let take = move |image: &Image| {
                let rules = TableRules {
                    settings: &settings.at_image(image, None),
                };
                change(image, &rules, &asked, validate_only)
            };
            decide(context, LIMIT, take).await
        }
    };
    let mut results = match &decided {
        Ok(results) => results.iter(),
        Err(_) => [].iter(),
    };
    let altered = alterations.into_iter().map(|alteration| Altered {
        kind: alteration.kind,
        name: alteration.name,
        result: alteration
            .asked
            .and_then(|_| match (results.next(), &decided) {
                (Some((_, result)), _) => result.clone(),
                (None, Err(refusal)) => Err(refusal.clone()),
                (None, Ok(_)) => unreachable!("a decision answers for every resource"),
            }),
    });
    altered.collect()
}

/// The code and text of a result, as answers write them.
pub fn code_and_message(result: Result<(), Refusal>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_judged_in_kafkas_words() {
        let check = |kind, name, repeated, settings: &[(&str, bool)], words: &str| {
            let refusal = check_resource(kind, name, repeated, settings).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidRequest);
            assert_eq!(refusal.message.as_deref(), Some(words));
        };
        let topic = ResourceKind::Topic.code();
        check(
            topic,
            "t",
            true,
            &[],
            "Each resource must appear at most once.",
        );
        let twice = [("a", false), ("b", false), ("a", true)];
        check(
            topic,
            "t",
            false,
            &twice,
            "Error due to duplicate config keys",
        );
        let nulls = [("a", true), ("b", false), ("c", true)];
        check(
            topic,
            "t",
            false,
            &nulls,
            "Null value not supported for : a, c",
        );
        check(8, "1", false, &[], "Unknown resource type 8");
        let broker = ResourceKind::Broker.code();
        check(
            broker,
            "x",
            false,
            &[],
            "Node id must be an integer, but it is: x",
        );
        assert!(check_resource(broker, "", false, &[("a", false)]).is_ok());
        assert!(check_resource(topic, "t", false, &[]).is_ok());
    }
}
