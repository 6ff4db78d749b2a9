//! Every property as one row: name, type, default, bounds, scope, update mode, effect, one sentence.
//!
//! The rows stand in `properties.tsv`: all that Kafka 4.3.1 defines, and our own, whose names begin
//! with `millrace.`. A row's effect says what happens to it here: `yes` is enforced, `none` has no
//! effect yet and is refused (topics) or warned about (server.properties) unless it is at its
//! default, `stop` touches security or durability and stops the start unless it is at its default.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::valid::{Kind, Valid};

/// What a property configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// server.properties and dynamic broker configs.
    Broker,
    /// One topic.
    Topic,
    /// One group (KIP-848, KIP-932, KIP-1071).
    Group,
    /// One client-metrics subscription (KIP-714).
    ClientMetrics,
    /// Quotas and credentials of users and client ids.
    User,
    /// Quotas of an address.
    Ip,
}

/// When a property may change (Kafka's `DynamicBrokerConfig` and the scope of the others).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// While running, for one broker.
    PerBroker,
    /// While running, for one broker or all.
    ClusterWide,
    /// While running, and only so; it has no place in server.properties.
    DynamicOnly,
}

/// What setting a property does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is enforced.
    Enforced,
    /// Nothing yet.
    None,
    /// Nothing yet, and believing otherwise would be dangerous.
    StopsStart,
}

/// One row of the table.
#[derive(Debug)]
pub struct Property {
    /// What it configures.
    pub scope: Scope,
    /// The name as Kafka writes it.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The value that holds when none is given; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Whether there is no default and a value must be given.
    pub required: bool,
    /// What values are accepted.
    pub valid: Valid,
    /// When it may change.
    pub update: Update,
    /// The broker properties that stand in for an unset topic or group property, nearest first.
    pub synonyms: Vec<&'static str>,
    /// Whether Kafka hides it from descriptions.
    pub internal: bool,
    /// What setting it does here.
    pub effect: Effect,
    /// One sentence of documentation.
    pub documentation: &'static str,
}

impl Property {
    /// Checks `value` and writes it in canonical form; the texts are Kafka's `ConfigDef`.
    pub fn check(&self, value: Option<&str>) -> Result<Option<String>, String> {
        let parsed = match value {
            Some(text) => Some(self.kind.parse(self.name, text)?),
            None => None,
        };
        self.valid.check(self.name, parsed.as_ref())?;
        Ok(parsed.map(|value| value.to_string()))
    }

    /// Whether `value`, in canonical form, is what holds anyhow.
    pub fn is_default(&self, value: &str) -> bool {
        match self.default {
            Some(default) => self
                .check(Some(default))
                .is_ok_and(|canonical| canonical.as_deref() == Some(value)),
            None => false,
        }
    }

    /// Whether its value must not be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }
}

type Rows = BTreeMap<Scope, BTreeMap<&'static str, Property>>;

static ROWS: LazyLock<Rows> = LazyLock::new(|| {
    let mut rows = Rows::new();
    for line in include_str!("properties.tsv").lines().skip(1) {
        let property = parse_row(line);
        rows.entry(property.scope)
            .or_default()
            .insert(property.name, property);
    }
    rows
});

/// The row of this name.
pub fn property(scope: Scope, name: &str) -> Option<&'static Property> {
    ROWS.get(&scope)?.get(name)
}

/// All rows of a scope, by name.
pub fn properties(scope: Scope) -> impl Iterator<Item = &'static Property> {
    ROWS.get(&scope).into_iter().flat_map(BTreeMap::values)
}

fn parse_row(line: &'static str) -> Property {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [
        scope,
        name,
        kind,
        default,
        valid,
        update,
        synonym,
        internal,
        effect,
        documentation,
    ] = fields[..]
    else {
        panic!("properties.tsv: not ten columns: {line}");
    };
    Property {
        scope: parse_scope(scope),
        name,
        kind: Kind::from_name(kind),
        default: match default {
            "null" | "(required)" => None,
            "\"\"" => Some(""),
            text => Some(text),
        },
        required: default == "(required)",
        valid: Valid::from_words(valid),
        update: match update {
            "per-broker" => Update::PerBroker,
            "cluster-wide" => Update::ClusterWide,
            "read-only" => Update::ReadOnly,
            _ => Update::DynamicOnly,
        },
        synonyms: synonym.split(" > ").filter(|s| !s.is_empty()).collect(),
        internal: internal == "internal",
        effect: match effect {
            "yes" => Effect::Enforced,
            "none" => Effect::None,
            "stop" => Effect::StopsStart,
            other => panic!("properties.tsv: unknown effect {other} of {name}"),
        },
        documentation,
    }
}

fn parse_scope(scope: &str) -> Scope {
    match scope {
        "broker" => Scope::Broker,
        "topic" => Scope::Topic,
        "group" => Scope::Group,
        "client-metrics" => Scope::ClientMetrics,
        "user" => Scope::User,
        "ip" => Scope::Ip,
        other => panic!("properties.tsv: unknown scope {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_read_and_every_default_is_valid() {
        let scopes = [
            (Scope::Broker, 350),
            (Scope::Topic, 34),
            (Scope::Group, 17),
            (Scope::ClientMetrics, 3),
            (Scope::User, 6),
            (Scope::Ip, 1),
        ];
        for (scope, at_least) in scopes {
            assert!(properties(scope).count() >= at_least, "{scope:?}");
            for property in properties(scope) {
                if let Some(default) = property.default {
                    let checked = property.check(Some(default));
                    assert!(checked.is_ok(), "{}: {checked:?}", property.name);
                }
                assert!(!property.documentation.is_empty(), "{}", property.name);
            }
        }
    }

    #[test]
    fn every_synonym_is_a_broker_property() {
        for scope in [Scope::Topic, Scope::Group] {
            for property in properties(scope) {
                for synonym in &property.synonyms {
                    assert!(
                        super::property(Scope::Broker, synonym).is_some(),
                        "{synonym}"
                    );
                }
            }
        }
    }
}
