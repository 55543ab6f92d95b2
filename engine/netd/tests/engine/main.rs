//! The engine's loop and the API around a world in memory: when passes are made, what is answered, how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod api;
mod client;
mod passes;
mod running;
#[path = "../world/mod.rs"]
mod world;
