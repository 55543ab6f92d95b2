//! What the kernel's messages say, as facts.
//!
//! Only the attributes that are used are looked at: an attribute that is new, odd or unknown to us never makes a whole
//! table unreadable. Routes come as the kernel's bytes, past rtnetlink, since there may be very many of them.

use super::{Address, AttachedMode, Link, Mac, Neighbour, NextHop, Route, RouteAction, Tunnel, Xdp};
use crate::netlink::{PROTOCOL, attributes};
use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteType};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The main routing table.
pub const TABLE_MAIN: u32 = 254;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTAX_MTU: u16 = 2;
const NEXT_HOP_LEN: usize = 8;

/// `LWTUNNEL_ENCAP_IP` and `LWTUNNEL_ENCAP_IP6`: the header around the tunnel's own is of this family.
const ENCAP_IP: u16 = 2;
const ENCAP_IP6: u16 = 4;
/// `LWTUNNEL_IP_ID`, `LWTUNNEL_IP_DST` and `LWTUNNEL_IP_SRC`, for IPv6 the same.
const TUNNEL_ID: u16 = 1;
const TUNNEL_DST: u16 = 2;
const TUNNEL_SRC: u16 = 3;

const ROUTE_HEADER_LEN: usize = 12;

const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
/// Reachable, stale, delay, probe, noarp, permanent.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | NUD_NOARP | NUD_PERMANENT;

/// A link; `None` if it has no name.
pub fn link(message: &LinkMessage) -> Option<Link> {
    let header = &message.header;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        kind: String::new(),
        alias: String::new(),
        xdp: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Address(value) if header.link_layer_type == LinkLayerType::Ether => {
                link.mac = mac(value);
            }
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                link.kind = kind.unwrap_or_default();
            }
            LinkAttribute::Xdp(attributes) => link.xdp = xdp(attributes),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn xdp(attributes: &[LinkXdp]) -> Option<Xdp> {
    let mut mode = None;
    let mut program_id = 0;
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some(AttachedMode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(AttachedMode::Generic),
            LinkXdp::Attached(XdpAttached::Hardware) => mode = Some(AttachedMode::Offloaded),
            LinkXdp::Attached(XdpAttached::None) => {}
            // Several at once: the driver's sees the packets first.
            LinkXdp::Attached(_) => mode = Some(AttachedMode::Native),
            LinkXdp::ProgId(id) => program_id = *id,
            _ => {}
        }
    }
    mode.map(|mode| Xdp { mode, program_id })
}

/// An address; `None` if it is none of IP.
pub fn address(message: &AddressMessage) -> Option<Address> {
    let header = &message.header;
    let (mut own, mut peer) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let tentative = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    let spoiled = flags.intersects(AddressFlags::Dadfailed | AddressFlags::Deprecated);
    Some(Address {
        link: header.index,
        address: own.or(peer)?,
        prefix_len: header.prefix_len,
        usable: !tentative && !spoiled,
        temporary: own.or(peer)?.is_ipv6() && flags.contains(AddressFlags::Secondary),
        global: header.scope == AddressScope::Universe,
    })
}

/// A route from `RTM_NEWROUTE`; `None` for one that does not decide for packets at large.
pub fn route(payload: &[u8]) -> Option<Route> {
    let header = RouteHeader::parse(payload).ok()?;
    // Those are for one traffic class or one source, or remembered exceptions.
    if header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = None;
    let (mut metric, mut source, mut mtu) = (0, None, None);
    let (mut device, mut via) = (None, None);
    let (mut encapsulation, mut encapsulated) = (0, None);
    let mut multipath = None;
    for (kind, value) in attributes(payload.get(ROUTE_HEADER_LEN..)?) {
        match kind {
            RTA_DST => destination = ip(value),
            RTA_TABLE => table = word(value)?,
            RTA_PRIORITY => metric = word(value)?,
            RTA_PREFSRC => source = ip(value),
            RTA_METRICS => {
                mtu =
                    attributes(value).find(|(kind, _)| *kind == RTAX_MTU).and_then(|(_, value)| word(value));
            }
            RTA_OIF => device = Some(word(value)?),
            RTA_GATEWAY => via = ip(value),
            RTA_VIA => via = router_of_other_family(value),
            RTA_ENCAP_TYPE => encapsulation = half_word(value)?,
            RTA_ENCAP => encapsulated = Some(value),
            RTA_MULTIPATH => multipath = next_hops(value),
            _ => {}
        }
    }
    let tunnelled = encapsulated.map(|within| tunnel(encapsulation, within));
    let action = match header.kind {
        RouteType::Unicast if tunnelled.is_some() => match (tunnelled.flatten(), device) {
            (Some(tunnel), Some(link)) => RouteAction::Tunnel(NextHop { link, via, weight: 1 }, tunnel),
            (Some(_) | None, _) => RouteAction::Other,
        },
        RouteType::Unicast => match (multipath, device) {
            (Some(hops), _) => RouteAction::Forward(hops),
            (None, Some(_)) if header.flags.contains(RouteFlags::Dead) => RouteAction::Forward(Vec::new()),
            (None, Some(link)) => RouteAction::Forward(vec![NextHop { link, via, weight: 1 }]),
            (None, None) => RouteAction::Other,
        },
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            RouteAction::Discard
        }
        _ => RouteAction::Other,
    };
    let any = match u8::from(header.address_family) {
        AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let destination = IpNetwork::new(destination.unwrap_or(any), header.destination_prefix_length).ok()?;
    Some(Route { destination, table, metric, protocol: header.protocol.into(), action, source, mtu })
}

