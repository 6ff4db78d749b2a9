//! IncrementalAlterConfigs (key 44), versions 0 and 1.
//!
//! - 1: flexible.
//!
//! Changes single settings of topics, brokers, all brokers (the broker without a name), groups and
//! client metrics subscriptions (KIP-339); see [`super::alterations`]. Log levels of brokers
//! (BROKER_LOGGER, KIP-412) cannot be changed: INVALID_REQUEST.

use millrace_metadata::Refusal;
use millrace_metadata::decide::{ConfigOp, alter_configs};
use millrace_model::ErrorCode;
use millrace_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use millrace_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::Context;
use super::alterations::{self, Alteration, Altered, check_resource, code_and_message, repeated};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 1);

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Changes what is asked for, on the active controller.
pub async fn handle(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
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
        alterations::alter(context, alterations, request.validate_only, alter_configs).await;
    respond(altered)
}

/// The answer when no controller could be reached.
pub fn refuse(
    request: &IncrementalAlterConfigsRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> IncrementalAlterConfigsResponse {
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

type Asked = (millrace_metadata::Resource, Vec<(String, ConfigOp)>);

fn read(resource: &AlterConfigsResource, is_repeated: bool) -> Result<Asked, Refusal> {
    let is_null =
        |config: &AlterableConfig| config.config_operation != DELETE && config.value.is_none();
    let settings = resource.configs.iter();
    let settings: Vec<(&str, bool)> = settings
        .map(|config| (config.name.as_str(), is_null(config)))
        .collect();
    let (kind, name) = (resource.resource_type, &resource.resource_name);
    let checked = check_resource(kind, name, is_repeated, &settings)?;
    let ops = resource
        .configs
        .iter()
        .map(|config| Ok((config.name.clone(), operation(config)?)))
        .collect::<Result<_, Refusal>>()?;
    Ok((checked, ops))
}

fn operation(config: &AlterableConfig) -> Result<ConfigOp, Refusal> {
    let value = config.value.clone().unwrap_or_default();
    match config.config_operation {
        SET => Ok(ConfigOp::Set(value)),
        DELETE => Ok(ConfigOp::Delete),
        APPEND => Ok(ConfigOp::Append(value)),
        SUBTRACT => Ok(ConfigOp::Subtract(value)),
        other => alterations::refuse(format!("Unknown operations type {other}")),
    }
}

fn respond(altered: Vec<Altered>) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}
