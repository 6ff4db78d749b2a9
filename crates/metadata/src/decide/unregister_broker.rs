//! Unregistering: an operator says that a broker is gone for good.

use millrace_model::{BrokerId, ErrorCode};

use super::{Decision, Draft, Refusal};
use crate::image::Image;
use crate::record::Record;

/// Removes a broker's registration. It leaves ISRs and ELRs, but stays where it is the last member
/// of an ISR: should it come back after all, it holds what nobody else does.
pub fn unregister_broker(image: &Image, id: BrokerId) -> Decision<Result<(), Refusal>> {
    let Some(broker) = image.broker(id) else {
        return Decision::unchanged(Err(Refusal::new(
            ErrorCode::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered"),
        )));
    };
    let mut draft = Draft::of(image);
    let epoch = broker.epoch;
    draft.push(Record::UnregisterBroker { id, epoch });
    let hosted = image.hosted_by(id);
    let counted = hosted.filter(|(_, p)| p.isr.contains(&id) || p.elr.contains(&id));
    let counted = counted.map(|(partition, _)| partition).collect();
    draft.change_each(counted, |change| {
        change.without(id);
        change.exclude_from_elr(id);
    });
    draft.finish(Ok(()))
}
