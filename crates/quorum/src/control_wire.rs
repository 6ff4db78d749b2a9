//! What nodes ask the controller, as the wire carries it.

use bytes::Bytes;
use millrace_metadata::decide::{
    HeartbeatReply, IsrChange, IsrMember, IsrRequest, PartitionState, Registration,
};
use millrace_metadata::{Controller, FeatureRange, Listener, Recovery, Refusal};
use millrace_model::{
    BrokerEpoch, BrokerId, DirectoryId, ErrorCode, ImageVersion, Incarnation, LeaderEpoch,
    PartitionEpoch, PartitionId, TopicId, Uuid,
};
use millrace_rpc::proto::control as wire;
use millrace_rpc::proto::control::isr_outcome::Outcome;

use crate::wire::Malformed;

pub(crate) fn encode_uuid(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

pub(crate) fn decode_uuid(bytes: &[u8]) -> Result<Uuid, Malformed> {
    bytes
        .try_into()
        .map(Uuid)
        .map_err(|_| Malformed("id of 16 bytes"))
}

pub(crate) fn encode_refusal(refusal: &Refusal) -> wire::Refused {
    wire::Refused {
        code: (refusal.code as i16).into(),
        message: refusal.message.clone(),
    }
}

pub(crate) fn decode_refusal(refused: wire::Refused) -> Refusal {
    Refusal {
        code: decode_code(refused.code),
        message: refused.message,
    }
}

pub(crate) fn decode_code(code: i32) -> ErrorCode {
    let code = i16::try_from(code).ok().and_then(ErrorCode::from_code);
    code.unwrap_or(ErrorCode::UnknownServerError)
}

fn encode_listener(listener: &Listener) -> wire::Listener {
    wire::Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port.into(),
        security_protocol: listener.security_protocol.into(),
    }
}

fn encode_feature(feature: &FeatureRange) -> wire::FeatureRange {
    wire::FeatureRange {
        name: feature.name.clone(),
        min: feature.min.into(),
        max: feature.max.into(),
    }
}

pub(crate) fn encode_controller(controller: &Controller) -> wire::ControllerRegistration {
    wire::ControllerRegistration {
        incarnation: encode_uuid(controller.incarnation.0),
        listeners: controller.listeners.iter().map(encode_listener).collect(),
        features: controller.features.iter().map(encode_feature).collect(),
    }
}

pub(crate) fn decode_controller(
    id: BrokerId,
    registration: wire::ControllerRegistration,
) -> Result<Controller, Malformed> {
    let listeners = registration.listeners.into_iter().map(decode_listener);
    let features = registration.features.into_iter().map(decode_feature);
    Ok(Controller {
        id,
        incarnation: Incarnation(decode_uuid(&registration.incarnation)?),
        listeners: listeners.collect::<Result<_, Malformed>>()?,
        features: features.collect::<Result<_, Malformed>>()?,
        unknown: Default::default(),
    })
}

pub(crate) fn encode_registration(registration: &Registration) -> wire::Registration {
    wire::Registration {
        incarnation: encode_uuid(registration.incarnation.0),
        listeners: registration.listeners.iter().map(encode_listener).collect(),
        rack: registration.rack.clone(),
        features: registration.features.iter().map(encode_feature).collect(),
        directories: registration
            .directories
            .iter()
            .map(|d| encode_uuid(d.0))
            .collect(),
        clean_shutdown_epoch: registration.clean_shutdown_epoch.map(|epoch| epoch.get()),
        has_offline_directories: registration.has_offline_directories,
    }
}

fn decode_listener(listener: wire::Listener) -> Result<Listener, Malformed> {
    Ok(Listener {
        name: listener.name,
        host: listener.host,
        port: u16::try_from(listener.port).map_err(|_| Malformed("port"))?,
        security_protocol: decode_i16(listener.security_protocol)?,
    })
}

fn decode_feature(feature: wire::FeatureRange) -> Result<FeatureRange, Malformed> {
    Ok(FeatureRange {
        name: feature.name,
        min: decode_i16(feature.min)?,
        max: decode_i16(feature.max)?,
    })
}

fn decode_i16(number: i32) -> Result<i16, Malformed> {
    i16::try_from(number).map_err(|_| Malformed("16-bit number"))
}

