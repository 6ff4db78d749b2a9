//! What DescribeConfigs and CreateTopics tell of settings: values, where they come from, and what
//! else could have been (Kafka classes `ConfigHelper`, `DynamicBrokerConfig`).

use std::collections::BTreeMap;

use super::settings::{Origin, Settings};
use super::table::{Property, Scope, Update, properties, property};
use super::topic::{self, TopicOverrides};

/// Where a value comes from (`DescribeConfigsResponse.ConfigSource`), by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while it runs.
    DynamicBroker = 2,
    /// Set for all brokers while they run.
    DynamicDefault = 3,
    /// In server.properties, the environment or the command line.
    Static = 4,
    /// In the table.
    Default = 5,
    /// Set for the client metrics subscription.
    ClientMetrics = 7,
    /// Set for the group.
    Group = 8,
}

/// One place that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The name there.
    pub name: String,
    /// The value there; none if it must not be shown.
    pub value: Option<String>,
    /// Which place.
    pub source: Source,
}

/// One setting as it is told.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its value; none is null, or must not be shown.
    pub value: Option<String>,
    /// Whether it can only change by a restart.
    pub read_only: bool,
    /// Where the value comes from.
    pub source: Source,
    /// Whether the value must not be shown.
    pub sensitive: bool,
    /// All places that have a value, the one that holds first.
    pub synonyms: Vec<Synonym>,
    /// The number of its type; 0 for a name the table does not know.
    pub kind: i8,
    /// One sentence.
    pub documentation: &'static str,
}

/// All settings of a topic.
pub fn topic(broker: &Settings, own: &TopicOverrides) -> Vec<Described> {
    let rows = properties(Scope::Topic).filter(|row| !row.internal || own.contains_key(row.name));
    rows.map(|row| {
        let synonyms = with_own(row, own, Source::Topic, |synonyms| {
            broker_synonyms_of_topic(broker, row, synonyms);
        });
        Described {
            value: topic::value(broker, own, row.name),
            ..described(row, synonyms)
        }
    })
    .collect()
}

/// All settings of a group.
pub fn group(broker: &Settings, own: &BTreeMap<String, String>) -> Vec<Described> {
    let rows = properties(Scope::Group).map(|row| {
        let synonyms = with_own(row, own, Source::Group, |synonyms| {
            for name in &row.synonyms {
                broker_synonyms(broker, name, synonyms);
            }
        });
        let value = synonyms.first().and_then(|first| first.value.clone());
        Described {
            value: value.or_else(|| row.default.map(str::to_owned)),
            ..described(row, synonyms)
        }
    });
    rows.collect()
}

/// All settings of a client metrics subscription.
pub fn client_metrics(own: &BTreeMap<String, String>) -> Vec<Described> {
    let rows = properties(Scope::ClientMetrics).map(|row| {
        let synonyms = with_own(row, own, Source::ClientMetrics, |_| {});
        let value = own.get(row.name).cloned();
        Described {
            value: value.or_else(|| row.default.map(str::to_owned)),
            ..described(row, synonyms)
        }
    });
    rows.collect()
}

/// All settings of this broker.
pub fn broker(settings: &Settings) -> Vec<Described> {
    let known = properties(Scope::Broker).filter(|row| {
        let given = settings.given(row.name).is_some();
        given || (!row.internal && row.update != Update::DynamicOnly)
    });
    let mut entries: Vec<Described> = known
        .map(|row| {
            let mut synonyms = Vec::new();
            broker_synonyms(settings, row.name, &mut synonyms);
            if row.update == Update::DynamicOnly {
                // Kafka's table of what stands in files does not know these, nor their defaults.
                synonyms.retain(|synonym| synonym.source != Source::Default);
            }
            let value = match topic::is_of_the_cluster(row.name) {
                true => settings.cluster_value(row.name),
                false => settings.value(row.name),
            };
            let value = value.map(str::to_owned);
            Described {
                value: value.filter(|_| !row.is_sensitive()),
                read_only: row.update == Update::ReadOnly,
                ..described(row, synonyms)
            }
        })
        .collect();
    let unknown = settings
        .names()
        .filter(|name| property(Scope::Broker, name).is_none());
    entries.extend(unknown.map(|name| unknown_setting(settings, name)));
    entries
}

