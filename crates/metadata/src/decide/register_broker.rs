//! Registration of brokers: a new incarnation ends the old one (rules 13 and 14, KIP-631, KIP-966).

use std::time::Duration;

use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, Durability, ErrorCode, ImageVersion, Incarnation,
    PartitionId,
};

use super::{Decision, Draft, Refusal};
use crate::broker::{Broker, Listener};
use crate::feature::{self, FeatureRange};
use crate::image::Image;
use crate::partition::{Partition, UNASSIGNED_DIRECTORY};
use crate::record::Record;
use crate::sessions::Sessions;

/// What a broker says of itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// `node.id`.
    pub id: BrokerId,
    /// The cluster it was formatted for.
    pub cluster_id: String,
    /// This run of its process.
    pub incarnation: Incarnation,
    /// Where it is reached.
    pub listeners: Vec<Listener>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// What it can run.
    pub features: Vec<FeatureRange>,
    /// Its log directories that are online.
    pub directories: Vec<DirectoryId>,
    /// Whether it has log directories that it cannot read: then a directory on record that it does
    /// not name may come back. Else it is gone, and what was in it.
    pub has_offline_directories: bool,
    /// The epoch under which it stopped, if it stopped cleanly.
    pub clean_shutdown_epoch: Option<BrokerEpoch>,
}

/// Registers a broker and replies its epoch. A new incarnation begins fenced; whatever the old one
/// led goes to others or waits. The same incarnation keeps its epoch and its state.
///
/// Refusals: INCONSISTENT_CLUSTER_ID; DUPLICATE_BROKER_REGISTRATION while another incarnation's
/// session is alive; INVALID_REGISTRATION for directories; UNSUPPORTED_VERSION when it cannot run a
/// finalized feature.
pub fn register_broker(
    image: &Image,
    sessions: &Sessions,
    registration: &Registration,
    now: Duration,
) -> Decision<Result<BrokerEpoch, Refusal>> {
    let checked = check_cluster(image, registration)
        .and_then(|()| check_incarnation(image, sessions, registration, now))
        .and_then(|()| check_directories(image, registration))
        .and_then(|()| check_features(image, registration));
    if let Err(refusal) = checked {
        return Decision::unchanged(Err(refusal));
    }
    let known = image.broker(registration.id);
    let same = known.filter(|k| k.incarnation == registration.incarnation);
    let mut draft = Draft::of(image);
    let epoch = match same {
        Some(known) => draft.amend(known, registration),
        None => draft.begin_incarnation(known.map(|k| &**k), registration),
    };
    draft.finish(Ok(epoch))
}

impl Draft {
    fn amend(&mut self, known: &Broker, registration: &Registration) -> BrokerEpoch {
        let amended = Broker {
            listeners: registration.listeners.clone(),
            rack: registration.rack.clone(),
            features: sorted(&registration.features),
            // Directories fail one by one, by heartbeat; those that are back are online.
            directories: known.directories.clone(),
            ..known.clone()
        };
        if amended != *known {
            self.push(Record::RegisterBroker(amended));
        }
        let gone = known.directories.iter().copied();
        let gone: Vec<_> = gone
            .filter(|d| !registration.directories.contains(d))
            .collect();
        self.fail_directories(known.id, &gone);
        known.epoch
    }

    fn begin_incarnation(
        &mut self,
        known: Option<&Broker>,
        registration: &Registration,
    ) -> BrokerEpoch {
        let epoch = self.image.next_broker_epoch();
        let broker = Broker {
            id: registration.id,
            epoch,
            incarnation: registration.incarnation,
            listeners: registration.listeners.clone(),
            rack: registration.rack.clone(),
            features: sorted(&registration.features),
            directories: registration.directories.clone(),
            short: Vec::new(),
            slow: Vec::new(),
            fenced: true,
            shutting_down: false,
            registered_at: ImageVersion::default(),
            unknown: known.map(|k| k.unknown.clone()).unwrap_or_default(),
        };
        let fate = Fate::of(known, registration);
        let id = broker.id;
        let default_directory = broker.default_directory();
        self.push(Record::RegisterBroker(broker));
        let hosted: Vec<PartitionId> = self.image.hosted_by(id).map(|(p, _)| p).collect();
        let (wiped, kept): (Vec<_>, Vec<_>) = hosted
            .into_iter()
            .partition(|p| fate.is_wiped(id, self.image.partition(*p).expect("it is hosted")));
        let (lost, kept): (Vec<_>, Vec<_>) = kept
            .into_iter()
            .partition(|p| fate.is_lost(self.image.partition(*p).expect("it is hosted")));
        self.change_each(wiped, |change| change.begin_empty(id, default_directory));
        self.change_each(lost, |change| change.distrust(id));
        self.change_each(kept, |change| change.without(id));
        epoch
    }
}

