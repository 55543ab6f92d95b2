//! What peers sent, of those whose routes are taken in: listed again only after a peer has said something, and so seldom
//! that listing takes a small part of the time.
//!
//! The daemon's events tell of routes, too, but not of those that it rejects for their AS path: a route that is replaced
//! by such a one would stay for ever. Its counters count every message.

use super::{Line, Shared, Speaker};
use crate::clock;
use crate::facts::{Facts, FromPeer, Received};
use crate::reconcile::ReadFacts;
use async_trait::async_trait;
use netd_gobgp::{Error, Peer, SessionState};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// From one peer and family no more is taken: a node that holds this many prefixes is a router and no load balancer.
const ROUTES_MAX: usize = 100_000;

/// The daemon counts an update when it has read it, and has it in its table a little later: what was listed sooner after
/// a count is listed again.
const SETTLING: Duration = Duration::from_millis(500);

/// A peer that never stops talking is listed again after so many times as long as listing took: a twentieth of the time
/// goes into it, and 100,000 routes are listed about once in a minute.
const LISTINGS_APART: u32 = 20;

/// What the task that counts the peers' messages has to know.
#[derive(Debug, Default)]
pub(super) struct Appetite {
    /// Whether there are peers whose routes are taken in.
    takes_in: AtomicBool,
    /// When a listing is due that was put off.
    due: Mutex<Option<Instant>>,
}

impl Appetite {
    pub(super) fn takes_in(&self) -> bool {
        self.takes_in.load(Ordering::Relaxed)
    }

    /// Whether a listing is due now; it is said once.
    pub(super) fn is_due(&self) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.take_if(|at| *at <= clock::now()).is_some()
    }

    fn put_off(&self, until: Option<Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// The routes of one peer, as they were after it had sent so many updates in the session that began then.
#[derive(Clone, Debug)]
pub(super) struct Known {
    at: Moment,
    /// When the daemon was first found to have counted so far.
    counted_at: Instant,
    listed_at: Instant,
    /// How long listing took.
    took: Duration,
    sent: FromPeer,
}

/// When its session began, and how many updates it had sent.
type Moment = (Option<SystemTime>, u64);

/// What is to be done about what is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Keep,
    /// It is not what the peer says now, and has to do until then.
    KeepUntil(Instant),
    List,
}

impl Known {
    fn next(&self, at: Moment, now: Instant) -> Next {
        let is_settled = self.listed_at.saturating_duration_since(self.counted_at) >= SETTLING;
        if self.at == at && is_settled {
            return Next::Keep;
        }
        let due = self.listed_at + self.took * LISTINGS_APART;
        match self.at.0 == at.0 && now < due {
            true => Next::KeepUntil(due),
            false => Next::List,
        }
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
    async fn received(&mut self) -> Result<BTreeMap<IpAddr, FromPeer>, String> {
        self.look().await?;
        let Some(line) = self.line()? else {
            self.known.clear();
            return Ok(BTreeMap::new());
        };
        let peers = line.client.peers().await.map_err(|error| self.failed(&error))?;
        let asked = |peer: &Peer| peer.is_ours && peer.is_admitted && peer.config.import;
        self.appetite.takes_in.store(peers.values().any(asked), Ordering::Relaxed);
        let (mut known, mut put_off) = (BTreeMap::new(), None::<Instant>);
        for (address, peer) in
            peers.iter().filter(|(_, peer)| asked(peer) && peer.state == SessionState::Established)
        {
            let at = (peer.since, peer.updates.0);
            let before = self.known.get(address);
            let now = match before.map(|known| (known, known.next(at, clock::now()))) {
                Some((known, Next::Keep)) => known.clone(),
                Some((known, Next::KeepUntil(due))) => {
                    put_off = Some(put_off.map_or(due, |other| other.min(due)));
                    known.clone()
                }
                Some((_, Next::List)) | None => {
                    let listed_at = clock::now();
                    let counted_at =
                        before.filter(|known| known.at == at).map_or(listed_at, |known| known.counted_at);
                    let sent = sent(&line, *address, peer).await.map_err(|error| self.failed(&error))?;
                    Known { at, counted_at, listed_at, took: listed_at.elapsed(), sent }
                }
            };
            known.insert(*address, now);
        }
        self.known = known;
        self.appetite.put_off(put_off);
        Ok(self.known.iter().map(|(peer, known)| (*peer, known.sent.clone())).collect())
    }
}

/// What a peer sent and did not have from this AS (RFC 4271, 9.1.2): routers send back what they were told.
async fn sent(line: &Line, address: IpAddr, peer: &Peer) -> Result<FromPeer, Error> {
    let mut all = BTreeMap::new();
    let mut sent = FromPeer::default();
    for family in &peer.config.families {
        let count = peer.traffic.get(family).map_or(0, |traffic| traffic.received);
        if usize::try_from(count).is_ok_and(|count| count > ROUTES_MAX) {
            // The daemon would take longer to list them than anybody waits; some of them are worse than none.
            sent.left_out += count;
            continue;
        }
        let found = line.client.received(address, *family, ROUTES_MAX).await?;
        sent.left_out += found.left_out;
        sent.unreadable += found.unreadable;
        let foreign = found.routes.into_iter().filter(|route| !route.as_path.contains(&line.asn));
        all.extend(foreign.filter_map(|route| Some((route.prefix, route.next_hop?))));
    }
    sent.routes = Arc::new(all);
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Listed so long after it was counted, which took a second.
    fn known(wait: Duration) -> Known {
        let counted_at = clock::now();
        let listed_at = counted_at + wait;
        Known {
            at: (None, 1),
            counted_at,
            listed_at,
            took: Duration::from_secs(1),
            sent: FromPeer::default(),
        }
    }

    #[test]
    fn what_was_listed_as_soon_as_it_was_counted_is_not_believed() {
        let next = |wait| {
            let known = Known { took: Duration::ZERO, ..known(wait) };
            known.next(known.at, known.listed_at)
        };
        assert_eq!([Duration::ZERO, SETTLING / 2, SETTLING].map(next), [Next::List, Next::List, Next::Keep]);
    }

    #[test]
    fn a_peer_that_talks_on_is_listed_seldom_and_one_whose_session_is_new_at_once() {
        let known = known(SETTLING);
        let after = |seconds| known.listed_at + Duration::from_secs(seconds);
        assert_eq!(known.next((None, 2), after(1)), Next::KeepUntil(after(20)));
        assert_eq!(known.next((None, 2), after(20)), Next::List);
        assert_eq!(known.next((Some(SystemTime::UNIX_EPOCH), 2), after(1)), Next::List);
    }

    #[test]
    fn a_listing_that_was_put_off_is_due_once() {
        let appetite = Appetite::default();
        assert!(!appetite.is_due());
        appetite.put_off(Some(clock::now() + Duration::from_secs(60)));
        assert!(!appetite.is_due());
        appetite.put_off(Some(clock::now()));
        assert!(appetite.is_due() && !appetite.is_due());
    }
}