pub(crate) fn decode_registration(
    id: BrokerId,
    cluster_id: &str,
    registration: wire::Registration,
) -> Result<Registration, Malformed> {
    let listeners = registration.listeners.into_iter().map(decode_listener);
    let features = registration.features.into_iter().map(decode_feature);
    Ok(Registration {
        id,
        cluster_id: cluster_id.to_owned(),
        incarnation: Incarnation(decode_uuid(&registration.incarnation)?),
        listeners: listeners.collect::<Result<_, Malformed>>()?,
        rack: registration.rack,
        features: features.collect::<Result<_, Malformed>>()?,
        directories: decode_directories(&registration.directories)?,
        has_offline_directories: registration.has_offline_directories,
        clean_shutdown_epoch: registration.clean_shutdown_epoch.map(BrokerEpoch),
    })
}

pub(crate) fn decode_directories(directories: &[Bytes]) -> Result<Vec<DirectoryId>, Malformed> {
    directories
        .iter()
        .map(|id| decode_uuid(id).map(DirectoryId))
        .collect()
}

pub(crate) fn encode_state(
    reply: HeartbeatReply,
    silent: &[BrokerId],
    version: ImageVersion,
) -> wire::BrokerState {
    wire::BrokerState {
        version: version.get(),
        silent: silent.iter().map(|id| id.get()).collect(),
        fenced: reply.fenced,
        should_stop: reply.should_stop,
        shutting_down: reply.shutting_down,
        caught_up: reply.caught_up,
    }
}

pub(crate) fn encode_isr_request(request: &IsrRequest) -> wire::AlterPartitionsRequest {
    let change = |change: &IsrChange| wire::IsrChange {
        topic: encode_uuid(change.id.topic.0),
        partition: change.id.index,
        leader_epoch: change.leader_epoch.get(),
        partition_epoch: change.partition_epoch.get(),
        isr: change
            .isr
            .iter()
            .map(|member| wire::IsrMember {
                broker: member.broker.get(),
                epoch: member.epoch.get(),
            })
            .collect(),
        recovering: change.recovery == Recovery::Recovering,
        confirms_fsync: change.confirms_fsync,
    };
    wire::AlterPartitionsRequest {
        broker_epoch: request.broker_epoch.get(),
        changes: request.changes.iter().map(change).collect(),
    }
}

fn decode_recovery(recovering: bool) -> Recovery {
    match recovering {
        true => Recovery::Recovering,
        false => Recovery::Recovered,
    }
}

pub(crate) fn decode_partition(topic: &[u8], index: i32) -> Result<PartitionId, Malformed> {
    Ok(PartitionId {
        topic: TopicId(decode_uuid(topic)?),
        index,
    })
}

pub(crate) fn decode_isr_request(
    broker: BrokerId,
    request: &wire::AlterPartitionsRequest,
) -> Result<IsrRequest, Malformed> {
    let changes = request.changes.iter().map(|change| {
        let members = change.isr.iter().map(|member| IsrMember {
            broker: BrokerId(member.broker),
            epoch: BrokerEpoch(member.epoch),
        });
        Ok(IsrChange {
            id: decode_partition(&change.topic, change.partition)?,
            leader_epoch: LeaderEpoch(change.leader_epoch),
            partition_epoch: PartitionEpoch(change.partition_epoch),
            isr: members.collect(),
            recovery: decode_recovery(change.recovering),
            confirms_fsync: change.confirms_fsync,
        })
    });
    Ok(IsrRequest {
        broker,
        broker_epoch: BrokerEpoch(request.broker_epoch),
        changes: changes.collect::<Result<_, Malformed>>()?,
    })
}

pub(crate) fn encode_isr_outcome(outcome: &Result<PartitionState, ErrorCode>) -> wire::IsrOutcome {
    let outcome = match outcome {
        Ok(state) => Outcome::Granted(wire::PartitionState {
            leader: state.leader.map(|leader| leader.get()),
            leader_epoch: state.leader_epoch.get(),
            partition_epoch: state.partition_epoch.get(),
            isr: state.isr.iter().map(|broker| broker.get()).collect(),
            recovering: state.recovery == Recovery::Recovering,
        }),
        Err(code) => Outcome::Code((*code as i16).into()),
    };
    wire::IsrOutcome {
        outcome: Some(outcome),
    }
}

pub(crate) fn decode_isr_outcome(outcome: wire::IsrOutcome) -> Result<PartitionState, ErrorCode> {
    match outcome.outcome {
        Some(Outcome::Granted(state)) => Ok(PartitionState {
            leader: state.leader.map(BrokerId),
            leader_epoch: LeaderEpoch(state.leader_epoch),
            partition_epoch: PartitionEpoch(state.partition_epoch),
            isr: state.isr.into_iter().map(BrokerId).collect(),
            recovery: decode_recovery(state.recovering),
        }),
        Some(Outcome::Code(code)) => Err(decode_code(code)),
        None => Err(ErrorCode::UnknownServerError),
    }
}
