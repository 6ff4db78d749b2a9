//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! - 1: synonyms (KIP-226); 3: types and documentation (KIP-569); 4: flexible.
//!
//! Topics, groups and client metrics subscriptions are described by any node, from its image and
//! its own settings; a broker only by itself, because nobody else knows its properties; the broker
//! without a name stands for what was set for all. Log levels (BROKER_LOGGER) are not described:
//! INVALID_REQUEST.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_metadata::{Image, Refusal, Resource, ResourceKind};
use millrace_model::{ErrorCode, TopicName};
use millrace_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use millrace_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
    DescribeConfigsSynonym,
};

use super::Context;
use super::alterations::refuse;
use crate::config::Settings;
use crate::config::describe::{self, Described};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 4);

const BROKER_LOGGER: i8 = 8;

/// What descriptions are made from.
struct Source {
    image: Arc<Image>,
    settings: Settings,
    own_id: i32,
}

/// Describes every resource that is asked for.
pub async fn handle(context: &Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = context.node.image();
    let id = context.node.id;
    let source = Source {
        // The image says it all, also what the parts of this node are only about to take over.
        settings: context.node.config().settings.at_image(&image, Some(id)),
        own_id: id.get(),
        image,
    };
    let results = request.resources.iter().map(|resource| {
        let described = source.describe(resource).map(|described| {
            let wanted = described
                .into_iter()
                .filter(|entry| is_wanted(resource, entry));
            wanted.map(|entry| respond(entry, &request)).collect()
        });
        let result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match described {
            Ok(configs) => DescribeConfigsResult { configs, ..result },
            Err(refusal) => DescribeConfigsResult {
                error_code: refusal.code.code(),
                error_message: refusal.message,
                ..result
            },
        }
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn is_wanted(resource: &DescribeConfigsResource, entry: &Described) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.contains(&entry.name),
        _ => true,
    }
}

impl Source {
    fn describe(&self, resource: &DescribeConfigsResource) -> Result<Vec<Described>, Refusal> {
        let name = resource.resource_name.as_str();
        match ResourceKind::from_code(resource.resource_type) {
            Some(ResourceKind::Topic) => self.describe_topic(name),
            Some(ResourceKind::Broker) => self.describe_broker(name),
            Some(ResourceKind::ClientMetrics) if name.is_empty() => {
                refuse("Client metrics subscription name must not be empty")
            }
            Some(kind @ ResourceKind::ClientMetrics) => {
                Ok(describe::client_metrics(&self.set_for(kind, name)))
            }
            Some(ResourceKind::Group) if name.is_empty() => refuse("Group name must not be empty"),
            Some(kind @ ResourceKind::Group) => {
                Ok(describe::group(&self.settings, &self.set_for(kind, name)))
            }
            None if resource.resource_type == BROKER_LOGGER => {
                refuse("Unsupported resource type: BROKER_LOGGER")
            }
            None => refuse(format!(
                "Unexpected resource type UNKNOWN for resource {name}"
            )),
        }
    }

    fn describe_topic(&self, name: &str) -> Result<Vec<Described>, Refusal> {
        if let Err(why) = TopicName::new(name) {
            let message = why.to_string();
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        if self.image.topic_named(name).is_none() {
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, ""));
        }
        let own = self.set_for(ResourceKind::Topic, name);
        Ok(describe::topic(&self.settings, &own))
    }

    fn describe_broker(&self, name: &str) -> Result<Vec<Described>, Refusal> {
        if name.is_empty() {
            let set = self.set_for(ResourceKind::Broker, "");
            return Ok(describe::all_brokers(&set));
        }
        match name.parse::<i32>() {
            Ok(id) if id == self.own_id => Ok(describe::broker(&self.settings)),
            Ok(_) => refuse(format!(
                "Unexpected broker id, expected {} or empty string, but received {name}",
                self.own_id
            )),
            Err(_) => refuse(format!("Broker id must be an integer, but it is: {name}")),
        }
    }

    /// What was set for exactly this resource.
    fn set_for(&self, kind: ResourceKind, name: &str) -> Arc<BTreeMap<String, String>> {
        let resource = Resource {
            kind,
            name: name.to_owned(),
        };
        let set = self.image.configs_of(&resource);
        set.cloned().unwrap_or_default()
    }
}

fn respond(entry: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = entry
        .synonyms
        .into_iter()
        .map(|synonym| DescribeConfigsSynonym {
            name: synonym.name,
            value: synonym.value,
            source: synonym.source as i8,
            ..Default::default()
        });
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value,
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.sensitive,
        synonyms: match request.include_synonyms {
            true => synonyms.collect(),
            false => Vec::new(),
        },
        config_type: entry.kind,
        documentation: request
            .include_documentation
            .then(|| entry.documentation.to_owned()),
        ..Default::default()
    }
}
