//! What peers sent, of those whose routes are taken in: listed again only after a peer has said something.

use super::{Line, Shared, Speaker};
use crate::clock;
use crate::facts::{Facts, Received};
use crate::reconcile::ReadFacts;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_gobgp::{Error, Peer, SessionState};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// From one peer and family no more is taken: a node that holds this many prefixes is a router and no load balancer.
const ROUTES_MAX: usize = 100_000;

/// The daemon counts an update when it has read it, and has it in its table a little later: what was listed sooner after
/// a count is listed again.
const SETTLING: Duration = Duration::from_millis(500);

/// The routes of one peer, as they were after it had sent so many updates in the session that began then.
#[derive(Clone, Debug)]
pub(super) struct Known {
    at: Moment,
    /// When the daemon was first found to have counted so far.
    counted_at: Instant,
    listed_at: Instant,
    routes: Arc<BTreeMap<IpNetwork, IpAddr>>,
}

/// When its session began, and how many updates it had sent.
type Moment = (Option<SystemTime>, u64);

impl Known {
    fn is_settled(&self) -> bool {
        self.listed_at.saturating_duration_since(self.counted_at) >= SETTLING
    }
}

/// Reads facts, and adds what peers sent.
pub struct WithReceived {
    reader: Box<dyn ReadFacts>,
    speaker: Shared,
}

impl WithReceived {
    /// With what the speaker has heard.
    #[must_use]
    pub fn new(reader: Box<dyn ReadFacts>, speaker: Shared) -> Self {
        Self { reader, speaker }
    }
}

#[async_trait]
impl ReadFacts for WithReceived {
    async fn read(&mut self) -> Result<Facts, String> {
        let mut facts = self.reader.read().await?;
        facts.received = Arc::new(Received(self.speaker.lock().await.received().await));
        Ok(facts)
    }

    fn touched(&mut self) {
        self.reader.touched();
    }

    fn forget(&mut self) {
        self.reader.forget();
    }
}

impl Speaker {
    async fn received(&mut self) -> Result<BTreeMap<IpAddr, Arc<BTreeMap<IpNetwork, IpAddr>>>, String> {
        self.look().await?;
        let Some(line) = self.line()? else {
            self.known.clear();
            return Ok(BTreeMap::new());
        };
        let peers = line.client.peers().await.map_err(|error| self.failed(&error))?;
        let asked = |peer: &Peer| peer.is_ours && peer.is_admitted && peer.config.import;
        self.takes_in.store(peers.values().any(asked), Ordering::Relaxed);
        let mut known = BTreeMap::new();
        for (address, peer) in
            peers.iter().filter(|(_, peer)| asked(peer) && peer.state == SessionState::Established)
        {
            let at = (peer.since, peer.updates.0);
            let before = self.known.get(address).filter(|known| known.at == at);
            let now = match before.filter(|known| known.is_settled()) {
                Some(known) => known.clone(),
                None => {
                    let listed_at = clock::now();
                    let counted_at = before.map_or(listed_at, |known| known.counted_at);
                    let routes = routes(&line, *address, peer).await;
                    let routes = Arc::new(routes.map_err(|error| self.failed(&error))?);
                    Known { at, counted_at, listed_at, routes }
                }
            };
            known.insert(*address, now);
        }
        self.known = known;
        Ok(self.known.iter().map(|(peer, known)| (*peer, Arc::clone(&known.routes))).collect())
    }
}

/// What a peer sent and did not have from this AS (RFC 4271, 9.1.2): routers send back what they were told.
async fn routes(line: &Line, address: IpAddr, peer: &Peer) -> Result<BTreeMap<IpNetwork, IpAddr>, Error> {
    let mut all = BTreeMap::new();
    for family in &peer.config.families {
        let routes = line.client.received(address, *family, ROUTES_MAX).await?;
        let foreign = routes.into_iter().filter(|route| !route.as_path.contains(&line.asn));
        all.extend(foreign.filter_map(|route| Some((route.prefix, route.next_hop?))));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_listed_as_soon_as_it_was_counted_is_not_believed() {
        let counted_at = clock::now();
        let listed_after = |wait| {
            let listed_at = counted_at + wait;
            Known { at: (None, 1), counted_at, listed_at, routes: Arc::default() }.is_settled()
        };
        assert!(!listed_after(Duration::ZERO) && !listed_after(SETTLING / 2) && listed_after(SETTLING));
    }
}
