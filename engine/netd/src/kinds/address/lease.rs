//! For how long the kernel keeps the addresses that could be another gateway's, pass or no pass.

use super::target::{held, lifetime, remove};
use crate::netlink::{Answer, Connection, Request};
use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::RouteNetlinkMessage as Message;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::Mutex;

/// Held by whoever changes addresses. The kernel makes an address that it is told to keep, if it is not there, whatever the
/// flags of the request: what a pass removes must not come back by that.
pub(super) static CHANGES: Mutex<()> = Mutex::const_new(());

/// What becomes of addresses with a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// These are to stay, where they are there.
    pub hold: BTreeSet<IpAddr>,
    /// For so long, in whole seconds.
    pub lease: Duration,
    /// Whether the others are removed now; else they end with their lease, unless a pass removes them before.
    pub gives_up: bool,
}

impl Kept {
    /// Whether there is nothing to say to the kernel.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.hold.is_empty() && !self.gives_up
    }
}

/// Has the kernel do so with the addresses of netd's that have a lease. None is added.
///
/// # Errors
///
/// A sentence; the others are done nevertheless.
pub async fn keep(kept: &Kept) -> Result<(), String> {
    if kept.is_idle() {
        return Ok(());
    }
    let _alone = CHANGES.lock().await;
    let mut connection = Connection::open().map_err(|error| format!("open netlink: {error}"))?;
    let mut found = held(&mut connection).await?;
    found.retain(|held| held.is_own && held.is_leased);
    let (stay, go): (Vec<_>, Vec<_>) = found.iter().partition(|held| kept.hold.contains(&held.address));
    let mut failed = None;
    for held in stay {
        let message = Message::NewAddress(lifetime(held, kept.lease));
        match connection.change(Request { message, flags: NLM_F_REPLACE }).await {
            Answer::Done | Answer::Refused(Errno::ADDRNOTAVAIL | Errno::NODEV) => {}
            Answer::Refused(error) | Answer::Lost(error) => {
                failed = Some(format!("renew {}: {}", held.address, std::io::Error::from(error)));
            }
        }
    }
    for held in go.into_iter().filter(|_| kept.gives_up) {
        match remove(&mut connection, held).await {
            Ok(()) => tracing::info!(address = %held.address, "given up"),
            Err(outcome) => failed = Some(format!("remove {}: {outcome:?}", held.address)),
        }
    }
    failed.map_or(Ok(()), Err)
}
