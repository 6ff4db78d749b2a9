//! Registration of controllers: where tools reach them and what they can run (KIP-919).

use super::Decision;
use crate::broker::Controller;
use crate::image::Image;
use crate::record::Record;

/// Registers a controller; nothing changes when it is registered alike.
pub fn register_controller(image: &Image, controller: &Controller) -> Decision<()> {
    if image
        .controller(controller.id)
        .is_some_and(|c| **c == *controller)
    {
        return Decision::unchanged(());
    }
    Decision {
        records: vec![Record::RegisterController(controller.clone())],
        reply: (),
    }
}
