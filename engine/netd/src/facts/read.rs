//! Reads the facts from the kernel, and only what may have changed since it was read.

use super::decode::{self, AF_INET, AF_INET6, TABLE_MAIN};
use super::monitor::{Listener, Stale};
use super::{Address, Facts, Link, Neighbour, Route};
use crate::clock;
use crate::instance::InstanceName;
use crate::kinds::rule::own_rules;
use crate::netlink::{Channel, Connection, DriverFeatures, PROTOCOL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Everything is read again after this time, announced or not.
const TRUST_MAX: Duration = Duration::from_secs(30);

/// Reads [`Facts`].
///
/// A table is read again when the kernel announced a change of it, when announcements were lost, and at least every
/// half a minute; links always, because the kernel does not announce every change of theirs. Announcements of changes
/// that this process made are already queued when the change is acknowledged, and of neighbours, of which the kernel
/// announces none that is not resolved yet, it is told by [`FactsReader::touched`]: so a read after a change never
/// answers with what was before it.
pub struct FactsReader {
    node: String,
    instance: InstanceName,
    /// Whether this process has changed something since the last read.
    is_touched: bool,
    /// Away while a read is under way; lost when that read is cancelled, and then made anew.
    sight: Option<Box<Sight>>,
}

impl FactsReader {
    /// A reader for the node that the file calls `node`. It looks at the network namespace of its first read.
    #[must_use]
    pub fn new(node: String) -> Self {
        Self { node, instance: InstanceName::default(), is_touched: false, sight: None }
    }

    /// The same, for another instance than the default one.
    #[must_use]
    pub fn of_instance(self, instance: InstanceName) -> Self {
        Self { instance, ..self }
    }

    /// What the node is now.
    ///
    /// # Errors
    ///
    /// A sentence; nothing may be concluded from it.
    pub async fn read(&mut self) -> Result<Facts, String> {
        let mut sight = match self.sight.take() {
            Some(sight) => sight,
            None => {
                let opened = Sight::open(self.node.clone(), self.instance.clone());
                Box::new(opened.map_err(|error| format!("open netlink: {error}"))?)
            }
        };
        let routes_are_stale = sight.look(std::mem::take(&mut self.is_touched)).await?;
        // Routes are read from a blocking socket, and copying very many takes a while.
        let reading = tokio::task::spawn_blocking(move || {
            if routes_are_stale {
                let mut read = || -> io::Result<()> {
                    sight.facts.routes = routes_of(&mut sight.channel, TABLE_MAIN)?;
                    sight.facts.routes_elsewhere = own_routes_elsewhere(&mut sight.channel)?;
                    Ok(())
                };
                read().map_err(|error| format!("read routes: {error}"))?;
            }
            sight.facts.no_redirects = sight.drivers.as_mut().map(no_redirects).unwrap_or_default();
            let facts = sight.facts.clone();
            Ok((sight, facts))
        });
        match reading.await {
            Ok(Ok((sight, facts))) => {
                self.sight = Some(sight);
                Ok(facts)
            }
            Ok(Err(reason)) => Err(reason),
            Err(error) => Err(format!("reading the facts ended early: {error}")),
        }
    }

    /// This process has changed something: what the kernel does not announce is read again.
    pub fn touched(&mut self) {
        self.is_touched = true;
    }

    /// Forgets what was read: the next read asks the kernel for everything.
    pub fn forget(&mut self) {
        self.sight = None;
    }
}

/// The sockets, and what was seen through them.
struct Sight {
    connection: Connection,
    /// For routes.
    channel: Channel,
    /// `None` where the kernel does not say what drivers can do.
    drivers: Option<DriverFeatures>,
    listener: Listener,
    facts: Facts,
    read_at: Option<Instant>,
}

impl Sight {
    fn open(node: String, instance: InstanceName) -> io::Result<Self> {
        // Subscribed first: what changes during the first read is not missed.
        let listener = Listener::open()?;
        let facts = Facts { node, instance, ..Facts::default() };
        Ok(Self {
            connection: Connection::open()?,
            channel: Channel::open()?,
            drivers: DriverFeatures::open().ok(),
            listener,
            facts,
            read_at: None,
        })
    }

    /// Brings the facts up to date but for the routes, and says whether those are stale.
    ///
    /// After an error this must not be used again: it may be half read.
    async fn look(&mut self, is_touched: bool) -> Result<bool, String> {
        let announced = self.listener.drain().await;
        let announced = announced.map_err(|error| format!("hear announcements: {error}"))?;
        let aged = self.read_at.is_none_or(|at| clock::now().saturating_duration_since(at) >= TRUST_MAX);
        let stale = if aged { Stale::ALL } else { announced };
        // Always: that a BPF link put a program on a device or took it off is not announced.
        let read = links(&mut self.connection).await;
        self.facts.links = read.map_err(|error| format!("read links: {error}"))?;
        // Few, and read whole with one request.
        self.facts.rules = match own_rules(&mut self.connection).await {
            Err(error) if is_absent(&error) => BTreeSet::new(),
            read => read.map_err(|error| format!("read rules: {error}"))?,
        };
        if stale.addresses {
            let read = addresses(&mut self.connection).await;
            self.facts.addresses = read.map_err(|error| format!("read addresses: {error}"))?;
        }
        if stale.neighbours || is_touched {
            let read = neighbours(&mut self.connection).await;
            self.facts.neighbours = read.map_err(|error| format!("read neighbours: {error}"))?;
        }
        if aged {
            self.read_at = Some(clock::now());
        }
        Ok(stale.routes)
    }
}

/// `NETDEV_XDP_ACT_NDO_XMIT`: packets may be redirected to it.
const TAKES_REDIRECTS: u64 = 4;

/// The devices that take no redirected packets; none if that cannot be read: it is only worth a remark.
fn no_redirects(drivers: &mut DriverFeatures) -> BTreeSet<u32> {
    let known = drivers.read().unwrap_or_default();
    known
        .into_iter()
        .filter(|(_, features)| features & TAKES_REDIRECTS == 0)
        .map(|(ifindex, _)| ifindex)
        .collect()
}

/// The links.
///
/// # Errors
///
/// The kernel's.
pub(crate) async fn links(connection: &mut Connection) -> io::Result<BTreeMap<u32, Link>> {
    let mut message = LinkMessage::default();
    // Statistics are most of a link's message.
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let request = RouteNetlinkMessage::GetLink(message);
    let found = connection.dump(&request, |message| match message {
        RouteNetlinkMessage::NewLink(link) => decode::link(link),
        _ => None,
    });
    Ok(found.await?.into_iter().map(|link| (link.index, link)).collect())
}

async fn addresses(connection: &mut Connection) -> io::Result<Vec<Address>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let found = connection.dump(&request, |message| match message {
        RouteNetlinkMessage::NewAddress(address) => decode::address(address),
        _ => None,
    });
    found.await
}

