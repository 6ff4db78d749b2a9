//! Clusters of real processes, killed, paused and cut off under load from stock clients. One file
//! for each scenario, named after what happens; `README.md` maps them to the checklist.

#[path = "cluster/leader_killed_while_acks_all.rs"]
mod leader_killed_while_acks_all;
