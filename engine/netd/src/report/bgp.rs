//! How the node's BGP sessions stand.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The sessions of the node, and how much is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpReport {
    /// Peers that the file gives the node.
    pub peers: usize,
    /// Sessions with them that are established.
    pub established: usize,
    /// Prefixes that are announced to anybody, by family.
    pub announced: BTreeMap<String, u64>,
    /// Prefixes that should be announced and are not; why, the resources of the kind `bgp_path` say.
    pub not_announced: usize,
    /// The sessions, sorted by the peer's address.
    pub sessions: Vec<SessionReport>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The peer's address.
    pub peer: IpAddr,
    /// What the file calls it.
    pub name: String,
    /// The peer's AS.
    pub asn: u32,
    /// Where the session stands, by the names of RFC 4271.
    pub state: String,
    /// Since when it is established, in seconds of Unix time; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_s: Option<u64>,
    /// How often it was lost after it was established, in this life of gobgpd.
    pub flaps: u64,
    /// Prefixes that the peer has sent, by family.
    pub received: BTreeMap<String, u64>,
    /// Prefixes that are for the peer, by family.
    pub announced: BTreeMap<String, u64>,
    /// Why it is not established, as far as gobgpd tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}
