//! Between the messages on the wire and the records that the rest of the crate speaks of.

use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, Durability, ImageVersion, Incarnation, LeaderEpoch,
    PartitionEpoch, PartitionId, ProducerId, TopicId, TopicName, Uuid,
};
use prost::Message;

use super::{DecodeError, Record, RecordFrame, UnknownFields, malformed};
use crate::broker;
use crate::config::{Resource, ResourceKind};
use crate::feature;
use crate::partition::{self, Recovery};
use crate::record::PartitionChange;

pub(super) fn payload_of(record: &Record) -> Vec<u8> {
    match record {
        Record::Cluster { id } => super::Cluster { id: id.clone() }.encode_to_vec(),
        Record::FeatureLevel { name, level } => super::FeatureLevel {
            name: name.clone(),
            level: i32::from(*level),
        }
        .encode_to_vec(),
        Record::RegisterBroker(broker) => with(&broker.unknown, &broker_message(broker)),
        Record::UnregisterBroker { id, epoch }
        | Record::FenceBroker { id, epoch }
        | Record::UnfenceBroker { id, epoch }
        | Record::ShutDownBroker { id, epoch } => event(*id, *epoch, &[]),
        Record::BrokerDirectories {
            id,
            epoch,
            directories,
        } => event(*id, *epoch, directories),
        Record::RegisterController(node) => with(&node.unknown, &controller_message(node)),
        Record::Topic { id, name, unknown } => with(
            unknown,
            &super::Topic {
                id: id.0.0.to_vec(),
                name: name.as_str().to_owned(),
            },
        ),
        Record::RemoveTopic { id } => super::Topic {
            id: id.0.0.to_vec(),
            name: String::new(),
        }
        .encode_to_vec(),
        Record::Partition { id, partition } => {
            with(&partition.unknown, &partition_message(*id, partition))
        }
        Record::PartitionChange(change) => with(&change.unknown, &change_message(change)),
        Record::Config {
            resource,
            name,
            value,
        } => super::Config {
            kind: i32::from(resource.kind.code()),
            resource: resource.name.clone(),
            name: name.clone(),
            value: value.clone(),
        }
        .encode_to_vec(),
        Record::ProducerIds {
            next,
            broker,
            broker_epoch,
        } => super::ProducerIds {
            next: next.get(),
            broker: broker.get(),
            broker_epoch: broker_epoch.get(),
        }
        .encode_to_vec(),
    }
}

pub(super) fn record_of(frame: &RecordFrame) -> Result<Record, DecodeError> {
    let reader = Reader {
        name: super::name_of(frame.number),
        payload: &frame.payload,
    };
    match frame.number {
        1 => Ok(Record::Cluster {
            id: reader.message::<super::Cluster>()?.id,
        }),
        2 => reader.feature_level(),
        3 => reader.broker().map(Record::RegisterBroker),
        4..=8 => reader.event(frame.number),
        9 => reader.controller().map(Record::RegisterController),
        10 => reader.topic(),
        11 => {
            let id = reader.topic_id(&reader.message::<super::Topic>()?.id)?;
            Ok(Record::RemoveTopic { id })
        }
        12 => reader.partition(),
        13 => reader.change().map(Record::PartitionChange),
        14 => reader.config(),
        _ => {
            let ids = reader.message::<super::ProducerIds>()?;
            Ok(Record::ProducerIds {
                next: ProducerId(ids.next),
                broker: BrokerId(ids.broker),
                broker_epoch: BrokerEpoch(ids.broker_epoch),
            })
        }
    }
}

fn with(unknown: &UnknownFields, message: &impl Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    bytes.extend_from_slice(unknown.as_bytes());
    bytes
}

fn event(id: BrokerId, epoch: BrokerEpoch, directories: &[DirectoryId]) -> Vec<u8> {
    super::BrokerEvent {
        id: id.get(),
        epoch: epoch.get(),
        directories: join(directories),
    }
    .encode_to_vec()
}

fn join(directories: &[DirectoryId]) -> Vec<u8> {
    directories.iter().flat_map(|d| d.0.0).collect()
}

fn listeners_message(listeners: &[broker::Listener]) -> Vec<super::Listener> {
    let message = |l: &broker::Listener| super::Listener {
        name: l.name.clone(),
        host: l.host.clone(),
        port: u32::from(l.port),
        security_protocol: i32::from(l.security_protocol),
    };
    listeners.iter().map(message).collect()
}

fn features_message(features: &[feature::FeatureRange]) -> Vec<super::FeatureRange> {
    let message = |f: &feature::FeatureRange| super::FeatureRange {
        name: f.name.clone(),
        min: i32::from(f.min),
        max: i32::from(f.max),
    };
    features.iter().map(message).collect()
}

fn broker_message(broker: &broker::Broker) -> super::Node {
    super::Node {
        id: broker.id.get(),
        epoch: broker.epoch.get(),
        incarnation: broker.incarnation.0.0.to_vec(),
        listeners: listeners_message(&broker.listeners),
        rack: broker.rack.clone(),
        features: features_message(&broker.features),
        directories: join(&broker.directories),
        fenced: broker.fenced,
        shutting_down: broker.shutting_down,
        registered_at: broker.registered_at.get(),
        short: join(&broker.short),
        slow: join(&broker.slow),
    }
}

