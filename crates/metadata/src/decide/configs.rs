//! Changes of dynamic configurations (KIP-339), with what follows from them for partitions.

mod consequences;

use std::collections::BTreeMap;

use millrace_model::{BrokerId, ErrorCode};

use super::{Decision, Draft, Refusal};
use crate::config::{Resource, ResourceKind, names};
use crate::image::Image;
use crate::record::Record;

/// Longest value (Kafka writes it with a length of 16 bits).
const MAX_VALUE_BYTES: usize = i16::MAX as usize;

/// What is to be done with one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// It has this value.
    Set(String),
    /// It has no value of its own.
    Delete,
    /// These values, separated by commas, are added to a list.
    Append(String),
    /// These values, separated by commas, are taken from a list.
    Subtract(String),
}

/// What the tables of settings know: names, types, defaults and bounds live outside this crate.
pub trait ConfigRules {
    /// Whether the setting's value is a list.
    fn is_list(&self, kind: ResourceKind, name: &str) -> bool;

    /// The setting's default, for values to be added to or taken from.
    fn default_value(&self, kind: ResourceKind, name: &str) -> Option<String>;

    /// Whether the settings of a resource can stand as they will be.
    ///
    /// # Errors
    /// Mostly INVALID_CONFIG, with the reason.
    fn validate(
        &self,
        resource: &Resource,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), Refusal>;
}

/// Rules that allow everything, for tests.
#[derive(Clone, Copy, Debug)]
pub struct AnyConfig;

impl ConfigRules for AnyConfig {
    fn is_list(&self, _kind: ResourceKind, name: &str) -> bool {
        name == "cleanup.policy"
    }

    fn default_value(&self, _kind: ResourceKind, _name: &str) -> Option<String> {
        None
    }

