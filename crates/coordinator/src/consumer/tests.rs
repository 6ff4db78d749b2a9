//! Consumer groups by what their members see. A test is a script for [`script::check`]; the shard
//! runs on virtual time, its records go through their bytes, and after each of them the whole log is
//! checked to give the same state.

mod bench;
mod classic_members;
mod client;
mod expressions;
mod fencing;
mod hostile;
mod joining;
mod migration;
mod model;
mod script;
mod settings;
mod static_members;
mod topics;