fn controller_message(node: &broker::Controller) -> super::Node {
    super::Node {
        id: node.id.get(),
        incarnation: node.incarnation.0.0.to_vec(),
        listeners: listeners_message(&node.listeners),
        features: features_message(&node.features),
        ..super::Node::default()
    }
}

fn list(brokers: &[BrokerId]) -> super::BrokerList {
    super::BrokerList {
        ids: brokers.iter().map(|b| b.get()).collect(),
    }
}

fn leader_code(leader: Option<BrokerId>) -> i32 {
    leader.unwrap_or(BrokerId::NONE).get()
}

fn recovery_code(recovery: Recovery) -> u32 {
    match recovery {
        Recovery::Recovered => 0,
        Recovery::Recovering => 1,
    }
}

fn durability_code(durability: Durability) -> u32 {
    match durability {
        Durability::Fsync => 0,
        Durability::PageCache => 1,
    }
}

fn partition_message(id: PartitionId, p: &partition::Partition) -> super::Partition {
    super::Partition {
        topic: id.topic.0.0.to_vec(),
        index: id.index,
        partition_epoch: p.partition_epoch.get(),
        leader_epoch: p.leader_epoch.get(),
        leader: Some(leader_code(p.leader)),
        replicas: Some(list(&p.replicas)),
        directories: Some(join(&p.directories)),
        isr: Some(list(&p.isr)),
        elr: (!p.elr.is_empty()).then(|| list(&p.elr)),
        last_known_elr: (!p.last_known_elr.is_empty()).then(|| list(&p.last_known_elr)),
        adding: (!p.adding.is_empty()).then(|| list(&p.adding)),
        removing: (!p.removing.is_empty()).then(|| list(&p.removing)),
        recovery: (p.recovery != Recovery::Recovered).then(|| recovery_code(p.recovery)),
        durability: (p.durability != Durability::Fsync).then(|| durability_code(p.durability)),
    }
}

fn change_message(change: &PartitionChange) -> super::Partition {
    let brokers = |list_of: &Option<Vec<BrokerId>>| list_of.as_deref().map(list);
    super::Partition {
        topic: change.id.topic.0.0.to_vec(),
        index: change.id.index,
        partition_epoch: change.partition_epoch.get(),
        leader_epoch: change.leader_epoch.get(),
        leader: change.leader.map(leader_code),
        replicas: brokers(&change.replicas),
        directories: change.directories.as_deref().map(join),
        isr: brokers(&change.isr),
        elr: brokers(&change.elr),
        last_known_elr: brokers(&change.last_known_elr),
        adding: brokers(&change.adding),
        removing: brokers(&change.removing),
        recovery: change.recovery.map(recovery_code),
        durability: change.durability.map(durability_code),
    }
}

struct Reader<'a> {
    name: &'static str,
    payload: &'a [u8],
}

