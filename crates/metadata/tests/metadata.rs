//! The tests of this crate, from the outside.

#[path = "metadata/common.rs"]
mod common;
#[path = "metadata/images.rs"]
mod images;
#[path = "metadata/records.rs"]
mod records;
