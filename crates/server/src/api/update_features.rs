//! UpdateFeatures (key 57), versions 0 to 2 (KIP-584); the active controller answers.
//!
//! - 1: kinds of change, and a mere check (KIP-778); 2: an error for all features instead of one for
//!   each (KIP-1022).
//!
//! All features change or none.

use std::collections::BTreeMap;

use millrace_metadata::Refusal;
use millrace_metadata::decide::{FeatureUpdate, UpgradeKind, update_features};
use millrace_model::ErrorCode;
use millrace_protocol::messages::update_features_request::{
    FeatureUpdateKey, UpdateFeaturesRequest,
};
use millrace_protocol::messages::update_features_response::{
    UpdatableFeatureResult, UpdateFeaturesResponse,
};

use super::{Context, decide, limit_of};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

/// Changes the cluster's features.
pub async fn handle(context: &Context, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let updates = match read(&request, context.api_version) {
        Ok(updates) => updates,
        Err(why) => return refuse(&request, why.code, why.message.as_deref()),
    };
    let validate_only = request.validate_only;
    let decided = decide(context, limit_of(request.timeout_ms), move |image| {
        update_features(image, &updates, validate_only)
    });
    match decided.await {
        Err(why) => refuse(&request, why.code, why.message.as_deref()),
        Ok(Err(why)) => {
            let message = format!(
                "The update failed for all features since the following feature had an error: {}",
                why.message.unwrap_or_default()
            );
            refuse(&request, why.code, Some(&message))
        }
        Ok(Ok(())) if context.api_version >= 2 => UpdateFeaturesResponse::default(),
        Ok(Ok(())) => {
            let results = request.feature_updates.iter();
            let results = results.map(|update| UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_message: None,
                ..Default::default()
            });
            UpdateFeaturesResponse {
                results: results.collect(),
                ..Default::default()
            }
        }
    }
}

/// The answer when nothing was done.
pub fn refuse(
    _request: &UpdateFeaturesRequest,
    error: ErrorCode,
    message: Option<&str>,
) -> UpdateFeaturesResponse {
    UpdateFeaturesResponse {
        error_code: error.code(),
        error_message: message.map(str::to_owned),
        ..Default::default()
    }
}

fn read(request: &UpdateFeaturesRequest, api_version: i16) -> Result<Vec<FeatureUpdate>, Refusal> {
    let mut updates = BTreeMap::new();
    for update in &request.feature_updates {
        let kind = kind(update, api_version)?;
        let update = FeatureUpdate {
            name: update.feature.clone(),
            level: update.max_version_level,
            kind,
        };
        updates.insert(update.name.clone(), update);
    }
    Ok(updates.into_values().collect())
}

fn kind(update: &FeatureUpdateKey, api_version: i16) -> Result<UpgradeKind, Refusal> {
    match (api_version, update.upgrade_type) {
        (0, _) if update.allow_downgrade => Ok(UpgradeKind::SafeDowngrade),
        (0, _) | (_, 1) => Ok(UpgradeKind::Upgrade),
        (_, 2) => Ok(UpgradeKind::SafeDowngrade),
        (_, 3) => Ok(UpgradeKind::UnsafeDowngrade),
        _ => {
            let why = format!(
                "Invalid update version {} for feature {}. The controller does not support the \
                 given upgrade type.",
                update.max_version_level, update.feature
            );
            Err(Refusal::new(ErrorCode::InvalidUpdateVersion, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_change_depends_on_the_version() {
        let update = |allow_downgrade, upgrade_type| FeatureUpdateKey {
            allow_downgrade,
            upgrade_type,
            ..Default::default()
        };
        assert_eq!(kind(&update(true, 1), 0), Ok(UpgradeKind::SafeDowngrade));
        assert_eq!(kind(&update(false, 1), 0), Ok(UpgradeKind::Upgrade));
        assert_eq!(kind(&update(false, 3), 2), Ok(UpgradeKind::UnsafeDowngrade));
        assert!(kind(&update(false, 0), 1).is_err());
    }
}
