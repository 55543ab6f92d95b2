//! What the kernel announces about links, addresses, routes and neighbours, reduced to: what has to be read again?

use super::decode;
use super::{Address, Neighbour};
use crate::netlink::{Connection, Payload};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Announcements that may wait for us before the kernel throws some away and says so.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// The tables that are no longer as they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes.
    pub routes: bool,
    /// Neighbours.
    pub neighbours: bool,
}

impl Stale {
    /// Nothing is known.
    pub const ALL: Self = Self { links: true, addresses: true, routes: true, neighbours: true };

    /// Whether there is something to read.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    fn and(self, other: Self) -> Self {
        Self {
            links: self.links || other.links,
            addresses: self.addresses || other.addresses,
            routes: self.routes || other.routes,
            neighbours: self.neighbours || other.neighbours,
        }
    }
}

/// Takes the kernel's announcements when it is asked to.
pub struct Listener {
    connection: Connection,
    hearing: Hearing,
}

impl Listener {
    /// Subscribes in the network namespace of the calling thread, on the current runtime.
    ///
    /// # Errors
    ///
    /// The system call's.
    pub fn open() -> io::Result<Self> {
        Self::with_queue(QUEUE_BYTES)
    }

    /// As [`Listener::open`] with room for `bytes` of announcements.
    ///
    /// # Errors
    ///
    /// The system call's.
    pub fn with_queue(bytes: usize) -> io::Result<Self> {
        Ok(Self { connection: Connection::announced(bytes)?, hearing: Hearing::default() })
    }

    /// Takes everything that was announced before the call and says what it made stale.
    ///
    /// # Errors
    ///
    /// When the socket cannot be used any more.
    pub async fn drain(&mut self) -> io::Result<Stale> {
        let mut stale = Stale::default();
        let hearing = &mut self.hearing;
        self.connection.heard_so_far(|payload| stale = stale.and(hearing.hear(&payload))).await?;
        Ok(stale)
    }
}

/// Tells a change from an echo.
#[derive(Default)]
struct Hearing {
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    addresses: BTreeMap<(u32, IpAddr), Address>,
    overruns: Arc<AtomicU64>,
}

impl Hearing {
    fn lost(&mut self) -> Stale {
        self.overruns.fetch_add(1, Ordering::Relaxed);
        self.neighbours.clear();
        self.addresses.clear();
        Stale::ALL
    }

    fn hear(&mut self, payload: &Payload) -> Stale {
        let nothing = Stale::default();
        let message = match payload {
            NetlinkPayload::InnerMessage(message) => message,
            // The queue ran over, or something was too long for us: anything may have changed.
            NetlinkPayload::Overrun(_) => return self.lost(),
            _ => return nothing,
        };
        match message {
            // A link that goes down takes IPv4 routes with it and no message says so.
            Message::NewLink(_) | Message::DelLink(_) | Message::SetLink(_) => Stale::ALL,
            // The kernel removes routes that prefer a source address together with it.
            Message::NewAddress(now) => {
                let is_news = self.address_is(now);
                Stale { addresses: is_news, routes: is_news, ..nothing }
            }
            Message::DelAddress(gone) => {
                self.address_is_gone(gone);
                Stale { addresses: true, routes: true, ..nothing }
            }
            Message::NewRoute(route) | Message::DelRoute(route) => {
                Stale { routes: decode::concerns_facts(&route.header), ..nothing }
            }
            // Of rules only netd's own matter, and they are read at every look.
            Message::NewRule(rule) | Message::DelRule(rule) => {
                Stale { routes: decode::is_own_rule(rule), ..nothing }
            }
            Message::NewNeighbour(now) => Stale { neighbours: self.neighbour_is(now), ..nothing },
            Message::DelNeighbour(gone) => Stale { neighbours: self.neighbour_is_gone(gone), ..nothing },
            _ => nothing,
        }
    }

    /// Whether a neighbour is not as it was last announced. Entries move between reachable, stale, delay and probe
    /// all the time; that changes nothing for us. One that is not there is as good as one without anything in it.
    fn neighbour_is(&mut self, message: &NeighbourMessage) -> bool {
        let Some((key, now)) = decode::neighbour(message) else { return false };
        self.neighbours.insert(key, now).unwrap_or_default() != now
    }

    /// Whether an address is not as it was last announced. What has a lease is announced with every renewal.
    fn address_is(&mut self, message: &AddressMessage) -> bool {
        let Some(now) = decode::address(message) else { return true };
        self.addresses.insert((now.link, now.address), now) != Some(now)
    }

    fn address_is_gone(&mut self, message: &AddressMessage) {
        if let Some(gone) = decode::address(message) {
            self.addresses.remove(&(gone.link, gone.address));
        }
    }

    fn neighbour_is_gone(&mut self, message: &NeighbourMessage) -> bool {
        let Some((key, _)) = decode::neighbour(message) else { return false };
        self.neighbours.remove(&key) != Some(Neighbour::default())
    }
}

/// Wakes somebody whenever facts may have changed, until it is dropped.
pub struct Monitor {
    task: JoinHandle<()>,
    overruns: Arc<AtomicU64>,
}

impl Monitor {
    /// Starts to listen in the network namespace of the calling thread, on the current runtime.
    ///
    /// Many announcements wake once: whoever is woken reads everything that it needs.
    ///
    /// # Errors
    ///
    /// When the socket cannot be opened.
    pub fn start(changed: Arc<Notify>) -> io::Result<Self> {
        let connection = Connection::announced(QUEUE_BYTES)?;
        let hearing = Hearing::default();
        let overruns = Arc::clone(&hearing.overruns);
        Ok(Self { task: tokio::spawn(watch(connection, hearing, changed)), overruns })
    }

    /// Returns when nothing can be heard any more.
    pub async fn ended(mut self) {
        // Also a panic is an end; whoever waits starts anew.
        let _ = (&mut self.task).await;
    }

    /// How often announcements were lost because too many came at once.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(mut connection: Connection, mut hearing: Hearing, changed: Arc<Notify>) {
    loop {
        match connection.heard().await {
            Ok(payload) if hearing.hear(&payload).any() => changed.notify_one(),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "announcements of the kernel cannot be heard any more");
                return;
            }
        }
    }
}
