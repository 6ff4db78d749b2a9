//! ApiVersions (key 18), versions 0 to 4.
//!
//! - 1: throttle time; 3: flexible, the client's software name and version, features (KIP-511,
//!   KIP-584); 4: features whose lowest version is 0 are told too (KIP-1022).
//!
//! A version above 4 is answered in the shape of version 0 with UNSUPPORTED_VERSION and the one
//! line that lets the client try again. Exactly what is served is advertised. In every version the
//! response has the old header, since the client does not know yet what the broker speaks.

use millrace_metadata::SUPPORTED_FEATURES;
use millrace_model::ErrorCode;
use millrace_protocol::api::ApiKey;
use millrace_protocol::messages::api_versions_request::ApiVersionsRequest;
use millrace_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};

use super::{Api, Context, ListenerKind, served};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 4);

/// Says what this listener serves, and which features the cluster has agreed on.
pub async fn handle(context: &Context, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if context.api_version >= 3 && !is_valid(&request) {
        return refusal(ErrorCode::InvalidRequest, Vec::new());
    }
    let image = context.node.image();
    let finalized = image.features().filter(|(_, level)| *level > 0);
    ApiVersionsResponse {
        api_keys: advertised(context.caller.listener_kind),
        supported_features: supported(context.api_version),
        finalized_features_epoch: i64::try_from(image.version().get()).unwrap_or(i64::MAX),
        finalized_features: finalized
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.to_owned(),
                max_version_level: level,
                min_version_level: level,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// The answer, in version 0, to a version nobody serves.
pub fn unsupported() -> ApiVersionsResponse {
    let own = ApiVersion {
        api_key: ApiKey::ApiVersions.code(),
        min_version: VERSIONS.0,
        max_version: VERSIONS.1,
        ..Default::default()
    };
    refusal(ErrorCode::UnsupportedVersion, vec![own])
}

fn refusal(error: ErrorCode, api_keys: Vec<ApiVersion>) -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: error.code(),
        api_keys,
        ..Default::default()
    }
}

fn advertised(kind: ListenerKind) -> Vec<ApiVersion> {
    let line = |api: &'static Api| {
        let announced = api.key.announced_versions();
        ApiVersion {
            api_key: api.key.code(),
            min_version: announced.map_or(api.versions.0, |announced| announced.0),
            max_version: api.versions.1,
            ..Default::default()
        }
    };
    served(kind).map(line).collect()
}

/// Before version 4 clients cannot read a lowest version of 0, so those features are left out.
fn supported(version: i16) -> Vec<SupportedFeatureKey> {
    let told = SUPPORTED_FEATURES
        .iter()
        .filter(|(_, min, _)| version >= 4 || *min > 0);
    let key = |(name, min, max): &(&str, i16, i16)| SupportedFeatureKey {
        name: (*name).to_owned(),
        min_version: *min,
        max_version: *max,
        ..Default::default()
    };
    told.map(key).collect()
}

/// Kafka's rule for the client's software name and version (class `ApiVersionsRequest`).
fn is_valid(request: &ApiVersionsRequest) -> bool {
    let valid = |text: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        ends(text.chars().next())
            && ends(text.chars().last())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
    };
    valid(&request.client_software_name) && valid(&request.client_software_version)
}