impl Reader<'_> {
    fn bad(&self, why: impl ToString) -> DecodeError {
        malformed(self.name, why)
    }

    fn message<M: Message + Default>(&self) -> Result<M, DecodeError> {
        M::decode(self.payload).map_err(|e| self.bad(e))
    }

    fn unknown(&self, known_up_to: u32) -> Result<UnknownFields, DecodeError> {
        UnknownFields::beyond(known_up_to, self.payload).map_err(|e| self.bad(e))
    }

    fn uuid(&self, bytes: &[u8]) -> Result<Uuid, DecodeError> {
        let bytes = bytes.try_into();
        bytes
            .map(Uuid)
            .map_err(|_| self.bad("an id has not 16 bytes"))
    }

    fn topic_id(&self, bytes: &[u8]) -> Result<TopicId, DecodeError> {
        self.uuid(bytes).map(TopicId)
    }

    fn directories(&self, bytes: &[u8]) -> Result<Vec<DirectoryId>, DecodeError> {
        let ids = bytes.chunks(16).map(|id| self.uuid(id).map(DirectoryId));
        ids.collect()
    }

    fn small(&self, number: i32) -> Result<i16, DecodeError> {
        number.try_into().map_err(|e| self.bad(e))
    }

    fn feature_level(&self) -> Result<Record, DecodeError> {
        let message = self.message::<super::FeatureLevel>()?;
        Ok(Record::FeatureLevel {
            level: self.small(message.level)?,
            name: message.name,
        })
    }

    fn listeners(&self, from: Vec<super::Listener>) -> Result<Vec<broker::Listener>, DecodeError> {
        let listener = |l: super::Listener| {
            Ok(broker::Listener {
                port: l.port.try_into().map_err(|e| self.bad(e))?,
                security_protocol: self.small(l.security_protocol)?,
                name: l.name,
                host: l.host,
            })
        };
        from.into_iter().map(listener).collect()
    }

    fn features(
        &self,
        from: Vec<super::FeatureRange>,
    ) -> Result<Vec<feature::FeatureRange>, DecodeError> {
        let range = |f: super::FeatureRange| {
            Ok(feature::FeatureRange {
                min: self.small(f.min)?,
                max: self.small(f.max)?,
                name: f.name,
            })
        };
        from.into_iter().map(range).collect()
    }

    fn broker(&self) -> Result<broker::Broker, DecodeError> {
        let node = self.message::<super::Node>()?;
        Ok(broker::Broker {
            id: BrokerId(node.id),
            epoch: BrokerEpoch(node.epoch),
            incarnation: Incarnation(self.uuid(&node.incarnation)?),
            listeners: self.listeners(node.listeners)?,
            rack: node.rack,
            features: self.features(node.features)?,
            directories: self.directories(&node.directories)?,
            fenced: node.fenced,
            shutting_down: node.shutting_down,
            registered_at: ImageVersion(node.registered_at),
            short: self.directories(&node.short)?,
            slow: self.directories(&node.slow)?,
            unknown: self.unknown(super::NODE_TAGS)?,
        })
    }

    fn controller(&self) -> Result<broker::Controller, DecodeError> {
        let node = self.message::<super::Node>()?;
        Ok(broker::Controller {
            id: BrokerId(node.id),
            incarnation: Incarnation(self.uuid(&node.incarnation)?),
            listeners: self.listeners(node.listeners)?,
            features: self.features(node.features)?,
            unknown: self.unknown(super::NODE_TAGS)?,
        })
    }

    fn event(&self, number: u32) -> Result<Record, DecodeError> {
        let event = self.message::<super::BrokerEvent>()?;
        let (id, epoch) = (BrokerId(event.id), BrokerEpoch(event.epoch));
        Ok(match number {
            4 => Record::UnregisterBroker { id, epoch },
            5 => Record::FenceBroker { id, epoch },
            6 => Record::UnfenceBroker { id, epoch },
            7 => Record::ShutDownBroker { id, epoch },
            _ => Record::BrokerDirectories {
                id,
                epoch,
                directories: self.directories(&event.directories)?,
            },
        })
    }

    fn topic(&self) -> Result<Record, DecodeError> {
        let topic = self.message::<super::Topic>()?;
        Ok(Record::Topic {
            id: self.topic_id(&topic.id)?,
            name: TopicName::new(&topic.name).map_err(|e| self.bad(e))?,
            unknown: self.unknown(super::TOPIC_TAGS)?,
        })
    }

    fn partition(&self) -> Result<Record, DecodeError> {
        let change = self.change()?;
        if change.replicas.is_none() || change.leader.is_none() {
            return Err(self.bad("it lacks its replicas or its leader"));
        }
        let partition = partition::Partition::default().changed_by(&change);
        Ok(Record::Partition {
            id: change.id,
            partition,
        })
    }

    fn change(&self) -> Result<PartitionChange, DecodeError> {
        let message = self.message::<super::Partition>()?;
        let brokers = |list: Option<super::BrokerList>| {
            list.map(|l| l.ids.into_iter().map(BrokerId).collect::<Vec<_>>())
        };
        let directories = message.directories.as_deref().map(|d| self.directories(d));
        Ok(PartitionChange {
            id: PartitionId {
                topic: self.topic_id(&message.topic)?,
                index: message.index,
            },
            partition_epoch: PartitionEpoch(message.partition_epoch),
            leader_epoch: LeaderEpoch(message.leader_epoch),
            leader: message.leader.map(|l| (l >= 0).then_some(BrokerId(l))),
            replicas: brokers(message.replicas),
            directories: directories.transpose()?,
            isr: brokers(message.isr),
            elr: brokers(message.elr),
            last_known_elr: brokers(message.last_known_elr),
            adding: brokers(message.adding),
            removing: brokers(message.removing),
            recovery: message.recovery.map(|r| self.recovery(r)).transpose()?,
            durability: message.durability.map(|d| self.durability(d)).transpose()?,
            unknown: self.unknown(super::PARTITION_TAGS)?,
        })
    }

    fn recovery(&self, code: u32) -> Result<Recovery, DecodeError> {
        match code {
            0 => Ok(Recovery::Recovered),
            1 => Ok(Recovery::Recovering),
            other => Err(self.bad(format!("recovery state {other} is not known"))),
        }
    }

    fn durability(&self, code: u32) -> Result<Durability, DecodeError> {
        match code {
            0 => Ok(Durability::Fsync),
            1 => Ok(Durability::PageCache),
            other => Err(self.bad(format!("durability {other} is not known"))),
        }
    }

    fn config(&self) -> Result<Record, DecodeError> {
        let config = self.message::<super::Config>()?;
        let kind = i8::try_from(config.kind)
            .ok()
            .and_then(ResourceKind::from_code);
        let unknown = || self.bad(format!("resource kind {} is not known", config.kind));
        Ok(Record::Config {
            resource: Resource {
                kind: kind.ok_or_else(unknown)?,
                name: config.resource,
            },
            name: config.name,
            value: config.value,
        })
    }
}
