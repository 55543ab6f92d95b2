//! What the file means: typed, canonical, and valid by construction.
//!
//! Canonical means that two files which say the same give equal values: defaults are filled in, prefixes are masked,
//! lists whose order has no meaning are sorted.

mod bgp;
mod capture;
mod decap;
mod egress;
mod egress_failover;
mod family;
mod health;
mod load_balancer;
mod masquerade;
mod metrics;
mod mtu;
mod network;
mod node;
mod notrack;
mod pool;
mod service;
mod wireguard;

pub use bgp::{
    Aggregate, Announced, Announcement, Bfd, Bgp, BgpPeer, BgpTls, Community, Gobgpd, Import, LargeCommunity,
    OnExit, TlsIdentity, WELL_KNOWN_COMMUNITIES,
};
pub use capture::{
    CAPTURE_FILES_DEFAULT, CAPTURE_SNAPLEN_MAX, Capture, CaptureFilter, CaptureFormat, CaptureProtocol,
    FILTER_FORM,
};
pub use decap::Decap;
pub use egress::{EGRESS_PAIRS_MAX, Egress, EgressAnnounce, EgressGateway, OnNoGateway};
pub use egress_failover::{EgressFailover, Quorum, WATCHED_MAX};
pub use family::Family;
pub use health::{HealthCheck, HealthKind, Via};
pub use load_balancer::{
    GUE_PORT_DEFAULT, HashSeed, LoadBalancer, OuterDscp, OuterEcn, TABLE_SIZES, TableSize, XdpMode,
};
pub use masquerade::{FLOWS_DEFAULT, FLOWS_MAX, FLOWS_MIN, Masquerade, PortRange};
pub use metrics::Metrics;
pub use mtu::{MTU_MAX, MTU_MIN, Mtu};
pub use network::{DevicePattern, Network, NetworkMode, Tunnel, TunnelKind, Underlay, VNI_MAX};
pub use node::Node;
pub use notrack::{Notrack, NotrackBackend};
pub use pool::{Avoid, IpPool, POOL_PRIORITY_DEFAULT, PoolChoice};
pub use service::{
    Algorithm, Backend, BackendFamily, BackendState, HashNames, Mode, NoBackend, Port, Protocol, Service,
    SourceRanges, TrafficPolicy, UnknownPort,
};
pub use wireguard::{
    NodeWireguard, PublicKey, Strict, StrictEgress, WIREGUARD_INTERFACE_DEFAULT, WIREGUARD_PORT_DEFAULT,
    Wireguard, WireguardDevice, WireguardMode,
};

/// One accepted file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Config {
    /// The file itself says that having nothing in it is meant (`allow_empty = true`).
    pub allow_empty: bool,
    /// The nodes of the network, sorted by name.
    pub nodes: Vec<Node>,
    /// Settings of the load balancer as a whole.
    pub load_balancer: LoadBalancer,
    /// The load-balanced services, sorted by name. References to backend sets are resolved.
    pub services: Vec<Service>,
    /// Where VIPs come from, sorted by name.
    pub ip_pools: Vec<IpPool>,
    /// Taking packets out of the tunnel here; `None` is off.
    pub decap: Option<Decap>,
    /// Serving numbers; `None` is off.
    pub metrics: Option<Metrics>,
    /// BGP sessions and announcements; `None` is off.
    pub bgp: Option<Bgp>,
    /// How packets travel between the nodes.
    pub network: Network,
    /// Encryption between the nodes; `None` is off.
    pub wireguard: Option<Wireguard>,
    /// Addresses of the node for packets of its pods; `None` is off.
    pub masquerade: Option<Masquerade>,
    /// Traffic that leaves through gateways, sorted by name. Groups are resolved.
    pub egress: Vec<Egress>,
    /// How nodes watch gateways; `None`: they do not.
    pub egress_failover: Option<EgressFailover>,
    /// Packets of pods that connection tracking does not see; `None` is off.
    pub notrack: Option<Notrack>,
    /// Packets that are written to files, sorted by name.
    pub captures: Vec<Capture>,
}

impl Config {
    /// The node called `name`, if the file lists it.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The node that a host is: it may be called by its full name while the file lists the first label of it.
    #[must_use]
    pub fn node_of_host(&self, host: &str) -> Option<&Node> {
        self.node(host).or_else(|| self.node(host.split_once('.')?.0))
    }

    /// What the file asks for, in one line: `2 nodes, 3 services, 12 backends`. A backend of two services is counted
    /// twice.
    #[must_use]
    pub fn summary(&self) -> String {
        let backends: usize = self.services.iter().map(|service| service.backends.len()).sum();
        let count =
            |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let (nodes, services) = (self.nodes.len(), self.services.len());
        format!("{}, {}, {}", count(nodes, "node"), count(services, "service"), count(backends, "backend"))
    }
}
