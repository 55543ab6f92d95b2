//! The client against a real gobgpd, with FRR and BIRD as its routers, each in a network namespace of its own.
//!
//! A test begins with `let Some(site) = Site::new() else { return };`, which prints why when it cannot run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod besides;
mod child;
mod daemon;
mod recognising;
mod routes;
mod sessions;
mod site;

use netd_gobgp::{Family, PeerConfig, Ttl};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The local AS of the daemon under test.
const ASN: u32 = 64512;

/// The AS of routers that are in another one.
const OTHER_ASN: u32 = 4_200_000_001;

/// Longer than anything takes here, also on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that is waited for.
const STEP: Duration = Duration::from_millis(50);

/// Waits until something holds; panics with its name.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "not {what} after {PATIENCE:?}");
        tokio::time::sleep(STEP).await;
    }
}

/// A peer with short timers.
fn peer(address: IpAddr, asn: u32) -> PeerConfig {
    PeerConfig {
        address,
        asn,
        name: format!("router-{asn}"),
        port: 179,
        hold_seconds: 9,
        keepalive_seconds: 3,
        connect_retry_seconds: 5,
        ttl: Ttl::Direct,
        source: None,
        password: None,
        families: Family::ALL.into(),
        graceful_restart: None,
        passive: false,
        import: false,
    }
}
