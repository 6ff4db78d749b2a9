//! The values a broker was given, checked against the table, and those changed while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use millrace_metadata::{Image, Resource};
use millrace_model::BrokerId;

use super::ConfigError;
use super::environment::Environment;
use super::table::{Effect, Property, Scope, properties, property};
use super::topic::is_of_the_cluster;

/// Where the properties of a start come from; the later ones win.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The lines of server.properties.
    pub file: BTreeMap<String, String>,
    /// The environment.
    pub environment: Environment,
    /// `--override name=value`.
    pub overrides: BTreeMap<String, String>,
}

impl Sources {
    /// Only a file's lines.
    pub fn of_file(text: &str) -> Result<Sources, ConfigError> {
        let file = super::java_properties::parse(text.as_bytes())
            .map_err(|error| ConfigError(error.to_string()))?;
        Ok(Sources {
            file,
            ..Sources::default()
        })
    }
}

static NOTHING: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);

/// Which of the places that may hold a broker's value holds it; nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Changed while running, for this broker.
    DynamicBroker,
    /// Changed while running, for all brokers.
    DynamicDefault,
    /// server.properties, environment or command line.
    Static,
    /// The table.
    Default,
}

/// A broker's values in canonical form; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    fixed: Arc<BTreeMap<String, String>>,
    dynamic_default: Arc<BTreeMap<String, String>>,
    dynamic_own: Arc<BTreeMap<String, String>>,
}

impl Settings {
    /// Checks what the sources say. Returns with it the warnings about what has no effect.
    pub fn load(sources: &Sources) -> Result<(Settings, Vec<String>), ConfigError> {
        let mut given = sources.file.clone();
        given.extend(sources.environment.properties.clone());
        given.extend(sources.overrides.clone());
        join_node_id(&mut given);
        require_values(&given)?;
        let mut fixed = BTreeMap::new();
        let mut warnings = Vec::new();
        for (name, value) in &given {
            let Some(row) = find(name) else {
                warnings.push(format!("The property {name} is unknown and ignored."));
                continue;
            };
            let value = row.check(Some(value)).map_err(ConfigError)?;
            let value = value.unwrap_or_default();
            if !holds_anyhow(row, &value) {
                refuse_or_warn(row, name, &mut warnings)?;
            }
            fixed.insert(name.clone(), value);
        }
        let settings = Settings {
            fixed: Arc::new(fixed),
            ..Settings::default()
        };
        Ok((settings, warnings))
    }

    /// The same broker with these values changed while it runs. Names and values were checked when
    /// they were set.
    #[must_use]
    pub fn with_dynamic(
        &self,
        for_all: &BTreeMap<String, String>,
        for_this: &BTreeMap<String, String>,
    ) -> Settings {
        Settings {
            fixed: self.fixed.clone(),
            dynamic_default: Arc::new(canonical(for_all)),
            dynamic_own: Arc::new(canonical(for_this)),
        }
    }

    /// The same broker with what an image of the cluster has for all brokers and, if `id` is given,
    /// for that one.
    #[must_use]
    pub fn at_image(&self, image: &Image, id: Option<BrokerId>) -> Settings {
        let set = |resource| {
            let set = image.configs_of(&resource);
            set.map_or(&*NOTHING, Arc::as_ref)
        };
        let own = id.map(Resource::broker);
        self.with_dynamic(set(Resource::cluster()), own.map_or(&*NOTHING, set))
    }

    /// The value given for `name` and where; none where only the table has one.
    pub fn given(&self, name: &str) -> Option<(&str, Origin)> {
        [
            Origin::DynamicBroker,
            Origin::DynamicDefault,
            Origin::Static,
        ]
        .into_iter()
        .find_map(|origin| Some((self.at(origin, name)?, origin)))
    }

    /// The value `name` has at one place.
    pub fn at(&self, origin: Origin, name: &str) -> Option<&str> {
        match origin {
            Origin::DynamicBroker => self.dynamic_own.get(name).map(String::as_str),
            Origin::DynamicDefault => self.dynamic_default.get(name).map(String::as_str),
            Origin::Static => self.fixed.get(name).map(String::as_str),
            Origin::Default => property(Scope::Broker, name)?.default,
        }
    }

