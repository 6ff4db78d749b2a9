//! Groups of the classic protocol and their offsets, driven as a broker drives them: by data, with
//! virtual time, and with a log of real bytes that every step replays.

mod admin;
mod bench;
mod expiry;
mod failover;
mod hostile;
mod joining;
mod leaving;
mod limits;
mod model;
mod offsets;
mod records;
mod render;
mod script;
mod statics;
mod transactions;
