//! The numbers of encryption between nodes.

use super::encode::Out;
use netd_wireguard::Peer;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Writes them; nothing on a node without a device. `now` is the time since 1970.
pub(super) fn encode(peers: &BTreeMap<String, Peer>, now: Duration, out: &mut Out<'_>) -> fmt::Result {
    let each = |value: fn(&Peer) -> u64| {
        peers.iter().map(move |(node, peer)| ([("node", node.as_str())], value(peer)))
    };
    let help = "Bytes that came from the node, as they were on the wire.";
    out.counter("netd_wireguard_received_bytes", help, each(|peer| peer.received))?;
    let help = "Bytes that went to the node, as they were on the wire.";
    out.counter("netd_wireguard_sent_bytes", help, each(|peer| peer.sent))?;
    let ages = peers.iter().filter_map(|(node, peer)| {
        let age = now.saturating_sub(peer.last_handshake?).as_secs();
        Some(([("node", node.as_str())], age))
    });
    let help = "Time since the last handshake with the node; absent where there was none.";
    out.gauge("netd_wireguard_handshake_age_seconds", help, ages)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::encode::written;
    use super::*;

    #[test]
    fn bytes_and_ages_are_on_the_page_by_the_names_of_nodes() {
        let handshake = Some(Duration::from_secs(1_000));
        let one = Peer { received: 7, sent: 9, last_handshake: handshake, ..Peer::default() };
        let peers = BTreeMap::from([("node-1".to_owned(), one), ("node-2".to_owned(), Peer::default())]);
        let page = written(move |out| encode(&peers, Duration::from_secs(1_012), out));
        for line in [
            "netd_wireguard_received_bytes_total{node=\"node-1\"} 7",
            "netd_wireguard_sent_bytes_total{node=\"node-1\"} 9",
            "netd_wireguard_sent_bytes_total{node=\"node-2\"} 0",
            "netd_wireguard_handshake_age_seconds{node=\"node-1\"} 12",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("age_seconds{node=\"node-2\"}"));
        assert_eq!(written(|out| encode(&BTreeMap::new(), Duration::ZERO, out)).trim(), "# EOF");
    }
}
