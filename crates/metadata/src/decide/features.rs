//! Finalized features (KIP-584): what the cluster has agreed to run.

use millrace_model::ErrorCode;

use super::{Decision, Draft, Refusal};
use crate::feature::{FeatureRange, names};
use crate::image::Image;
use crate::record::Record;

/// What kind of change an operator has in mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeKind {
    /// Only to a higher version.
    Upgrade,
    /// To a lower version, if nothing is lost.
    SafeDowngrade,
    /// To a lower version, whatever is lost.
    UnsafeDowngrade,
}

/// The version that a feature is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature's name.
    pub name: String,
    /// Its new version; 0 switches it off.
    pub level: i16,
    /// What kind of change is meant.
    pub kind: UpgradeKind,
}

/// Changes finalized features, all or none.
///
/// Refuses with INVALID_UPDATE_VERSION what a node cannot run, and a downgrade that is not asked
/// for as one. `metadata.version` cannot go down: records may have been written that older builds
/// do not know.
pub fn update_features(
    image: &Image,
    updates: &[FeatureUpdate],
    validate_only: bool,
) -> Decision<Result<(), Refusal>> {
    let mut draft = Draft::of(image);
    for update in updates {
        if let Err(why) = check(image, update) {
            let message = format!(
                "Invalid update version {} for feature {}. {why}",
                update.level, update.name
            );
            let refusal = Refusal::new(ErrorCode::InvalidUpdateVersion, message);
            return Decision::unchanged(Err(refusal));
        }
        if image.feature(&update.name) != update.level {
            draft.push(Record::FeatureLevel {
                name: update.name.clone(),
                level: update.level,
            });
        }
    }
    if validate_only {
        return Decision::unchanged(Ok(()));
    }
    draft.finish(Ok(()))
}

fn check(image: &Image, update: &FeatureUpdate) -> Result<(), String> {
    let present = image.feature(&update.name);
    if update.level < 0 {
        return Err("A feature version cannot be less than 0.".to_owned());
    }
    check_supported(image, update)?;
    let upgrade = update.kind == UpgradeKind::Upgrade;
    if update.level < present && upgrade {
        return Err(
            "Can't downgrade the version of this feature without setting the upgrade type to \
             either safe or unsafe downgrade."
                .to_owned(),
        );
    }
    if update.level > present && !upgrade {
        return Err("Can't downgrade to a newer version.".to_owned());
    }
    if update.level < present && update.name == names::METADATA_VERSION {
        return Err(match update.kind {
            UpgradeKind::UnsafeDowngrade => {
                "Unsafe metadata downgrade is not supported in this version.".to_owned()
            }
            _ => "Refusing to perform the requested downgrade because it might delete metadata \
                  information."
                .to_owned(),
        });
    }
    Ok(())
}

fn check_supported(image: &Image, update: &FeatureUpdate) -> Result<(), String> {
    let local = FeatureRange::supported();
    check_node("Local controller".to_owned(), &local, update)?;
    for broker in image.brokers() {
        check_node(format!("Broker {}", broker.id), &broker.features, update)?;
    }
    for controller in image.controllers() {
        let what = format!("Controller {}", controller.id);
        check_node(what, &controller.features, update)?;
    }
    Ok(())
}

fn check_node(what: String, ranges: &[FeatureRange], update: &FeatureUpdate) -> Result<(), String> {
    let range = ranges.iter().find(|range| range.name == update.name);
    match range {
        None if update.level == 0 => Ok(()),
        None => Err(format!("{what} does not support this feature.")),
        Some(range) if range.contains(update.level) => Ok(()),
        Some(range) => Err(format!(
            "{what} only supports versions {}-{}",
            range.min, range.max
        )),
    }
}
