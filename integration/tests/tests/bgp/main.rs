//! netd, gobgpd and routers: what routers are told, what follows for traffic, and what does not happen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attributes;
mod ecmp;
mod life;
mod peers;
mod received;
mod rows;
mod wire;
mod world;
