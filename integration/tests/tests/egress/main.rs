//! Egress policies: chosen traffic leaves by its gateway with its egress address, and nothing else does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod ability;
mod bgp;
mod failover;
mod leaving;
mod life;
mod paths;
mod pools;
mod probes;
mod world;