/// What was set for all brokers while they run.
pub fn all_brokers(set: &BTreeMap<String, String>) -> Vec<Described> {
    let rows = set.iter().filter_map(|(name, value)| {
        let row = property(Scope::Broker, name)?;
        let value = Some(value.clone()).filter(|_| !row.is_sensitive());
        let synonym = Synonym {
            name: name.clone(),
            value: value.clone(),
            source: Source::DynamicDefault,
        };
        Some(Described {
            value,
            read_only: row.update == Update::ReadOnly,
            ..described(row, vec![synonym])
        })
    });
    rows.collect()
}

fn described(row: &Property, synonyms: Vec<Synonym>) -> Described {
    Described {
        name: row.name.to_owned(),
        value: None,
        read_only: false,
        source: synonyms
            .first()
            .map_or(Source::Default, |first| first.source),
        sensitive: row.is_sensitive(),
        synonyms,
        kind: row.kind.code(),
        documentation: row.documentation,
    }
}

/// A value for something the table does not know, for instance of one listener: it may be a secret.
fn unknown_setting(settings: &Settings, name: &str) -> Described {
    let mut synonyms = Vec::new();
    broker_synonyms(settings, name, &mut synonyms);
    for synonym in &mut synonyms {
        synonym.value = None;
    }
    Described {
        name: name.to_owned(),
        value: None,
        read_only: true,
        source: synonyms
            .first()
            .map_or(Source::Static, |first| first.source),
        sensitive: true,
        synonyms,
        kind: 0,
        documentation: "",
    }
}

fn with_own(
    row: &Property,
    own: &BTreeMap<String, String>,
    source: Source,
    rest: impl FnOnce(&mut Vec<Synonym>),
) -> Vec<Synonym> {
    let own = own.get(row.name).map(|value| Synonym {
        name: row.name.to_owned(),
        value: Some(value.clone()),
        source,
    });
    let mut synonyms: Vec<Synonym> = own.into_iter().collect();
    rest(&mut synonyms);
    synonyms
}

const PLACES: [(Origin, Source); 4] = [
    (Origin::DynamicBroker, Source::DynamicBroker),
    (Origin::DynamicDefault, Source::DynamicDefault),
    (Origin::Static, Source::Static),
    (Origin::Default, Source::Default),
];

/// The value `name` has at one place. What server.properties says of a setting that only holds for
/// the whole cluster is told only below the cluster's own value, since alone it does not hold.
fn told<'a>(settings: &'a Settings, origin: Origin, name: &str) -> Option<&'a str> {
    let without_effect = origin == Origin::Static
        && topic::is_of_the_cluster(name)
        && settings.at(Origin::DynamicDefault, name).is_none();
    settings.at(origin, name).filter(|_| !without_effect)
}

/// The places that have a value for `name`; Kafka leaves out those before the first of that name.
fn broker_synonyms(settings: &Settings, name: &str, synonyms: &mut Vec<Synonym>) {
    let sensitive = property(Scope::Broker, name).is_some_and(Property::is_sensitive);
    for (origin, source) in PLACES {
        if let Some(value) = told(settings, origin, name) {
            synonyms.push(Synonym {
                name: name.to_owned(),
                value: (!sensitive).then(|| value.to_owned()),
                source,
            });
        }
    }
}

/// For a topic the broker's names are tried in order at each place; what stands before the first
/// value of the nearest name is left out, as Kafka does.
fn broker_synonyms_of_topic(settings: &Settings, row: &Property, synonyms: &mut Vec<Synonym>) {
    let mut found = Vec::new();
    for (origin, source) in PLACES {
        for name in &row.synonyms {
            if let Some(value) = told(settings, origin, name) {
                found.push(Synonym {
                    name: (*name).to_owned(),
                    value: Some(value.to_owned()),
                    source,
                });
            }
        }
    }
    let nearest = row.synonyms.first().copied().unwrap_or_default();
    synonyms.extend(
        found
            .into_iter()
            .skip_while(|synonym| synonym.name != nearest),
    );
}