    /// What all brokers set while running: the only place besides a topic that a setting of
    /// replication may come from, since the controller decides by it.
    pub(super) fn cluster_value(&self, name: &str) -> Option<&str> {
        let default = self.at(Origin::Default, name);
        self.at(Origin::DynamicDefault, name).or(default)
    }

    /// What server.properties says of settings that only hold for the whole cluster, where that is
    /// not what the cluster has: name, value there, value that holds.
    pub fn overruled(&self) -> Vec<(&str, &str, &str)> {
        let names = self
            .fixed
            .iter()
            .filter(|(name, _)| is_of_the_cluster(name));
        let overruled = names.filter_map(|(name, value)| {
            let holds = self.cluster_value(name).unwrap_or_default();
            (value != holds).then_some((name.as_str(), value.as_str(), holds))
        });
        overruled.collect()
    }

    /// The value that holds; none is Kafka's null.
    pub fn value(&self, name: &str) -> Option<&str> {
        match self.given(name) {
            Some((value, _)) => Some(value),
            None => self.at(Origin::Default, name),
        }
    }

    /// All names that were given a value, anywhere.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let maps = [&self.fixed, &self.dynamic_default, &self.dynamic_own];
        let names: std::collections::BTreeSet<&str> = maps
            .into_iter()
            .flat_map(|map| map.keys().map(String::as_str))
            .collect();
        names.into_iter()
    }

    /// A text that must be there: it was required, or has a default.
    pub(super) fn text(&self, name: &str) -> &str {
        self.value(name).unwrap_or_default()
    }

    /// A whole number that was checked against its row.
    pub(super) fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// true or false.
    pub(super) fn boolean(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// The elements of a list.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        super::valid::split_list(self.text(name))
    }
}

/// The values as their rows write them; one that is not valid is left out.
fn canonical(values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let canonical = values.iter().filter_map(|(name, value)| {
        let value = match property(Scope::Broker, name) {
            Some(row) => row.check(Some(value)).ok()??,
            None => value.clone(),
        };
        Some((name.clone(), value))
    });
    canonical.collect()
}

/// `broker.id` is the old name of `node.id`.
fn join_node_id(given: &mut BTreeMap<String, String>) {
    if let Some(id) = given.get("broker.id").cloned() {
        given.entry("node.id".to_owned()).or_insert(id);
    }
}

fn require_values(given: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let first = ["process.roles", "node.id"];
    let rest = properties(Scope::Broker)
        .filter(|row| row.required)
        .map(|row| row.name);
    match first
        .into_iter()
        .chain(rest)
        .find(|name| !given.contains_key(*name))
    {
        None => Ok(()),
        Some(name) => Err(ConfigError(format!(
            "Missing required configuration \"{name}\" which has no default value."
        ))),
    }
}

/// The row of a broker property, also where it is meant for one listener (`listener.name.x.`).
fn find(name: &str) -> Option<&'static Property> {
    if let Some(row) = property(Scope::Broker, name) {
        return Some(row);
    }
    let (_, of_listener) = name.strip_prefix("listener.name.")?.split_once('.')?;
    if let Some(row) = property(Scope::Broker, of_listener) {
        return Some(row);
    }
    // With the SASL mechanism between: listener.name.x.plain.sasl.jaas.config.
    let (_, of_mechanism) = of_listener.split_once('.')?;
    property(Scope::Broker, of_mechanism)
}

/// What is at its default needs no effect; nor do the values some properties cannot lack.
fn holds_anyhow(row: &Property, value: &str) -> bool {
    row.is_default(value) || (value.is_empty() && row.default.is_none())
}

fn refuse_or_warn(
    row: &Property,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let for_one_listener = name != row.name;
    match row.effect {
        Effect::StopsStart => Err(ConfigError(format!(
            "The property {name} is set, but Millrace does not implement it yet, and starting \
             without it could expose or lose data."
        ))),
        Effect::Enforced if !for_one_listener => Ok(()),
        Effect::Enforced | Effect::None => {
            warnings.push(format!(
                "The property {name} has no effect in Millrace yet."
            ));
            Ok(())
        }
    }
}