/// The neighbours of both families.
///
/// # Errors
///
/// The kernel's.
pub(crate) async fn neighbours(
    connection: &mut Connection,
) -> io::Result<BTreeMap<(u32, IpAddr), Neighbour>> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let found = connection.dump(&request, |message| match message {
        RouteNetlinkMessage::NewNeighbour(neighbour) => decode::neighbour(neighbour),
        _ => None,
    });
    Ok(found.await?.into_iter().collect())
}

/// The routes of a table, of both families.
///
/// # Errors
///
/// The kernel's.
pub(crate) fn routes_of(channel: &mut Channel, table: u32) -> io::Result<Vec<Route>> {
    let mut request = RouteMessage::default();
    request.attributes.push(RouteAttribute::Table(table));
    dump_routes(channel, &request, |route| route.table == table)
}

/// netd's own routes outside the main table, of both families. The kernel is asked for all of its routes by their
/// protocol: in which table an earlier file had them is not known.
fn own_routes_elsewhere(channel: &mut Channel) -> io::Result<Vec<Route>> {
    let mut request = RouteMessage::default();
    request.header.protocol = PROTOCOL.into();
    dump_routes(channel, &request, |route| route.table != TABLE_MAIN && route.protocol == PROTOCOL)
}

/// A kernel that does not obey the request's filters sends everything, so each route is looked at.
fn dump_routes(
    channel: &mut Channel,
    request: &RouteMessage,
    is_meant: impl Fn(&Route) -> bool,
) -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = request.clone();
        request.header.address_family = family.into();
        let each = |_, payload: &[u8]| decode::route(payload).filter(&is_meant);
        match channel.dump(&RouteNetlinkMessage::GetRoute(request), each) {
            Ok(found) => routes.extend(found),
            // A table is only made with its first route, and a family may be turned off.
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(routes)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP))
}
