//! The settings of one topic: its own, else those of the broker, else the table's.

use std::collections::BTreeMap;
use std::str::FromStr;

use millrace_metadata::config_names;

use super::settings::{Origin, Settings};
use super::table::{Effect, Scope, property};

/// A topic's own values by name, in canonical form.
pub type TopicOverrides = BTreeMap<String, String>;

/// Settings that decide over replication: they hold for a topic or for the cluster, and neither a
/// broker's file nor its own dynamic value overrules the controller's view of them.
const OF_THE_CLUSTER: &[&str] = &[
    config_names::MIN_INSYNC_REPLICAS,
    config_names::UNCLEAN_LEADER_ELECTION,
    config_names::DURABILITY,
];

/// Whether a broker's property only holds for the whole cluster.
pub(super) fn is_of_the_cluster(name: &str) -> bool {
    OF_THE_CLUSTER.contains(&name)
}

/// The value of a topic's setting: its own, else what the broker has for it, else the table's.
pub fn value(broker: &Settings, own: &TopicOverrides, name: &str) -> Option<String> {
    if let Some(value) = own.get(name) {
        let row = property(Scope::Topic, name);
        let canonical = row.and_then(|row| row.check(Some(value)).ok().flatten());
        return canonical.or_else(|| Some(value.clone()));
    }
    if is_of_the_cluster(name) {
        return broker.cluster_value(name).map(str::to_owned);
    }
    let row = property(Scope::Topic, name)?;
    from_broker(broker, &row.synonyms).or_else(|| row.default.map(str::to_owned))
}

/// What the broker has for a topic's setting, in the topic's unit: the nearest synonym that was
/// given wins, then the nearest that has a default.
fn from_broker(broker: &Settings, synonyms: &[&str]) -> Option<String> {
    let given = |name: &&&str| {
        broker
            .given(name)
            .map(|(value, _)| in_topics_unit(name, value))
    };
    let default = |name: &&&str| {
        let value = broker.at(Origin::Default, name)?;
        Some(in_topics_unit(name, value))
    };
    let mut found = synonyms.iter().filter_map(|name| given(&name));
    found
        .next()
        .or_else(|| synonyms.iter().find_map(|name| default(&name)))
}

/// Hours and minutes of brokers are milliseconds of topics (`ConfigSynonym`).
pub(super) fn in_topics_unit(broker_name: &str, value: &str) -> String {
    let factor: i64 = match broker_name.rsplit('.').next() {
        Some("hours") => 3_600_000,
        Some("minutes") => 60_000,
        _ => return value.to_owned(),
    };
    match value.parse::<i64>() {
        Ok(number) if number < 0 => "-1".to_owned(),
        Ok(number) => number.saturating_mul(factor).to_string(),
        Err(_) => value.to_owned(),
    }
}

/// Checks values that a topic shall have besides those it has, all together: the texts are those
/// of Kafka's `LogConfig`. Returns them in canonical form.
///
/// # Errors
/// The message of INVALID_CONFIG.
pub fn check_topic(
    broker: &Settings,
    overrides: &BTreeMap<String, Option<String>>,
) -> Result<TopicOverrides, String> {
    let nulls: Vec<&str> = overrides
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !nulls.is_empty() {
        return Err(format!(
            "Null value not supported for topic configs: {}",
            nulls.join(",")
        ));
    }
    let mut canonical = TopicOverrides::new();
    for (name, value) in overrides {
        let Some(row) = property(Scope::Topic, name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        let value = row.check(value.as_deref())?.unwrap_or_default();
        canonical.insert(name.clone(), value);
    }
    check_together(broker, &canonical)?;
    for (name, value) in &canonical {
        let row = property(Scope::Topic, name).expect("the loop above found it");
        if row.effect != Effect::Enforced && !row.is_default(value) {
            return Err(format!(
                "The topic config {name}={value} has no effect in Millrace yet; only its default \
                 {} is accepted.",
                row.default.unwrap_or("null")
            ));
        }
    }
    Ok(canonical)
}

/// What Kafka checks over several settings, and what we cannot do at once.
fn check_together(broker: &Settings, own: &TopicOverrides) -> Result<(), String> {
    let long = |name: &str| {
        let value = value(broker, own, name).unwrap_or_default();
        i64::from_str(&value).unwrap_or_default()
    };
    let (shortest, longest) = (long("min.compaction.lag.ms"), long("max.compaction.lag.ms"));
    if shortest > longest {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({shortest}) > \
             max.compaction.lag.ms ({longest})"
        ));
    }
    let flushes = ["flush.messages", "flush.ms"];
    let flush = flushes
        .iter()
        .find(|name| own.get(**name).is_some_and(|v| *v != i64::MAX.to_string()));
    let page_cache = own.get("millrace.durability").map(String::as_str) == Some("page-cache");
    match flush {
        Some(name) if page_cache => Err(format!(
            "{name} asks for a flush to disk and millrace.durability=page-cache for none; set only \
             one of them."
        )),
        _ => Ok(()),
    }
}
