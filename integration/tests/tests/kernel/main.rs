//! What the kernel and the machine around netd do to it: mounts, refusals, devices that move, filters of others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod mounts;
mod refusals;
mod surroundings;
