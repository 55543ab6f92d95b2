//! What becomes of a packet that a policy has, on this node.

use crate::reach::{Leg, Reach};
use ipnetwork::IpNetwork;
use netd_schema::{Egress, Family, Node, OnNoGateway, PortRange};
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Rule {
    /// It leaves here, with this address and one of these ports.
    Translate {
        /// The egress address.
        address: IpAddr,
        /// The first port.
        first_port: u16,
        /// The last port.
        last_port: u16,
    },
    /// It goes to the gateway in the tunnel.
    Tunnel {
        /// The gateway's end.
        remote: IpAddr,
        /// The virtual network.
        vni: u32,
        /// The tunnel's device, by its interface index.
        ifindex: u32,
    },
    /// It goes to the gateway, which is on link.
    NextHop {
        /// The gateway's address.
        address: IpAddr,
        /// The device, by its interface index.
        ifindex: u32,
    },
    /// It is dropped.
    Drop,
    /// It leaves as if there were no policy.
    Pass,
}

impl Rule {
    fn translate(address: IpAddr, ports: PortRange) -> Self {
        Self::Translate { address, first_port: ports.first, last_port: ports.last }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Translate { address, first_port, last_port } => {
                write!(f, "leaves here as {address}, ports {first_port}-{last_port}")
            }
            Self::Tunnel { remote, vni, ifindex } => {
                write!(f, "in tunnel {vni} to the gateway {remote} by interface {ifindex}")
            }
            Self::NextHop { address, ifindex } => {
                write!(f, "to the gateway {address} by interface {ifindex}")
            }
            Self::Drop => f.write_str("dropped"),
            Self::Pass => f.write_str("as it is"),
        }
    }
}

/// Why a node can do no better with packets than to go without a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The reason.
    pub why: String,
    /// Whether it may be over by itself within moments.
    pub passes: bool,
}

impl Trouble {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), passes: false }
    }
}

/// What this node does with the packets of a policy of one family, and why it can do no better.
pub(super) fn of(
    policy: &Egress,
    gateway: Option<&Node>,
    family: Family,
    reach: &Reach<'_>,
) -> (Rule, Option<Trouble>) {
    let without = match policy.on_no_gateway {
        OnNoGateway::Drop => Rule::Drop,
        OnNoGateway::Pass => Rule::Pass,
    };
    let Some(address) = policy.ip(family) else {
        // Its sources or destinations are of the other family only.
        let is_waited_for = policy.takes(family) && policy.pool.is_some();
        let why = || Trouble::new(format!("its pool has no {} address for it", family.word()));
        return if is_waited_for { (without, Some(why())) } else { (Rule::Pass, None) };
    };
    let Some(gateway) = gateway else {
        let why = if policy.gateways.is_empty() { "it has no gateway" } else { "none of its gateways lives" };
        return (without, Some(Trouble::new(why)));
    };
    if reach.is_me(gateway) {
        return (Rule::translate(address, policy.ports), None);
    }
    match reach.leg(gateway, IpNetwork::from(address)) {
        // A packet that waits for the gateway's Ethernet address would go where the node's routes lead when that is known.
        Ok(Leg::Direct { via, link }) if !reach.is_resolved(link, via) => {
            let why = format!("the Ethernet address of node {} ({via}) is not known yet", gateway.name);
            (without, Some(Trouble { why, passes: true }))
        }
        Ok(Leg::Direct { via, link }) => (Rule::NextHop { address: via, ifindex: link.index }, None),
        Ok(Leg::Tunnel { ends, link }) => match u32::try_from(ends.id) {
            Ok(vni) => (Rule::Tunnel { remote: ends.remote, vni, ifindex: link.index }, None),
            Err(_) => (without, Some(Trouble::new(format!("the tunnel's number {} is none", ends.id)))),
        },
        Err(why) => (without, Some(Trouble::new(why))),
    }
}
