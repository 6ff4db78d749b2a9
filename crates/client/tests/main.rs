//! Tests of the client against brokers that are played: under a stepped clock, without sockets, and
//! with every fault that a seed draws.

#![allow(clippy::unwrap_used, missing_docs)]

mod consuming;
mod producing;
mod support;
