//! What the kernel announces about links, addresses, routes and neighbours, reduced to: what has to be read again?

use super::Neighbour;
use super::decode;
use crate::netlink::{Messages, grow_receive_buffer, receive};
use netlink_packet_core::NLMSG_OVERRUN;
use netlink_sys::{AsyncSocket, AsyncSocketExt, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Announcements that may wait for us before the kernel throws some away and says so.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Announcements are small; the kernel sends one per datagram.
const RECEIVE_BYTES: usize = 64 * 1024;

/// `RTNLGRP_*`: link, neighbour, addresses and routes of both families, next-hop objects.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
const GROUP_NEXT_HOPS: u32 = 32;

const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// The tables that are no longer as they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes of the main table.
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

/// Subscribes a socket to everything that [`Stale`] names.
fn subscribe(socket: &mut Socket, queue_bytes: usize) -> io::Result<()> {
    socket.set_non_blocking(true)?;
    grow_receive_buffer(socket, queue_bytes);
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    // Next-hop objects came with Linux 5.3.
    let _ = socket.add_membership(GROUP_NEXT_HOPS);
    Ok(())
}

/// Takes the kernel's announcements when it is asked to.
pub struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
    hearing: Hearing,
}

impl Listener {
    /// Subscribes in the network namespace of the caller.
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
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        subscribe(&mut socket, bytes)?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BYTES], hearing: Hearing::default() })
    }

    /// Takes everything that was announced so far, without waiting, and says what it made stale.
    ///
    /// # Errors
    ///
    /// When the socket cannot be used any more.
    pub fn drain(&mut self) -> io::Result<Stale> {
        let mut stale = Stale::default();
        loop {
            match receive(&self.socket, &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(datagram) => stale = stale.and(self.hearing.hear(datagram)),
                Err(Errno::AGAIN) => return Ok(stale),
                // The queue ran over, or something was too long for us: anything may have changed.
                Err(Errno::NOBUFS | Errno::MSGSIZE) => stale = self.hearing.lost(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Tells a change from an echo.
#[derive(Default)]
struct Hearing {
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    overruns: Arc<AtomicU64>,
}

impl Hearing {
    fn hear(&mut self, datagram: &[u8]) -> Stale {
        Messages(datagram)
            .fold(Stale::default(), |stale, message| stale.and(self.hear_one(message.kind, message.payload)))
    }

    fn lost(&mut self) -> Stale {
        self.overruns.fetch_add(1, Ordering::Relaxed);
        self.neighbours.clear();
        Stale::ALL
    }

    fn hear_one(&mut self, kind: u16, payload: &[u8]) -> Stale {
        let nothing = Stale::default();
        match kind {
            // A link that goes down takes IPv4 routes with it and no message says so.
            RTM_NEWLINK..=RTM_SETLINK => Stale::ALL,
            // The kernel removes routes that prefer a source address together with it.
            RTM_NEWADDR | RTM_DELADDR => Stale { addresses: true, routes: true, ..nothing },
            RTM_NEWROUTE | RTM_DELROUTE => Stale { routes: decode::concerns_main_table(payload), ..nothing },
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => Stale { routes: true, ..nothing },
            RTM_NEWNEIGH | RTM_DELNEIGH => {
                Stale { neighbours: self.neighbour_changed(kind, payload), ..nothing }
            }
            NLMSG_OVERRUN => self.lost(),
            _ => nothing,
        }
    }

    /// Whether a neighbour is not as it was last announced. Entries move between reachable, stale, delay and probe
    /// all the time; that changes nothing for us.
    fn neighbour_changed(&mut self, kind: u16, payload: &[u8]) -> bool {
        let Some((key, now)) = decode::neighbour(payload) else { return false };
        // An entry that is not there is as good as one without anything in it.
        let before = match kind {
            RTM_DELNEIGH => self.neighbours.remove(&key),
            _ => self.neighbours.insert(key, now),
        };
        match kind {
            RTM_DELNEIGH => before != Some(Neighbour::default()),
            _ => before.unwrap_or_default() != now,
        }
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
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        subscribe(socket.socket_mut(), QUEUE_BYTES)?;
        let hearing = Hearing::default();
        let overruns = Arc::clone(&hearing.overruns);
        Ok(Self { task: tokio::spawn(watch(socket, hearing, changed)), overruns })
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

async fn watch(socket: TokioSocket, mut hearing: Hearing, changed: Arc<Notify>) {
    let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
    loop {
        buffer.clear();
        let stale = match socket.recv(&mut buffer).await {
            Ok(()) => hearing.hear(&buffer),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => hearing.lost(),
            Err(error) => {
                tracing::error!(%error, "announcements of the kernel cannot be heard any more");
                return;
            }
        };
        if stale.any() {
            changed.notify_one();
        }
    }
}
