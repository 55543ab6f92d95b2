//! `[network]`.

use super::List;
use super::number::{PortNumber, Within};
use super::table::raw_table;
use super::word::{DeviceName, Refused, Word, word_schema};
use crate::diagnostic::quote;
use crate::model::{DevicePattern, Mtu, TunnelKind, Underlay, VNI_MAX};
use schemars::{Schema, json_schema};

/// A VXLAN or Geneve network identifier; 0 is what devices without one have.
pub(crate) type Vni = Within<1, { VNI_MAX }>;

raw_table! {
    /// How packets travel between the pods of different nodes. Without it, directly.
    pub(crate) struct Network {
        /// How this node sends to the pods of other nodes: `direct`, by a route via the other node's address, which
        /// must be on link; `vxlan` and `geneve`, in such a tunnel to that address; `cross-subnet`, directly to nodes
        /// that are on link, and in a tunnel to the others.
        optional mode: ModeWord = "direct", like "vxlan";
        /// The tunnel of `cross-subnet`; `vxlan` without it. In any mode its device stands ready to receive: with it in
        /// the file of every node the mode can be changed without losing a packet.
        optional tunnel: TunnelKind, like "vxlan";
        /// The UDP port of the tunnel, the same on all nodes. Without it, 8472 for `vxlan` and 6081 for `geneve`.
        optional port: PortNumber, like 4789;
        /// The virtual network identifier of the tunnel, the same on all nodes. What comes with another is dropped.
        optional vni: Vni = 1, like 100;
        /// The family of the tunnel's outer header: `ipv4`; `ipv6`; `auto`, IPv4 where both nodes have an address of
        /// it, else IPv6. The pods of both families use it.
        optional underlay: Underlay = "auto", like "ipv6";
        /// The largest packet between pods, in bytes; `auto`: what the device towards the other nodes takes, less what
        /// the tunnel adds (50 bytes over IPv4, 70 over IPv6).
        optional mtu: Mtu = "auto", like 1400;
        /// The devices of this node that lead to its pods, by name, or by the beginning of their names and `*`. On
        /// them a program sends packets for other nodes' pods on, past the network stack and its firewall. Without it,
        /// none.
        optional pod_devices: List<DevicePattern> = [""; 0], like ["lxc*"];
    }
}

/// `network.mode`: the mode, and the tunnel that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModeWord {
    Direct,
    Vxlan,
    Geneve,
    CrossSubnet,
}

impl ModeWord {
    /// The tunnel that the word names.
    pub(crate) fn tunnel(self) -> Option<TunnelKind> {
        match self {
            Self::Direct | Self::CrossSubnet => None,
            Self::Vxlan => Some(TunnelKind::Vxlan),
            Self::Geneve => Some(TunnelKind::Geneve),
        }
    }
}

word_schema!(DevicePattern);

impl Word for DevicePattern {
    const WHAT: &'static str = "the name of devices";

    fn parse(text: &str) -> Result<Self, Refused> {
        let (start, open) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        if open && start.is_empty() {
            return Err(Refused::because("stands for every device, also those towards other nodes"));
        }
        if start.contains('*') {
            let start = start.split('*').next().unwrap_or_default();
            let help = (!start.is_empty()).then(|| format!("write {}", quote(&format!("{start}*"))));
            return Err(Refused { why: "`*` may stand at the end only".to_owned(), help });
        }
        let DeviceName(start) = DeviceName::parse(start)?;
        Ok(Self { start, open })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": "the name of a device, or its beginning and *",
            "pattern": "^[^\\s/:*]{1,15}\\*?$",
        })
    }
}
