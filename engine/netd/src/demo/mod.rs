//! `netd demo`: shows in throw-away network namespaces what netd does, and checks everything that it says.
//!
//! `world` makes the network of `topology`, `server` and `client` talk `http` through it and `tally`
//! counts, `daemon` is netd on the load balancer, `edit` changes its file, `story` tells it all.

mod client;
mod daemon;
mod edit;
mod http;
mod interrupt;
mod server;
mod story;
mod tally;
mod terminal;
mod topology;
mod world;

/// Runs the demo: under two minutes, as root; everything that it makes is gone when it returns.
///
/// # Errors
///
/// A claim that did not hold, or what kept the demo from going on.
pub fn run() -> anyhow::Result<()> {
    story::tell()
}