/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;

/// What `RTA_ENCAP` says; `None` for an encapsulation that is no tunnel of IP.
fn tunnel(encapsulation: u16, within: &[u8]) -> Option<Tunnel> {
    if !matches!(encapsulation, ENCAP_IP | ENCAP_IP6) {
        return None;
    }
    let (mut id, mut local, mut remote) = (0, None, None);
    for (kind, value) in attributes(within) {
        match kind {
            TUNNEL_ID => id = u64::from_be_bytes(value.try_into().ok()?),
            TUNNEL_DST => remote = ip(value),
            TUNNEL_SRC => local = ip(value).filter(|local| !local.is_unspecified()),
            _ => {}
        }
    }
    Some(Tunnel { id, local, remote: remote? })
}

/// The live next hops of `RTA_MULTIPATH`; `None` if one of them is encapsulated or cannot be read.
fn next_hops(mut bytes: &[u8]) -> Option<Vec<NextHop>> {
    let mut hops = Vec::new();
    while let Some([l0, l1, flags, hops_minus_one, i0, i1, i2, i3]) = bytes.first_chunk::<NEXT_HOP_LEN>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let mut via = None;
        for (kind, value) in attributes(bytes.get(NEXT_HOP_LEN..length)?) {
            match kind {
                RTA_GATEWAY => via = ip(value),
                RTA_VIA => via = router_of_other_family(value),
                RTA_ENCAP => return None,
                _ => {}
            }
        }
        let link = u32::from_ne_bytes([*i0, *i1, *i2, *i3]);
        if u32::from(*flags) & RouteFlags::Dead.bits() == 0 {
            hops.push(NextHop { link, via, weight: u16::from(*hops_minus_one) + 1 });
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(hops)
}

/// `struct rtvia`: an address family of two bytes, then the address.
fn router_of_other_family(value: &[u8]) -> Option<IpAddr> {
    ip(value.get(2..)?)
}

/// A neighbour, with the link and address that it is known by.
pub fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Neighbour)> {
    let header = &message.header;
    // Proxy entries arrive here too; forwarding entries of bridges have no address of IP.
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let state = u16::from(header.state);
    let mut found = Neighbour {
        mac: None,
        valid: state & NUD_VALID != 0,
        managed: false,
        permanent: state & (NUD_PERMANENT | NUD_NOARP) != 0,
        protocol: 0,
    };
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(value) => found.mac = mac(value),
            NeighbourAttribute::Protocol(protocol) => found.protocol = (*protocol).into(),
            NeighbourAttribute::ExtFlags(flags) => found.managed = flags.contains(NeighbourExtFlags::Managed),
            _ => {}
        }
    }
    // An entry that is being asked for keeps the MAC that it had; it must not be used.
    if !found.valid {
        found.mac = None;
    }
    Some(((header.ifindex, address?), found))
}

/// Whether a policy rule is netd's.
pub fn is_own_rule(message: &RuleMessage) -> bool {
    let own = RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL));
    message.attributes.contains(&own)
}

/// Whether a change of this route is one of the main table, or of netd's own routes in any.
pub fn concerns_facts(header: &RouteHeader) -> bool {
    // RT_TABLE_COMPAT stands for every table whose number needs the attribute.
    let is_read =
        matches!(u32::from(header.table), TABLE_MAIN | 252) || u8::from(header.protocol) == PROTOCOL;
    is_read && !header.flags.contains(RouteFlags::Cloned)
}

fn half_word(value: &[u8]) -> Option<u16> {
    value.first_chunk::<2>().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn mac(value: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(value).ok().map(Mac)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match *value {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        _ => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
    }
}
