//! ListConfigResources (key 74), versions 0 and 1 (KIP-714, KIP-1142).
//!
//! - 0: client metrics subscriptions; 1: topics, brokers and groups too.
//!
//! Log levels of brokers (BROKER_LOGGER) cannot be described here, so none are listed.

use millrace_metadata::{Image, ResourceKind};
use millrace_model::ErrorCode;
use millrace_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use millrace_protocol::messages::list_config_resources_response::{
    ConfigResource, ListConfigResourcesResponse,
};

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 1);

const BROKER_LOGGER: i8 = 8;

/// All kinds, in the order in which Kafka lists them.
const KINDS: [ResourceKind; 4] = [
    ResourceKind::Group,
    ResourceKind::ClientMetrics,
    ResourceKind::Broker,
    ResourceKind::Topic,
];

/// Lists what has, or may have, settings.
pub async fn handle(
    context: &Context,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let Some(kinds) = kinds(context.api_version, &request.resource_types) else {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..Default::default()
        };
    };
    let image = context.node.image();
    let resources = kinds.into_iter().flat_map(|kind| {
        let names = names(&image, kind, context.listener()).into_iter();
        names.map(move |name| ConfigResource {
            resource_name: name,
            resource_type: kind.code(),
            ..Default::default()
        })
    });
    ListConfigResourcesResponse {
        config_resources: resources.collect(),
        ..Default::default()
    }
}

/// The kinds that are asked for, all if none is; none here if one of them is unknown.
fn kinds(api_version: i16, asked: &[i8]) -> Option<Vec<ResourceKind>> {
    if api_version == 0 {
        return Some(vec![ResourceKind::ClientMetrics]);
    }
    let is_known = |code: &i8| *code == BROKER_LOGGER || ResourceKind::from_code(*code).is_some();
    let wanted = KINDS.into_iter();
    let wanted = wanted.filter(|kind| asked.is_empty() || asked.contains(&kind.code()));
    asked.iter().all(is_known).then(|| wanted.collect())
}

fn names(image: &Image, kind: ResourceKind, listener: &str) -> Vec<String> {
    match kind {
        ResourceKind::Topic => image
            .topics()
            .map(|topic| topic.name.as_str().to_owned())
            .collect(),
        ResourceKind::Broker => image
            .brokers()
            .filter(|broker| !broker.fenced && broker.listener(listener).is_some())
            .map(|broker| broker.id.to_string())
            .collect(),
        ResourceKind::Group | ResourceKind::ClientMetrics => image
            .configs()
            .filter(|(resource, set)| resource.kind == kind && !set.is_empty())
            .map(|(resource, _)| resource.name.clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_asked_for() {
        assert_eq!(kinds(0, &[]), Some(vec![ResourceKind::ClientMetrics]));
        assert_eq!(kinds(1, &[]), Some(KINDS.to_vec()));
        assert_eq!(kinds(1, &[2, 8]), Some(vec![ResourceKind::Topic]));
        assert_eq!(kinds(1, &[2, 3]), None);
    }
}
