//! What the kernel's messages say, as facts.
//!
//! Only the attributes that are used are looked at: an attribute that is new, odd or unknown to us never makes a whole
//! table unreadable.

use super::{Address, AttachedMode, Link, Mac, Neighbour, NextHop, Route, RouteAction, Xdp};
use ipnetwork::IpNetwork;
use netlink_packet_core::NlasIterator;
use netlink_packet_route::address::{AddressFlags, AddressHeader, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The main routing table.
pub const TABLE_MAIN: u32 = 254;

const ATTRIBUTE_TYPE: u16 = 0x3fff;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_XDP: u16 = 43;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_DRV: u8 = 1;
const XDP_ATTACHED_SKB: u8 = 2;
const XDP_ATTACHED_HW: u8 = 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTAX_MTU: u16 = 2;
const NEXT_HOP_LEN: usize = 8;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NDA_FLAGS_EXT: u16 = 15;
const NTF_EXT_MANAGED: u32 = 1;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
/// Reachable, stale, delay, probe, noarp, permanent.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | NUD_NOARP | NUD_PERMANENT;

/// The bytes that come before the attributes.
const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
const ROUTE_HEADER_LEN: usize = 12;
const NEIGHBOUR_HEADER_LEN: usize = 12;

/// A link from `RTM_NEWLINK`; `None` if the message is not one or has no name.
pub fn link(payload: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(payload).ok()?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        kind: String::new(),
        xdp: None,
    };
    for (kind, value) in attributes(payload.get(LINK_HEADER_LEN..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = word(value)?,
            IFLA_ADDRESS if header.link_layer_type == LinkLayerType::Ether => link.mac = mac(value),
            IFLA_LINKINFO => {
                let info = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = info.map(|(_, value)| text(value)).unwrap_or_default();
            }
            IFLA_XDP => link.xdp = xdp(value),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn xdp(nested: &[u8]) -> Option<Xdp> {
    let mut mode = None;
    let mut program_id = 0;
    for (kind, value) in attributes(nested) {
        match (kind, value) {
            (IFLA_XDP_ATTACHED, [XDP_ATTACHED_DRV]) => mode = Some(AttachedMode::Native),
            (IFLA_XDP_ATTACHED, [XDP_ATTACHED_SKB]) => mode = Some(AttachedMode::Generic),
            (IFLA_XDP_ATTACHED, [XDP_ATTACHED_HW]) => mode = Some(AttachedMode::Offloaded),
            // Several at once: the driver's sees the packets first.
            (IFLA_XDP_ATTACHED, [several]) if *several > XDP_ATTACHED_HW => mode = Some(AttachedMode::Native),
            (IFLA_XDP_PROG_ID, _) => program_id = word(value)?,
            _ => {}
        }
    }
    mode.map(|mode| Xdp { mode, program_id })
}

/// An address from `RTM_NEWADDR`.
pub fn address(payload: &[u8]) -> Option<Address> {
    let header = AddressHeader::parse(payload).ok()?;
    let (mut own, mut peer) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    for (kind, value) in attributes(payload.get(ADDRESS_HEADER_LEN..)?) {
        match kind {
            IFA_LOCAL => own = ip(value),
            IFA_ADDRESS => peer = ip(value),
            IFA_FLAGS => flags = AddressFlags::from_bits_retain(word(value)?),
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
        global: header.scope == AddressScope::Universe,
    })
}

/// A route of the main table from `RTM_NEWROUTE`; `None` for every other one.
pub fn route(payload: &[u8]) -> Option<Route> {
    let header = RouteHeader::parse(payload).ok()?;
    // Routes for one traffic class or one source, and remembered exceptions, do not decide for packets at large.
    if header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = None;
    let (mut metric, mut source, mut mtu) = (0, None, None);
    let (mut device, mut via, mut encapsulated) = (None, None, false);
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
            RTA_ENCAP => encapsulated = true,
            RTA_MULTIPATH => multipath = next_hops(value),
            _ => {}
        }
    }
    if table != TABLE_MAIN {
        return None;
    }
    let action = match header.kind {
        RouteType::Unicast if encapsulated => RouteAction::Other,
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

/// A neighbour from `RTM_NEWNEIGH` or `RTM_DELNEIGH`, with the link and address that it is known by.
pub fn neighbour(payload: &[u8]) -> Option<((u32, IpAddr), Neighbour)> {
    let header = NeighbourHeader::parse(payload).ok()?;
    let family = u8::from(header.family);
    // Forwarding entries of bridges and proxy entries arrive here too.
    if (family != AF_INET && family != AF_INET6) || header.flags.contains(NeighbourFlags::Proxy) {
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
    for (kind, value) in attributes(payload.get(NEIGHBOUR_HEADER_LEN..)?) {
        match (kind, value) {
            (NDA_DST, _) => address = ip(value),
            (NDA_LLADDR, _) => found.mac = mac(value),
            (NDA_PROTOCOL, [protocol]) => found.protocol = *protocol,
            (NDA_FLAGS_EXT, _) => found.managed = word(value)? & NTF_EXT_MANAGED != 0,
            _ => {}
        }
    }
    // An entry that is being asked for keeps the MAC that it had; it must not be used.
    if !found.valid {
        found.mac = None;
    }
    Some(((header.ifindex, address?), found))
}

/// Whether `RTM_NEWROUTE` or `RTM_DELROUTE` is about the main table, without decoding all of it.
pub fn concerns_main_table(payload: &[u8]) -> bool {
    let Ok(header) = RouteHeader::parse(payload) else { return true };
    // RT_TABLE_COMPAT stands for every table whose number needs the attribute.
    matches!(u32::from(header.table), TABLE_MAIN | 252) && !header.flags.contains(RouteFlags::Cloned)
}

/// The attributes up to the first that is torn, as (type, value).
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| {
        let length = nla.value_length();
        (nla.kind() & ATTRIBUTE_TYPE, nla.into_inner().get(4..4 + length).unwrap_or_default())
    })
}

fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
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
