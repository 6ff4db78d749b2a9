//! Listeners: their names, where they are, what they are for, and the protocol of each.

use std::collections::BTreeMap;

use super::settings::{Origin, Settings};
use super::valid::split_list;
use super::{ConfigError, Endpoint, Role};

/// What the properties about listeners come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listeners {
    pub bound: Vec<Endpoint>,
    pub advertised: Vec<Endpoint>,
    pub inter_broker: String,
    pub controller: Vec<String>,
}

/// Reads and checks them, in Kafka's words where Kafka checks the same.
pub(super) fn read(settings: &Settings, roles: &[Role]) -> Result<Listeners, ConfigError> {
    let protocols = protocols(settings)?;
    let controller = settings.list("controller.listener.names");
    let bound = parse_all(settings.text("listeners"), &protocols)?;
    refuse_shared_ports(settings.text("listeners"), &bound)?;
    refuse_other_protocols(&bound, &protocols)?;
    let inter_broker = inter_broker(settings)?;
    let advertised = advertised(settings, &bound, &controller, &protocols)?;
    let listeners = Listeners {
        bound,
        advertised,
        inter_broker,
        controller,
    };
    listeners.check_roles(roles)?;
    Ok(listeners)
}

type Protocols = BTreeMap<String, String>;

/// `listener.security.protocol.map`; while it is at its default, controller listeners without an
/// entry are PLAINTEXT, as in Kafka.
fn protocols(settings: &Settings) -> Result<Protocols, ConfigError> {
    let name = "listener.security.protocol.map";
    let mut protocols = Protocols::new();
    for entry in split_list(settings.text(name)) {
        let Some((listener, protocol)) = entry.rsplit_once(':') else {
            return error(format!(
                "Error parsing configuration property '{name}': '{entry}' is not of the form \
                 listener:protocol"
            ));
        };
        let protocol = protocol.trim().to_ascii_uppercase();
        if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
            return error(format!(
                "Invalid security protocol `{protocol}` defined in {name}"
            ));
        }
        protocols.insert(listener.trim().to_ascii_uppercase(), protocol);
    }
    let is_default = settings.at(Origin::Static, name).is_none();
    let only_plaintext = settings.list("listeners").iter().all(|listener| {
        let listener = listener.split("://").next().unwrap_or_default();
        !["SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&listener.to_ascii_uppercase().as_str())
    });
    if is_default && only_plaintext {
        for controller in settings.list("controller.listener.names") {
            let controller = controller.to_ascii_uppercase();
            protocols
                .entry(controller)
                .or_insert_with(|| "PLAINTEXT".to_owned());
        }
    }
    Ok(protocols)
}

fn error<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError(text))
}

