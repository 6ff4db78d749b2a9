//! AlterConfigs (key 33), versions 0 to 2.
//!
//! - 2: flexible.
//!
//! The older way to alter settings: what a request does not name is deleted. See
//! [`super::alterations`] and IncrementalAlterConfigs.

use std::collections::BTreeMap;

use millrace_metadata::decide::replace_configs;
use millrace_metadata::{Refusal, Resource};
use millrace_model::ErrorCode;
use millrace_protocol::messages::alter_configs_request::{
    AlterConfigsRequest, AlterConfigsResource,
};
use millrace_protocol::messages::alter_configs_response::{
    AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::Context;
use super::alterations::{self, Alteration, Altered, check_resource, code_and_message, repeated};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

/// Replaces what is asked for, on the active controller.
pub async fn handle(context: &Context, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let keys = request.resources.iter();
    let keys = keys.map(|resource| (resource.resource_type, resource.resource_name.as_str()));
    let twice = repeated(keys);
    let alterations = request.resources.iter().map(|resource| {
        let key = (resource.resource_type, resource.resource_name.as_str());
        Alteration {
            kind: resource.resource_type,
            name: resource.resource_name.clone(),
            asked: read(resource, twice.contains(&key)),
        }
    });
    let alterations = alterations.collect();
    let altered =
        alterations::alter(context, alterations, request.validate_only, replace_configs).await;
    respond(altered)
}

/// The answer when no controller could be reached.
pub fn refuse(
    request: &AlterConfigsRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> AlterConfigsResponse {
    let refusal = Refusal {
        code: error,
        message: message.map(str::to_owned),
    };
    let refused = request.resources.iter().map(|resource| Altered {
        kind: resource.resource_type,
        name: resource.resource_name.clone(),
        result: Err(refusal.clone()),
    });
    respond(refused.collect())
}

type Asked = (Resource, BTreeMap<String, String>);

fn read(resource: &AlterConfigsResource, is_repeated: bool) -> Result<Asked, Refusal> {
    let settings = resource.configs.iter();
    let settings: Vec<(&str, bool)> = settings
        .map(|config| (config.name.as_str(), config.value.is_none()))
        .collect();
    let (kind, name) = (resource.resource_type, &resource.resource_name);
    let checked = check_resource(kind, name, is_repeated, &settings)?;
    let values = resource.configs.iter().map(|config| {
        let value = config.value.clone().unwrap_or_default();
        (config.name.clone(), value)
    });
    Ok((checked, values.collect()))
}

fn respond(altered: Vec<Altered>) -> AlterConfigsResponse {
    let responses = altered.into_iter().map(|altered| {
        let (error_code, error_message) = code_and_message(altered.result);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: altered.kind,
            resource_name: altered.name,
            ..Default::default()
        }
    });
    AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}
