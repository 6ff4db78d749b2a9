//! The tests of this crate, from the outside.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

#[path = "metadata/common.rs"]
mod common;
#[path = "metadata/decisions.rs"]
mod decisions;
#[path = "metadata/images.rs"]
mod images;
#[path = "metadata/model.rs"]
mod model;
#[path = "metadata/records.rs"]
mod records;
