//! The tests of this crate, from the outside.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

#[path = "metadata/brokers.rs"]
mod brokers;
#[path = "metadata/common.rs"]
mod common;
#[path = "metadata/images.rs"]
mod images;
#[path = "metadata/isr_changes.rs"]
mod isr_changes;
#[path = "metadata/leadership.rs"]
mod leadership;
#[path = "metadata/model.rs"]
mod model;
#[path = "metadata/records.rs"]
mod records;
#[path = "metadata/settings.rs"]
mod settings;
#[path = "metadata/topics.rs"]
mod topics;
