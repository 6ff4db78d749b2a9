//! The controller's decisions: pure functions of an image, one verb a file.
//!
//! A decision returns the records that make it true and the reply to whoever asked. Nothing has
//! happened until the records are applied. Each verb takes the image first; time, randomness and
//! soft state (sessions) are arguments.

mod alter_partitions;
mod balance;
mod bootstrap;
mod change;
mod configs;
mod controlled_shutdown;
mod create_partitions;
mod create_topics;
mod damage;
mod delete_topics;
mod directories;
mod elect;
mod features;
mod fence;
mod heartbeat;
mod place;
mod producer_ids;
mod reassign;
mod register_broker;
mod register_controller;
mod unfence;
mod unregister_broker;

use millrace_model::{BrokerEpoch, BrokerId, ErrorCode, PartitionId};

use change::Change;

pub use alter_partitions::{IsrChange, IsrMember, IsrRequest, PartitionState, alter_partitions};
pub use balance::{MAX_ELECTIONS_AT_ONCE, balance, bring_back};
pub use bootstrap::bootstrap;
pub use configs::{AnyConfig, ConfigOp, ConfigRules, alter_configs, replace_configs};
pub use create_partitions::{MorePartitions, create_partitions};
pub use create_topics::{CreatedTopic, NewTopic, TopicDefaults, create_topics};
pub use damage::{DamagedReplica, replicas_damaged};
pub use delete_topics::delete_topics;
pub use directories::{assign_directories, directory_failed};
pub use elect::{ElectionKind, ElectionOutcome, elect};
pub use features::{FeatureUpdate, UpgradeKind, update_features};
pub use fence::fence;
pub use heartbeat::{Heartbeat, HeartbeatReply, heartbeat};
pub use producer_ids::{PRODUCER_ID_BLOCK, allocate_producer_ids};
pub use reassign::{Reassignment, reassign};
pub use register_broker::{Registration, register_broker};
pub use register_controller::register_controller;
pub use unregister_broker::unregister_broker;

use crate::image::Image;
use crate::record::Record;

/// What a decision comes to: the facts that make it true, and what to answer once they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision<T> {
    /// To be applied together, or not at all; none means that nothing changes.
    pub records: Vec<Record>,
    /// For the caller, after the records are applied.
    pub reply: T,
}

/// Why something asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {}", message.as_deref().unwrap_or("no further reason"))]
pub struct Refusal {
    /// The code for the wire.
    pub code: ErrorCode,
    /// In words, as Kafka words it; `None` where Kafka says nothing beyond the code.
    pub message: Option<String>,
}

impl<T> Decision<T> {
    /// Nothing changes.
    pub fn unchanged(reply: T) -> Decision<T> {
        Decision {
            records: Vec::new(),
            reply,
        }
    }

    /// The same facts with another reply.
    pub fn map<U>(self, reply: impl FnOnce(T) -> U) -> Decision<U> {
        Decision {
            records: self.records,
            reply: reply(self.reply),
        }
    }
}

impl Refusal {
    /// A code and its reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            message: None,
        }
    }
}

/// A decision in the making: later steps see what earlier ones did.
struct Draft {
    image: Image,
    records: Vec<Record>,
}

impl Draft {
    fn of(image: &Image) -> Draft {
        Draft {
            image: image.clone(),
            records: Vec::new(),
        }
    }

    fn push(&mut self, record: Record) {
        self.extend(vec![record]);
    }

    fn extend(&mut self, records: Vec<Record>) {
        self.image = self
            .image
            .speculate_unchecked(&records)
            .expect("a decision makes records that fit the image it saw");
        self.records.extend(records);
    }

    /// Changes each of these partitions on its own, all in the light of the brokers as they are
    /// now. A partition that comes out as it was makes no record.
    fn change_each(&mut self, ids: Vec<PartitionId>, edit: impl Fn(&mut Change<'_>)) {
        let change = |id: PartitionId| {
            let mut change = Change::of(&self.image, id);
            edit(&mut change);
            change.record()
        };
        let records: Vec<Record> = ids.into_iter().filter_map(change).collect();
        self.extend(records);
    }

    fn finish<T>(self, reply: T) -> Decision<T> {
        Decision {
            records: self.records,
            reply,
        }
    }
}

/// Refuses a request that a broker makes under a registration that is not its own any more (Kafka
/// method `ClusterControlManager.checkBrokerEpoch`).
fn check_broker_epoch(image: &Image, id: BrokerId, epoch: BrokerEpoch) -> Result<(), Refusal> {
    let Some(broker) = image.broker(id) else {
        return Err(Refusal::new(
            ErrorCode::StaleBrokerEpoch,
            format!("No broker registration found for broker id {id}"),
        ));
    };
    if broker.epoch == epoch {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::StaleBrokerEpoch,
        format!(
            "Expected broker epoch {}, but got broker epoch {epoch}",
            broker.epoch
        ),
    ))
}
