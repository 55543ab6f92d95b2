//! Encryption between nodes: who reaches whom, what is seen on the wire, and what happens when something goes wrong. The
//! devices are those of wireguard-go here; the kernel's own are in the tests of Linux 6.1.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod hand;
mod life;
mod networks;
mod nodes;
mod overlay;
mod refused;
mod rotation;
mod sessions;
mod strict;
mod trouble;
