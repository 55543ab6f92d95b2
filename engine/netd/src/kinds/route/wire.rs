//! Routes as netlink messages. Every message names everything, so that it can only ever meet a route of ours.

use super::{RouteSpec, Way};
use crate::facts::Tunnel;
use crate::netlink::Request;
use ipnetwork::IpNetwork;
use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteLwEnCapType, RouteLwTunnelEncap, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// `RT_TABLE_COMPAT`: the table's number does not fit, see the attribute.
const TABLE_COMPAT: u8 = 252;

/// `LWTUNNEL_IP_ID`, `LWTUNNEL_IP_DST`, `LWTUNNEL_IP_SRC` and `LWTUNNEL_IP_FLAGS`, for IPv6 the same.
const TUNNEL_ID: u16 = 1;
const TUNNEL_DST: u16 = 2;
const TUNNEL_SRC: u16 = 3;
const TUNNEL_FLAGS: u16 = 6;

/// `TUNNEL_CSUM`: the outer UDP header has a checksum. Over IPv6 one without is not taken (RFC 8200, section 8.1).
const TUNNEL_CHECKSUM: u16 = 1;

/// How a route is added where others may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Only if nothing has its prefix, metric and traffic class.
    Nothing,
    /// Behind what has them. For IPv6 the kernel shares traffic between the two until one goes.
    Ours,
}

/// The message that adds `spec`'s own way.
#[must_use]
pub fn adding(spec: &RouteSpec, beside: Beside) -> Request {
    let flags = match beside {
        Beside::Nothing => NLM_F_CREATE | NLM_F_EXCL,
        Beside::Ours => NLM_F_CREATE | NLM_F_APPEND,
    };
    Request { message: RouteNetlinkMessage::NewRoute(message(spec, &spec.way)), flags }
}

/// The message that deletes one way to `spec`'s prefix.
#[must_use]
pub fn deleting(spec: &RouteSpec, way: &Way) -> Request {
    Request { message: RouteNetlinkMessage::DelRoute(message(spec, way)), flags: 0 }
}

fn message(spec: &RouteSpec, way: &Way) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: match spec.prefix {
            IpNetwork::V4(_) => AddressFamily::Inet,
            IpNetwork::V6(_) => AddressFamily::Inet6,
        },
        destination_prefix_length: spec.prefix.prefix(),
        // The field has eight bits; the attribute below has the whole number.
        table: u8::try_from(spec.table).unwrap_or(TABLE_COMPAT),
        protocol: RouteProtocol::from(spec.protocol),
        scope: match (way.via, spec.prefix) {
            (None, IpNetwork::V4(_)) if !way.is_refusal() => RouteScope::Link,
            (Some(_), _) | (None, IpNetwork::V4(_) | IpNetwork::V6(_)) => RouteScope::Universe,
        },
        kind: if way.is_refusal() { RouteType::Unreachable } else { RouteType::Unicast },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(spec.prefix.network().into()));
    attributes.push(RouteAttribute::Table(spec.table));
    if !way.is_refusal() {
        attributes.push(RouteAttribute::Oif(way.ifindex));
    }
    attributes.push(RouteAttribute::Priority(way.metric));
    attributes.extend(way.source.map(|source| RouteAttribute::PrefSource(source.into())));
    match way.via {
        Some(via) if via.is_ipv4() == spec.prefix.is_ipv4() => {
            attributes.push(RouteAttribute::Gateway(via.into()));
        }
        Some(via) => attributes.push(RouteAttribute::Via(via.into())),
        None => {}
    }
    if let Some(mtu) = way.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    if let Some(tunnel) = way.tunnel {
        attributes.extend(encapsulation(tunnel));
    }
    message
}

fn encapsulation(tunnel: Tunnel) -> [RouteAttribute; 2] {
    let part = |kind, value| RouteLwTunnelEncap::Other(DefaultNla::new(kind, value));
    let mut parts = vec![part(TUNNEL_ID, tunnel.id.to_be_bytes().to_vec())];
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    parts.push(part(TUNNEL_DST, bytes(tunnel.remote)));
    parts.extend(tunnel.local.map(|local| part(TUNNEL_SRC, bytes(local))));
    let kind = match tunnel.remote {
        IpAddr::V4(_) => RouteLwEnCapType::Ip,
        IpAddr::V6(_) => {
            parts.push(part(TUNNEL_FLAGS, TUNNEL_CHECKSUM.to_be_bytes().to_vec()));
            RouteLwEnCapType::Ip6
        }
    };
    [RouteAttribute::EncapType(kind), RouteAttribute::Encap(parts)]
}
