//! Which way a packet to an address leaves the node: the longest matching route, its next hop, that next hop's MAC.

use super::{Facts, Mac};
use std::net::IpAddr;

/// The way to an address, down to the Ethernet header.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Path {
    /// The link that the packet leaves by.
    pub device: String,
    /// That link's interface index, now.
    pub ifindex: u32,
    /// The link's MTU or the route's, whichever is smaller, in bytes.
    pub mtu: u32,
    /// The address whose MAC is asked for: the router, or the destination itself.
    pub next_hop: IpAddr,
    /// The next hop's Ethernet address.
    pub destination_mac: Mac,
    /// The link's Ethernet address.
    pub source_mac: Mac,
    /// The address that the node itself would use as source.
    pub source: IpAddr,
}

/// Why there is no path to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No route matches, or one that discards.
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    /// The address is the node's own.
    #[error("{0} is an address of this node")]
    Local(IpAddr),
    /// The next hop is known, its MAC is not (yet).
    #[error("next hop {next_hop} on {device} is not resolved")]
    Unresolved {
        /// The address whose MAC is asked for.
        next_hop: IpAddr,
        /// The link's name.
        device: String,
        /// The link's interface index.
        ifindex: u32,
    },
    /// The link cannot be used: it is down, or not Ethernet.
    #[error("{device} cannot be used: {reason}")]
    Device {
        /// The link's name.
        device: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node has no address of the family to send from.
    #[error("no source address towards {0}")]
    NoSource(IpAddr),
}

/// Finds the path to `destination`.
///
/// # Errors
///
/// Says what is missing; see [`PathError`].
pub fn resolve(_facts: &Facts, destination: IpAddr) -> Result<Path, PathError> {
    Err(PathError::NoRoute(destination))
}
