//! The first records of a cluster.

use millrace_model::ErrorCode;

use super::{Decision, Draft, Refusal};
use crate::config::{Resource, names};
use crate::image::Image;
use crate::record::Record;

/// Forms the cluster in an empty image: its id, the features that it runs, and the settings that
/// hold for all brokers from the start.
///
/// The settings of replication that the first controller reads in its properties
/// (`min.insync.replicas`, `unclean.leader.election.enable`, `millrace.durability`) belong into
/// `settings`: afterwards they are the cluster's, and no broker's file overrules them. Missing
/// `min.insync.replicas` becomes 1, so that it is always there to be seen. In a formed cluster
/// nothing changes.
///
/// Refuses with INCONSISTENT_CLUSTER_ID when the image is another cluster's.
pub fn bootstrap(
    image: &Image,
    cluster_id: &str,
    features: &[(String, i16)],
    settings: &[(String, String)],
) -> Decision<Result<(), Refusal>> {
    match image.cluster_id() {
        Some(known) if known == cluster_id => return Decision::unchanged(Ok(())),
        Some(known) => {
            let why = format!("Expected cluster ID {known}, but got cluster ID {cluster_id}");
            let refusal = Refusal::new(ErrorCode::InconsistentClusterId, why);
            return Decision::unchanged(Err(refusal));
        }
        None => {}
    }
    let mut draft = Draft::of(image);
    draft.push(Record::Cluster {
        id: cluster_id.to_owned(),
    });
    for (name, level) in features.iter().filter(|(_, level)| *level > 0) {
        draft.push(Record::FeatureLevel {
            name: name.clone(),
            level: *level,
        });
    }
    let setting = |name: &str, value: &str| Record::Config {
        resource: Resource::cluster(),
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    draft.push(setting(names::MIN_INSYNC_REPLICAS, "1"));
    for (name, value) in settings {
        draft.push(setting(name, value));
    }
    draft.finish(Ok(()))
}
