//! What the controller asks the table before it changes settings (Kafka classes
//! `ControllerConfigurationValidator`, `DynamicBrokerConfig`).

use std::collections::BTreeMap;

use millrace_metadata::decide::ConfigRules;
use millrace_metadata::{Refusal, Resource, ResourceKind};
use millrace_model::{ErrorCode, TopicName};

use super::settings::Settings;
use super::table::{Effect, Property, Scope, Update, property};
use super::topic;
use super::valid::Kind;

/// The table's rules, seen from the broker that has `settings`.
pub struct TableRules<'a> {
    /// What stands in for settings a topic has not.
    pub settings: &'a Settings,
}

impl ConfigRules for TableRules<'_> {
    fn is_list(&self, kind: ResourceKind, name: &str) -> bool {
        row(kind, name).is_some_and(|row| row.kind == Kind::List)
    }

    fn default_value(&self, kind: ResourceKind, name: &str) -> Option<String> {
        match kind {
            ResourceKind::Topic => topic::value(self.settings, &BTreeMap::new(), name),
            _ => row(kind, name)?.default.map(str::to_owned),
        }
    }

    fn validate(
        &self,
        resource: &Resource,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        match resource.kind {
            ResourceKind::Topic => self.validate_topic(&resource.name, settings),
            ResourceKind::Broker => validate_broker(&resource.name, settings),
            ResourceKind::Group => {
                validate_named(resource, settings, "group")?;
                let checked = super::check_group(self.settings, settings);
                checked.map_err(|why| Refusal::new(ErrorCode::InvalidConfig, why))
            }
            ResourceKind::ClientMetrics => validate_named(resource, settings, "client metrics"),
        }
    }
}

fn row(kind: ResourceKind, name: &str) -> Option<&'static Property> {
    let scope = match kind {
        ResourceKind::Topic => Scope::Topic,
        ResourceKind::Broker => Scope::Broker,
        ResourceKind::Group => Scope::Group,
        ResourceKind::ClientMetrics => Scope::ClientMetrics,
    };
    property(scope, name)
}

fn refuse(code: ErrorCode, why: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal::new(code, why))
}

impl TableRules<'_> {
    fn validate_topic(
        &self,
        name: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        if name.is_empty() {
            return refuse(
                ErrorCode::InvalidRequest,
                "Default topic resources are not allowed.",
            );
        }
        if let Err(why) = TopicName::new(name) {
            return refuse(ErrorCode::InvalidTopicException, why.to_string());
        }
        let given = settings.iter();
        let given = given.map(|(name, value)| (name.clone(), Some(value.clone())));
        match topic::check_topic(self.settings, &given.collect()) {
            Ok(_) => Ok(()),
            Err(why) => refuse(ErrorCode::InvalidConfig, why),
        }
    }
}

/// What may change while brokers run: for one (`name` is its id) or for all (`name` is empty). A
/// listener cannot come or go without a restart here, unlike in Kafka: the table has its properties
/// as read-only.
fn validate_broker(name: &str, settings: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let select = |choose: &dyn Fn(&Property) -> bool| {
        let names = settings
            .keys()
            .filter(|name| property(Scope::Broker, name).is_some_and(choose));
        let names: Vec<&str> = names.map(String::as_str).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(names) = select(&|row| row.update == Update::ReadOnly) {
        return refuse(
            ErrorCode::InvalidRequest,
            format!("Cannot update these configs dynamically: [{names}]"),
        );
    }
    if name.is_empty()
        && let Some(names) = select(&|row| row.update == Update::PerBroker)
    {
        return refuse(
            ErrorCode::InvalidRequest,
            format!(
                "Cannot update these configs at default cluster level, broker id must be \
                 specified: [{names}]"
            ),
        );
    }
    let security = |row: &Property| row.effect == Effect::StopsStart;
    if let Some(names) = select(&security) {
        return refuse(
            ErrorCode::InvalidRequest,
            format!(
                "These security configs can be dynamically updated only per-listener using the \
                 listener prefix: [{names}]"
            ),
        );
    }
    for (name, value) in settings {
        let Some(row) = property(Scope::Broker, name) else {
            return refuse(
                ErrorCode::InvalidConfig,
                format!("Unknown broker config name: {name}"),
            );
        };
        check_effect(row, value, ErrorCode::InvalidRequest)?;
    }
    let set = Settings::default().with_dynamic(settings, &BTreeMap::new());
    match super::limits(&set) {
        Ok(_) => Ok(()),
        Err(error) => refuse(ErrorCode::InvalidRequest, error.to_string()),
    }
}

fn validate_named(
    resource: &Resource,
    settings: &BTreeMap<String, String>,
    what: &str,
) -> Result<(), Refusal> {
    if resource.name.is_empty() {
        let why = format!("Default {what} resources are not allowed.");
        return refuse(ErrorCode::InvalidRequest, why);
    }
    for (name, value) in settings {
        let Some(row) = row(resource.kind, name) else {
            let (code, why) = match resource.kind {
                ResourceKind::ClientMetrics => (
                    ErrorCode::InvalidRequest,
                    format!("Unknown client metrics configuration: {name}"),
                ),
                _ => (
                    ErrorCode::InvalidConfig,
                    format!("Unknown {what} config name: {name}"),
                ),
            };
            return refuse(code, why);
        };
        check_effect(row, value, ErrorCode::InvalidConfig)?;
    }
    Ok(())
}

/// A value must be valid, and must mean something here unless it is what holds anyhow.
fn check_effect(row: &Property, value: &str, invalid: ErrorCode) -> Result<(), Refusal> {
    let canonical = match row.check(Some(value)) {
        Ok(canonical) => canonical.unwrap_or_default(),
        Err(why) => return refuse(invalid, why),
    };
    if row.effect == Effect::Enforced || row.is_default(&canonical) {
        return Ok(());
    }
    refuse(
        ErrorCode::InvalidConfig,
        format!(
            "The config {}={canonical} has no effect in Millrace yet; only its default {} is \
             accepted.",
            row.name,
            row.default.unwrap_or("null")
        ),
    )
}
