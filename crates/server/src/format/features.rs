//! The features a cluster begins with, from `--release-version` and `--feature`.

use millrace_metadata::{SUPPORTED_FEATURES, feature_names};

use super::{FormatError, FormatOptions, refuse};
use crate::Config;

/// Names of the metadata versions from level 7 on (Kafka class `MetadataVersion`).
const RELEASES: &[&str] = &[
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2",
    "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0",
    "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
];

const FIRST_LEVEL: i16 = 7;

/// From this level on (4.1-IV0) a new cluster has eligible leader replicas.
const LEVEL_WITH_ELR: i16 = 26;

/// From this level on (4.0-IV0) a new cluster has the consumer protocol (KIP-848).
const LEVEL_WITH_CONSUMER_GROUPS: i16 = 22;

const KRAFT: &str = "kraft.version";

/// The name of a metadata version.
pub(super) fn release_name(level: i16) -> &'static str {
    let place = usize::try_from(level - FIRST_LEVEL).unwrap_or(usize::MAX);
    RELEASES.get(place).copied().unwrap_or("unknown")
}

/// The newest level this build can run.
pub(super) fn latest_level() -> i16 {
    let row = SUPPORTED_FEATURES
        .iter()
        .find(|row| row.0 == feature_names::METADATA_VERSION);
    row.map_or(FIRST_LEVEL, |row| row.2)
}

/// The level that `--release-version` names; `4.1` means the last of its levels.
fn level_of(release: &str) -> Option<i16> {
    let family = format!("{release}-");
    let full = release.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let of_patch = format!("{full}-");
    let place = RELEASES.iter().rposition(|name| {
        *name == release || name.starts_with(&family) || {
            // 4.1.2 is of the family 4.1, as Kafka reads it.
            !release.contains('-') && name.starts_with(&of_patch)
        }
    })?;
    i16::try_from(place).ok().map(|place| place + FIRST_LEVEL)
}

/// `metadata.version` to begin with.
pub(super) fn metadata_level(options: &FormatOptions) -> Result<i16, FormatError> {
    let wanted = parse(&options.features)?;
    let by_feature = wanted
        .iter()
        .find(|(name, _)| name == feature_names::METADATA_VERSION);
    match (&options.release_version, by_feature) {
        (Some(_), Some(_)) => refuse(
            "Use --release-version instead of --feature metadata.version=X to avoid ambiguity.",
        ),
        (Some(release), None) => match level_of(release) {
            Some(level) => Ok(level),
            None => refuse(format!(
                "Unknown metadata.version '{release}'. Supported metadata.version are: {}",
                RELEASES.join(", ")
            )),
        },
        (None, Some((_, level))) if (FIRST_LEVEL..=latest_level()).contains(level) => Ok(*level),
        (None, Some((_, level))) => refuse(format!(
            "No feature:metadata.version with feature level {level}"
        )),
        (None, None) => Ok(latest_level()),
    }
}

/// All features to begin with, those at 0 left out.
pub(super) fn finalized(
    metadata_level: i16,
    options: &FormatOptions,
    config: &Config,
) -> Result<Vec<(String, i16)>, FormatError> {
    let mut levels = defaults(metadata_level);
    for (name, level) in parse(&options.features)? {
        if name == KRAFT {
            check_kraft_version(level, config)?;
            continue;
        }
        let Some(row) = SUPPORTED_FEATURES.iter().find(|row| row.0 == name) else {
            return refuse(format!(
                "Unsupported feature: {name}. Supported features are: {}",
                supported_names().join(", ")
            ));
        };
        if !(row.1..=row.2).contains(&level) {
            return refuse(format!("No feature:{name} with feature level {level}"));
        }
        match levels.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = level,
            None => levels.push((name, level)),
        }
    }
    levels.retain(|(_, level)| *level > 0);
    levels.sort();
    Ok(levels)
}

/// What a cluster begins with at this level unless it is told otherwise.
pub(super) fn defaults(metadata_level: i16) -> Vec<(String, i16)> {
    let elr = i16::from(metadata_level >= LEVEL_WITH_ELR);
    let groups = i16::from(metadata_level >= LEVEL_WITH_CONSUMER_GROUPS);
    vec![
        (feature_names::ELIGIBLE_LEADER_REPLICAS.to_owned(), elr),
        (feature_names::GROUP.to_owned(), groups),
        (feature_names::METADATA_VERSION.to_owned(), metadata_level),
    ]
}

fn supported_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SUPPORTED_FEATURES
        .iter()
        .map(|row| row.0)
        .filter(|name| *name != feature_names::METADATA_VERSION)
        .chain([KRAFT])
        .collect();
    names.sort_unstable();
    names
}

/// Our quorum can always change its members; the level only has to fit how it is configured.
fn check_kraft_version(level: i16, config: &Config) -> Result<(), FormatError> {
    let dynamic = config.quorum_voters.is_empty();
    match level {
        0 if dynamic => refuse(
            "Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the \
             flags --standalone, --initial-controllers, or --no-initial-controllers is used. For \
             dynamic controllers support, try removing the --feature flag for kraft.version.",
        ),
        1 if !dynamic => refuse(
            "Cannot set kraft.version to 1 unless KIP-853 configuration is present. Try removing \
             the --feature flag for kraft.version.",
        ),
        0 | 1 => Ok(()),
        _ => refuse(format!("No feature:{KRAFT} with feature level {level}")),
    }
}

fn parse(features: &[String]) -> Result<Vec<(String, i16)>, FormatError> {
    let parse_one = |text: &String| {
        let Some((name, level)) = text.split_once('=') else {
            return refuse(format!(
                "Can't parse feature=level string {text}: equals sign not found."
            ));
        };
        match level.trim().parse() {
            Ok(level) => Ok((name.trim().to_owned(), level)),
            Err(_) => refuse(format!(
                "Can't parse feature=level string {text}: unable to parse {level} as a short."
            )),
        }
    };
    features.iter().map(parse_one).collect()
}

/// The first line that stock formatting prints.
pub(super) fn describe(levels: &[(String, i16)]) -> String {
    let is_metadata = |name: &str| name == feature_names::METADATA_VERSION;
    let mut sorted: Vec<&(String, i16)> = levels.iter().collect();
    sorted.sort_by_key(|(name, _)| (!is_metadata(name), name.clone()));
    let records: Vec<String> = sorted
        .iter()
        .map(|(name, level)| {
            format!(
                "ApiMessageAndVersion(FeatureLevelRecord(name='{name}', featureLevel={level}) at \
                 version 0)"
            )
        })
        .collect();
    let level = levels.iter().find(|(name, _)| is_metadata(name));
    format!(
        "Bootstrap metadata: BootstrapMetadata(records=[{}], metadataVersionLevel={}, \
         source=format command)",
        records.join(", "),
        level.map_or(0, |(_, level)| *level)
    )
}