    fn validate(
        &self,
        _resource: &Resource,
        _settings: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Changes single settings of resources; each resource is changed as a whole or refused.
///
/// In the same batch ELRs are emptied where `min.insync.replicas` changes, leaders are elected where
/// unclean elections become allowed, and partitions take note when their durability changes.
pub fn alter_configs(
    image: &Image,
    rules: &dyn ConfigRules,
    changes: &[(Resource, Vec<(String, ConfigOp)>)],
    validate_only: bool,
) -> Decision<Vec<(Resource, Result<(), Refusal>)>> {
    change_all(
        image,
        rules,
        changes,
        validate_only,
        |draft, resource, ops| draft.values_after(rules, resource, ops),
    )
}

/// Replaces all settings of resources (the older AlterConfigs): what is not named is deleted.
pub fn replace_configs(
    image: &Image,
    rules: &dyn ConfigRules,
    changes: &[(Resource, BTreeMap<String, String>)],
    validate_only: bool,
) -> Decision<Vec<(Resource, Result<(), Refusal>)>> {
    change_all(
        image,
        rules,
        changes,
        validate_only,
        |draft, resource, settings| {
            let known = draft.settings(resource);
            let deleted = known.keys().filter(|name| !settings.contains_key(*name));
            let deleted = deleted.map(|name| (name.clone(), None));
            let set = settings
                .iter()
                .map(|(name, value)| (name.clone(), Some(value.clone())));
            Ok(set.chain(deleted).collect())
        },
    )
}

/// New values of settings, `None` where one has none any more.
type Values = Vec<(String, Option<String>)>;

fn change_all<Asked>(
    image: &Image,
    rules: &dyn ConfigRules,
    changes: &[(Resource, Asked)],
    validate_only: bool,
    values: impl Fn(&Draft, &Resource, &Asked) -> Result<Values, Refusal>,
) -> Decision<Vec<(Resource, Result<(), Refusal>)>> {
    let mut draft = Draft::of(image);
    let mut results = Vec::new();
    for (resource, asked) in changes {
        let result = values(&draft, resource, asked)
            .and_then(|values| draft.settings_changed(rules, resource, values))
            .and_then(|records| check_exists(image, resource).map(|()| records))
            .map(|records| draft.extend(records));
        results.push((resource.clone(), result));
    }
    if validate_only {
        return Decision::unchanged(results);
    }
    draft.settle_consequences(image);
    draft.finish(results)
}

fn check_exists(image: &Image, resource: &Resource) -> Result<(), Refusal> {
    let name = &resource.name;
    match resource.kind {
        ResourceKind::Topic if image.topic_named(name).is_none() => Err(Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("The topic '{name}' does not exist."),
        )),
        ResourceKind::Broker if !name.is_empty() => {
            let Ok(id) = name.parse() else {
                let why = format!("Invalid broker name {name}");
                return Err(Refusal::new(ErrorCode::InvalidRequest, why));
            };
            let id = BrokerId(id);
            if image.broker(id).is_none() && image.controller(id).is_none() {
                let why = format!("No node with id {id} found.");
                return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, why));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Draft {
    fn settings(&self, resource: &Resource) -> BTreeMap<String, String> {
        let known = self.image.configs_of(resource);
        known
            .map(|settings| (**settings).clone())
            .unwrap_or_default()
    }

    fn values_after(
        &self,
        rules: &dyn ConfigRules,
        resource: &Resource,
        ops: &[(String, ConfigOp)],
    ) -> Result<Values, Refusal> {
        let mut settings = self.settings(resource);
        let mut values = Values::new();
        for (name, op) in ops {
            let known = settings.get(name).cloned();
            let value = apply_op(rules, resource.kind, name, known, op)?;
            match &value {
                Some(value) => settings.insert(name.clone(), value.clone()),
                None => settings.remove(name),
            };
            values.push((name.clone(), value));
        }
        Ok(values)
    }

    /// Checks new values and makes them so.
    pub(super) fn change_settings(
        &mut self,
        rules: &dyn ConfigRules,
        resource: &Resource,
        values: Values,
    ) -> Result<(), Refusal> {
        let records = self.settings_changed(rules, resource, values)?;
        self.extend(records);
        Ok(())
    }

    /// Checks new values and returns the records that make them so. Those of a broker make records
    /// even when they stay as they are, so that a broker reads again what a setting refers to
    /// (KAFKA-14136).
    fn settings_changed(
        &self,
        rules: &dyn ConfigRules,
        resource: &Resource,
        values: Values,
    ) -> Result<Vec<Record>, Refusal> {
        let known = self.settings(resource);
        let mut settings = known.clone();
        let mut records = Vec::new();
        for (name, value) in values {
            check_value(resource, &name, value.as_deref())?;
            match &value {
                Some(value) => settings.insert(name.clone(), value.clone()),
                None => settings.remove(&name),
            };
            if known.get(&name) != value.as_ref() || resource.kind == ResourceKind::Broker {
                records.push(Record::Config {
                    resource: resource.clone(),
                    name,
                    value,
                });
            }
        }
        rules.validate(resource, &settings)?;
        Ok(records)
    }
}

fn apply_op(
    rules: &dyn ConfigRules,
    kind: ResourceKind,
    name: &str,
    known: Option<String>,
    op: &ConfigOp,
) -> Result<Option<String>, Refusal> {
    let (verb, items) = match op {
        ConfigOp::Set(value) => return Ok(Some(value.clone())),
        ConfigOp::Delete => return Ok(None),
        ConfigOp::Append(items) => ("APPEND", items),
        ConfigOp::Subtract(items) => ("SUBTRACT", items),
    };
    if !rules.is_list(kind, name) {
        return Err(Refusal::new(
            ErrorCode::InvalidConfig,
            format!("Can't {verb} to key {name} because its type is not LIST."),
        ));
    }
    let present = known
        .or_else(|| rules.default_value(kind, name))
        .unwrap_or_default();
    let mut list: Vec<&str> = present.split(',').filter(|item| !item.is_empty()).collect();
    for item in items.split(',') {
        match op {
            ConfigOp::Append(_) if !list.contains(&item) => list.push(item),
            ConfigOp::Append(_) => {}
            _ => list.retain(|known| *known != item),
        }
    }
    Ok(Some(list.join(",")))
}

/// What no table of settings can know: how long a value may be, and that the controller alone
/// resolves the settings of replication (Kafka class `ConfigurationControlManager`).
fn check_value(resource: &Resource, name: &str, value: Option<&str>) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidConfig, why));
    if value.is_some_and(|value| value.len() > MAX_VALUE_BYTES) {
        return refuse(format!(
            "The configuration value cannot be added because it exceeds the maximum value size of \
             {MAX_VALUE_BYTES} bytes."
        ));
    }
    let one_broker = resource.kind == ResourceKind::Broker && !resource.name.is_empty();
    let all_brokers = *resource == Resource::cluster();
    if one_broker && name == names::MIN_INSYNC_REPLICAS {
        return refuse(format!(
            "Broker-level {name} cannot be altered while ELR is enabled."
        ));
    }
    if all_brokers && name == names::MIN_INSYNC_REPLICAS && value.is_none() {
        return refuse(format!(
            "Cluster-level {name} cannot be removed while ELR is enabled."
        ));
    }
    let replication = [names::DURABILITY, names::UNCLEAN_LEADER_ELECTION];
    if one_broker && replication.contains(&name) {
        return refuse(format!(
            "Broker-level {name} cannot be altered: it holds for a topic or for the whole cluster."
        ));
    }
    Ok(())
}
