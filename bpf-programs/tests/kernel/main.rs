//! The programs in the running kernel. Every test has its own namespaces and its own BPF file system, which vanish
//! with its thread. Without root there is nothing to test: each says so and passes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bed;
mod cases;
mod clock;
mod decap;
mod established;
mod exhaustive;
mod floods;
mod flows;
mod frontends;
mod generations;
mod layouts;
mod links;
mod nat;
mod odd_packets;
mod overlay;
mod packets;
mod random;
mod recorder;
mod reference;
mod size;
mod socket;
mod strict;
