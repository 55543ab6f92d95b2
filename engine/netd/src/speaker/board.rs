//! What the last look found of sessions and announcements, for whoever shows it.

use super::Speaker;
use crate::kinds::{bgp_path, bgp_peer};
use crate::report::{BgpReport, KindReport, Report, SessionReport};
use bgp_path::Recipients;
use netd_gobgp::{Family, Peer, SessionState};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// The last look, shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BgpReport>>);

/// How many prefixes are announced to whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// To anybody, by family.
    all: BTreeMap<Family, u64>,
    /// To every peer that has the family.
    to_every: BTreeMap<Family, u64>,
    /// To chosen peers only.
    to_some: BTreeMap<(IpAddr, Family), u64>,
}

impl Board {
    /// Puts the last look into a report, if the node has peers.
    pub fn complete(&self, report: &mut Report) {
        let mut bgp = self.held(|bgp| bgp.clone());
        let waiting = |kind: &KindReport| kind.pending + kind.failed + kind.conflict;
        bgp.peers = report.kinds.get(bgp_peer::NAME).map_or(0, |kind| kind.desired);
        bgp.not_announced = report.kinds.get(bgp_path::NAME).map_or(0, waiting);
        report.bgp = (bgp.peers > 0 || !bgp.sessions.is_empty()).then_some(bgp);
    }

    /// Nothing is known any more.
    pub(super) fn clear(&self) {
        self.held(|bgp| *bgp = BgpReport::default());
    }

    fn held<T>(&self, work: impl FnOnce(&mut BgpReport) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Extent {
    /// Counts one announcement.
    pub(crate) fn count(&mut self, family: Family, to: &Recipients) {
        *self.all.entry(family).or_default() += 1;
        match to {
            Recipients::All(_) => *self.to_every.entry(family).or_default() += 1,
            Recipients::Only(peers) => {
                for peer in peers {
                    *self.to_some.entry((*peer, family)).or_default() += 1;
                }
            }
        }
    }

    fn for_peer(&self, peer: IpAddr, family: Family) -> u64 {
        let to_every = self.to_every.get(&family).copied().unwrap_or_default();
        to_every + self.to_some.get(&(peer, family)).copied().unwrap_or_default()
    }
}

impl Speaker {
    /// Where the last look is written down.
    #[must_use]
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Writes down how netd's sessions were found; the announcements were counted before.
    pub(crate) fn tell_of_sessions(&mut self, peers: &BTreeMap<IpAddr, Peer>) {
        let ours = peers.iter().filter(|(_, peer)| peer.is_ours);
        let sessions: Vec<SessionReport> = ours.map(|(address, peer)| self.session(*address, peer)).collect();
        let established = sessions.iter().filter(|session| session.since_unix_s.is_some()).count();
        let announced = self.extent.all.iter().map(|(family, count)| (family.to_string(), *count)).collect();
        let bgp = BgpReport { established, announced, sessions, ..BgpReport::default() };
        self.board.held(|held| *held = bgp);
    }

    fn session(&self, address: IpAddr, peer: &Peer) -> SessionReport {
        let since = peer.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let since = since.map(|since| since.as_secs()).unwrap_or_default();
        let by_family = |count: &dyn Fn(Family) -> u64| {
            peer.config.families.iter().map(|family| (family.to_string(), count(*family))).collect()
        };
        let label = self.labels.get(&address).unwrap_or(&peer.config.name);
        let with_complaint = |why: &str| match self.complaint(address) {
            Some(said) => format!("{why} (gobgpd: {said})"),
            None => why.to_owned(),
        };
        SessionReport {
            peer: address,
            name: bgp_peer::name_of(label),
            asn: peer.config.asn,
            state: peer.state.to_string(),
            since_unix_s: (peer.state == SessionState::Established).then_some(since),
            flaps: peer.flaps,
            received: by_family(&|family| peer.traffic.get(&family).map_or(0, |traffic| traffic.received)),
            announced: by_family(&|family| self.extent.for_peer(address, family)),
            why_not: peer.hindrance().map(with_complaint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_of_what_is_for_all_and_of_what_is_for_it() {
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut extent = Extent::default();
        extent.count(Family::Ipv4, &Recipients::All([].into()));
        extent.count(Family::Ipv4, &Recipients::Only([one].into()));
        extent.count(Family::Ipv6, &Recipients::Only([one, other].into()));
        let of = |peer| [Family::Ipv4, Family::Ipv6].map(|family| extent.for_peer(peer, family));
        assert_eq!((of(one), of(other)), ([2, 1], [1, 1]));
        assert_eq!(extent.all, [(Family::Ipv4, 2), (Family::Ipv6, 1)].into());
    }

    #[test]
    fn a_node_with_peers_and_without_a_daemon_has_no_session() {
        let mut report = Report::default();
        Board::default().complete(&mut report);
        assert_eq!(report.bgp, None);
        let counts = KindReport { desired: 2, pending: 2, ..KindReport::default() };
        report.kinds = [bgp_peer::NAME, bgp_path::NAME].map(|kind| (kind.to_owned(), counts.clone())).into();
        Board::default().complete(&mut report);
        assert_eq!(report.bgp, Some(BgpReport { peers: 2, not_announced: 2, ..BgpReport::default() }));
    }
}
