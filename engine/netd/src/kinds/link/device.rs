//! Devices as netlink messages: what is asked of the kernel, and what it says of its devices.

use super::{LinkSpec, tunnel_kind};
use crate::netlink::{Channel, Request, attributes};
use netd_schema::TunnelKind;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoGeneve, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use std::io;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_GENEVE_PORT: u16 = 5;
const IFLA_GENEVE_COLLECT_METADATA: u16 = 6;

/// Bytes of `struct ifinfomsg`.
const HEADER_LEN: usize = 16;

/// A device, as far as it matters who it belongs to and whether it is a tunnel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) alias: String,
    pub(super) is_up: bool,
    /// Its state is that of no owner in particular: `is_ready` says nothing.
    pub(super) spec: LinkSpec,
}

/// The devices with a name.
pub(super) fn devices(channel: &mut Channel) -> io::Result<Vec<Device>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    channel.dump(&request, |_, payload| device(payload))
}

fn device(payload: &[u8]) -> Option<Device> {
    let header = payload.first_chunk::<HEADER_LEN>()?;
    let word = |at: usize| Some(u32::from_ne_bytes(*header.get(at..)?.first_chunk::<4>()?));
    let (index, flags) = (word(4)?, LinkFlags::from_bits_retain(word(8)?));
    let (mut name, mut alias, mut mtu, mut info) = (String::new(), String::new(), 0, Info::default());
    for (kind, value) in attributes(payload.get(HEADER_LEN..)?) {
        match kind {
            IFLA_IFNAME => name = text(value),
            IFLA_IFALIAS => alias = text(value),
            IFLA_MTU => mtu = u32::from_ne_bytes(*value.first_chunk::<4>()?),
            IFLA_LINKINFO => info = Info::read(value),
            _ => {}
        }
    }
    let is_external = info.is_external && flags.contains(LinkFlags::Noarp);
    let spec = LinkSpec { device: name, kind: info.kind, port: info.port, is_external, mtu, is_ready: false };
    let is_up = flags.contains(LinkFlags::Up);
    (!spec.device.is_empty()).then_some(Device { index, alias, is_up, spec })
}

/// `IFLA_LINKINFO`.
#[derive(Default)]
struct Info {
    kind: String,
    port: u16,
    is_external: bool,
}

impl Info {
    fn read(within: &[u8]) -> Self {
        let find = |wanted: u16| attributes(within).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let kind = find(IFLA_INFO_KIND).map(text).unwrap_or_default();
        let (port_key, external_key) = match tunnel_kind(&kind) {
            Some(TunnelKind::Vxlan) => (IFLA_VXLAN_PORT, IFLA_VXLAN_COLLECT_METADATA),
            Some(TunnelKind::Geneve) => (IFLA_GENEVE_PORT, IFLA_GENEVE_COLLECT_METADATA),
            None => return Self { kind, ..Self::default() },
        };
        let (mut port, mut is_external) = (0, false);
        for (key, value) in attributes(find(IFLA_INFO_DATA).unwrap_or_default()) {
            if key == port_key {
                port = value.first_chunk::<2>().map_or(0, |bytes| u16::from_be_bytes(*bytes));
            }
            // Of VXLAN a byte, of Geneve there or not.
            if key == external_key {
                is_external = value.first().is_none_or(|set| *set != 0);
            }
        }
        Self { kind, port, is_external }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// Makes the device, down and without its alias: the kernel takes that with a second message only.
pub(super) fn making(spec: &LinkSpec) -> Option<Request> {
    let (kind, data) = match tunnel_kind(&spec.kind)? {
        TunnelKind::Vxlan => (
            InfoKind::Vxlan,
            InfoData::Vxlan(vec![
                InfoVxlan::CollectMetadata(true),
                InfoVxlan::Learning(false),
                InfoVxlan::Port(spec.port),
            ]),
        ),
        TunnelKind::Geneve => (
            InfoKind::Geneve,
            InfoData::Geneve(vec![InfoGeneve::CollectMetadata, InfoGeneve::Port(spec.port)]),
        ),
    };
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Noarp;
    message.header.change_mask = LinkFlags::Noarp;
    message.attributes = vec![
        LinkAttribute::IfName(spec.device.clone()),
        LinkAttribute::Mtu(spec.mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
    ];
    Some(Request { message: RouteNetlinkMessage::NewLink(message), flags: NLM_F_CREATE | NLM_F_EXCL })
}

/// Gives a device its alias and its MTU, and takes it up.
pub(super) fn readying(index: u32, alias: &str, mtu: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up | LinkFlags::Noarp;
    message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    message.attributes = vec![LinkAttribute::IfAlias(alias.to_owned()), LinkAttribute::Mtu(mtu)];
    Request { message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// Removes a device.
pub(super) fn removing(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Request { message: RouteNetlinkMessage::DelLink(message), flags: 0 }
}