fn parse_all(text: &str, protocols: &Protocols) -> Result<Vec<Endpoint>, ConfigError> {
    let entries = split_list(text);
    let all = format!("[{}]", entries.join(", "));
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for entry in &entries {
        let Some((name, address)) = entry.split_once("://") else {
            return error(format!("Unable to parse a listener name from {entry}"));
        };
        let name = name.to_ascii_uppercase();
        let creating = format!("Error creating broker listeners from '{all}':");
        if !protocols.contains_key(&name) {
            return error(format!(
                "{creating} No security protocol defined for listener {name}"
            ));
        }
        let Some(endpoint) = parse_address(name, address) else {
            return error(format!(
                "{creating} Unable to parse {entry} to a broker endpoint"
            ));
        };
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            return error(format!(
                "{creating} Each listener must have a different name, listeners: {all}"
            ));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn parse_address(name: String, address: &str) -> Option<Endpoint> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    Some(Endpoint {
        name,
        host: bare.unwrap_or(host).to_owned(),
        port: port.parse().ok()?,
    })
}

fn refuse_shared_ports(text: &str, bound: &[Endpoint]) -> Result<(), ConfigError> {
    for (place, one) in bound.iter().enumerate() {
        let shared = |other: &Endpoint| {
            let both_families = one.host.contains(':') != other.host.contains(':')
                && !one.host.is_empty()
                && !other.host.is_empty();
            one.port != 0 && one.port == other.port && !both_families
        };
        if bound[..place].iter().any(shared) {
            let all = format!("[{}]", split_list(text).join(", "));
            return error(format!(
                "Error creating broker listeners from '{all}': Each listener must have a different \
                 port, listeners: {all}"
            ));
        }
    }
    Ok(())
}

/// Nothing but PLAINTEXT is served yet, and nobody may believe otherwise.
fn refuse_other_protocols(bound: &[Endpoint], protocols: &Protocols) -> Result<(), ConfigError> {
    for endpoint in bound {
        let protocol = &protocols[&endpoint.name];
        if protocol != "PLAINTEXT" {
            return error(format!(
                "The listener {} uses the security protocol {protocol}, but Millrace serves only \
                 PLAINTEXT yet.",
                endpoint.name
            ));
        }
    }
    Ok(())
}

fn inter_broker(settings: &Settings) -> Result<String, ConfigError> {
    let given = settings.at(Origin::Static, "inter.broker.listener.name");
    let protocol = settings.at(Origin::Static, "security.inter.broker.protocol");
    if given.is_some() && protocol.is_some() {
        return error(
            "Only one of inter.broker.listener.name and security.inter.broker.protocol should be \
             set."
                .to_owned(),
        );
    }
    let protocol = settings.text("security.inter.broker.protocol");
    if protocol != "PLAINTEXT" {
        return error(format!(
            "security.inter.broker.protocol is {protocol}, but Millrace serves only PLAINTEXT yet."
        ));
    }
    Ok(given.unwrap_or(protocol).to_ascii_uppercase())
}

/// `advertised.listeners`; what it leaves out of the controller's listeners, and all if it is not
/// set, stands in `listeners`.
fn advertised(
    settings: &Settings,
    bound: &[Endpoint],
    controller: &[String],
    protocols: &Protocols,
) -> Result<Vec<Endpoint>, ConfigError> {
    let is_controllers = |endpoint: &Endpoint| has_name(controller, &endpoint.name);
    let mut advertised = match settings.value("advertised.listeners") {
        Some(text) => parse_all(text, protocols)?,
        None => bound
            .iter()
            .filter(|endpoint| !is_controllers(endpoint))
            .cloned()
            .collect(),
    };
    for endpoint in bound.iter().filter(|endpoint| is_controllers(endpoint)) {
        if !advertised.iter().any(|other| other.name == endpoint.name) {
            advertised.push(endpoint.clone());
        }
    }
    let unroutable = |endpoint: &Endpoint| endpoint.host == "0.0.0.0" && !is_controllers(endpoint);
    if advertised.iter().any(unroutable) {
        return error(
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable \
             IP address."
                .to_owned(),
        );
    }
    Ok(advertised)
}

fn has_name(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn names<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> String {
    let names: Vec<&str> = endpoints.map(|endpoint| endpoint.name.as_str()).collect();
    names.join(",")
}

impl Listeners {
    fn is_controllers(&self, endpoint: &Endpoint) -> bool {
        has_name(&self.controller, &endpoint.name)
    }

    fn check_roles(&self, roles: &[Role]) -> Result<(), ConfigError> {
        let has_controllers = self.bound.iter().any(|e| self.is_controllers(e));
        let has_others = self.bound.iter().any(|e| !self.is_controllers(e));
        let is_controller = roles.contains(&Role::Controller);
        if !roles.contains(&Role::Broker) && has_others {
            return error(
                "The listeners config must only contain KRaft controller listeners from \
                 controller.listener.names when process.roles=controller"
                    .to_owned(),
            );
        }
        if is_controller && !has_controllers {
            return error(
                "controller.listener.names must contain at least one value appearing in the \
                 'listeners' configuration when running the KRaft controller role"
                    .to_owned(),
            );
        }
        if !is_controller && has_controllers {
            return error(
                "controller.listener.names must not contain a value appearing in the 'listeners' \
                 configuration when running KRaft with just the broker role"
                    .to_owned(),
            );
        }
        if roles.contains(&Role::Broker) {
            self.check_broker()?;
        }
        Ok(())
    }

    fn check_broker(&self) -> Result<(), ConfigError> {
        let of_brokers = || self.advertised.iter().filter(|e| !self.is_controllers(e));
        if of_brokers().next().is_none() {
            return error(
                "There must be at least one broker advertised listener. Perhaps all listeners \
                 appear in controller.listener.names?"
                    .to_owned(),
            );
        }
        if !of_brokers().any(|endpoint| endpoint.name == self.inter_broker) {
            return error(format!(
                "inter.broker.listener.name must be a listener name defined in \
                 advertised.listeners. The valid options based on currently configured listeners \
                 are {}",
                names(of_brokers())
            ));
        }
        let is_bound = |endpoint: &Endpoint| self.bound.iter().any(|b| b.name == endpoint.name);
        if !self.advertised.iter().all(is_bound) {
            return error(format!(
                "advertised.listeners listener names must be equal to or a subset of the ones \
                 defined in listeners. Found {}. The valid options based on the current \
                 configuration are {}",
                names(self.advertised.iter()),
                names(self.bound.iter())
            ));
        }
        Ok(())
    }
}