/// What became of the replicas of a broker between two incarnations.
struct Fate {
    directories: Vec<DirectoryId>,
    clean: bool,
    /// A directory that it does not name may come back.
    may_return: bool,
    /// Every directory of the old incarnation is there.
    all_there: bool,
}

impl Fate {
    fn of(known: Option<&Broker>, registration: &Registration) -> Fate {
        let there = |d: &DirectoryId| registration.directories.contains(d);
        Fate {
            directories: registration.directories.clone(),
            clean: known.is_some_and(|k| registration.clean_shutdown_epoch == Some(k.epoch)),
            may_return: registration.has_offline_directories,
            all_there: known.is_some_and(|k| k.directories.iter().all(there)),
        }
    }

    /// Rule 14: another directory than the one on record is an empty replica.
    fn is_wiped(&self, id: BrokerId, partition: &Partition) -> bool {
        match partition.directory(id) {
            Some(UNASSIGNED_DIRECTORY) => !self.all_there,
            Some(directory) => !self.directories.contains(&directory) && !self.may_return,
            None => false,
        }
    }

    /// Rule 13: what was in the page cache may not have survived an unclean stop.
    fn is_lost(&self, partition: &Partition) -> bool {
        !self.clean && partition.durability == Durability::PageCache
    }
}

fn sorted(features: &[FeatureRange]) -> Vec<FeatureRange> {
    let mut features = features.to_vec();
    features.sort();
    features
}

fn check_cluster(image: &Image, registration: &Registration) -> Result<(), Refusal> {
    match image.cluster_id() {
        Some(id) if id != registration.cluster_id => Err(Refusal::new(
            ErrorCode::InconsistentClusterId,
            format!(
                "Expected cluster ID {id}, but got cluster ID {}",
                registration.cluster_id
            ),
        )),
        _ => Ok(()),
    }
}

fn check_incarnation(
    image: &Image,
    sessions: &Sessions,
    registration: &Registration,
    now: Duration,
) -> Result<(), Refusal> {
    let known = image.broker(registration.id);
    let other = known.is_some_and(|k| k.incarnation != registration.incarnation);
    if other && sessions.is_taken(registration.id, now) {
        return Err(Refusal::new(
            ErrorCode::DuplicateBrokerRegistration,
            "Another broker is registered with that broker id. If the broker was recently \
             restarted this should self-resolve once the heartbeat manager expires the broker's \
             session.",
        ));
    }
    Ok(())
}

fn check_directories(image: &Image, registration: &Registration) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(ErrorCode::InvalidRegistration, why));
    let directories = &registration.directories;
    if directories.is_empty() {
        return refuse("No directories specified in request".to_owned());
    }
    // Kafka reserves the first hundred ids (class `DirectoryId`).
    let reserved = |d: &DirectoryId| u128::from_be_bytes(d.0.0) < 100;
    if directories.iter().any(reserved) {
        return refuse("Reserved directory ID in request".to_owned());
    }
    for (place, directory) in directories.iter().enumerate() {
        if directories[..place].contains(directory) {
            return refuse("Duplicate directory ID in request".to_owned());
        }
        let others = image.brokers().filter(|b| b.id != registration.id);
        if let Some(other) = others
            .into_iter()
            .find(|b| b.directories.contains(directory))
        {
            return refuse(format!(
                "Broker {} is already registered with directory {directory}",
                other.id
            ));
        }
    }
    Ok(())
}

fn check_features(image: &Image, registration: &Registration) -> Result<(), Refusal> {
    for (name, level) in image.features() {
        let range = registration.features.iter().find(|f| f.name == name);
        let lowest = if name == feature::names::METADATA_VERSION {
            1
        } else {
            0
        };
        let (min, max) = range.map_or((lowest, lowest), |f| (f.min, f.max));
        if !(min..=max).contains(&level) {
            return Err(Refusal::new(
                ErrorCode::UnsupportedVersion,
                format!(
                    "Unable to register because the broker does not support finalized version \
                     {level} of {name}. The broker wants a version between {min} and {max}, \
                     inclusive."
                ),
            ));
        }
    }
    Ok(())
}
