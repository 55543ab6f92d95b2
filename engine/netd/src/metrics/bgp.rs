//! The numbers of BGP sessions.

use super::encode::{Label, Out};
use crate::report::BgpReport;
use std::collections::BTreeMap;
use std::fmt;

/// The states of a session (RFC 4271, 8.2.2).
const STATES: [&str; 6] = ["idle", "connect", "active", "open-sent", "open-confirm", "established"];

/// Writes them; nothing on a node without peers.
pub(super) fn encode(bgp: Option<&BgpReport>, out: &mut Out<'_>) -> fmt::Result {
    let Some(bgp) = bgp else { return Ok(()) };
    let BgpReport { peers, established, announced, not_announced, sessions } = bgp;
    out.one("netd_bgp_peers", "BGP peers that the file gives the node.", *peers as u64)?;
    out.one(
        "netd_bgp_sessions_established",
        "Sessions with them that are established.",
        *established as u64,
    )?;
    out.gauge(
        "netd_bgp_announced_prefixes",
        "Prefixes that are announced, by family.",
        announced.iter().map(|(family, count)| ([("family", family.as_str())], *count)),
    )?;
    let help = "Prefixes that should be announced and are not.";
    out.one("netd_bgp_not_announced_prefixes", help, *not_announced as u64)?;
    let addresses: Vec<String> = sessions.iter().map(|session| session.peer.to_string()).collect();
    let each = || sessions.iter().zip(&addresses).map(|(session, peer)| (session, peer.as_str()));
    out.gauge(
        "netd_bgp_session_state",
        "Where a session stands: 1 for the state that is so.",
        each().flat_map(|(session, peer)| {
            STATES.map(|state| {
                let labels = [("peer", peer), ("name", session.name.as_str()), ("state", state)];
                (labels, u64::from(session.state == state))
            })
        }),
    )?;
    out.gauge(
        "netd_bgp_session_established_timestamp_seconds",
        "Since when a session is established, in seconds of Unix time.",
        each().filter_map(|(session, peer)| Some(([("peer", peer)], session.since_unix_s?))),
    )?;
    out.counter(
        "netd_bgp_session_flaps",
        "How often an established session was lost, since gobgpd started.",
        each().map(|(session, peer)| ([("peer", peer)], session.flaps)),
    )?;
    out.gauge(
        "netd_bgp_session_received_prefixes",
        "Prefixes that a peer has sent.",
        each().flat_map(|(session, peer)| by_family(peer, &session.received)),
    )?;
    out.gauge(
        "netd_bgp_session_announced_prefixes",
        "Prefixes that are for a peer.",
        each().flat_map(|(session, peer)| by_family(peer, &session.announced)),
    )
}

fn by_family<'a>(
    peer: &'a str,
    counts: &'a BTreeMap<String, u64>,
) -> impl Iterator<Item = ([Label<'a>; 2], u64)> {
    counts.iter().map(move |(family, count)| ([("peer", peer), ("family", family.as_str())], *count))
}
