//! What tests of a node stand on.

pub mod node;
pub mod wire;
