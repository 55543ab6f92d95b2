//! Load-balanced services.

use super::{Family, HealthCheck, HealthKind, PoolChoice, TableSize};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::time::Duration;

/// One `[[services]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique, at most 63 characters of `a-z`, `0-9`, `-`, `.`, `_`.
    pub name: String,
    /// The addresses that clients use, sorted. With a pool, those that the file asks for: the rest is allocated.
    pub vips: Vec<IpAddr>,
    /// Where further VIPs come from; `None` is nowhere, and `vips` is not empty then.
    pub pool: Option<PoolChoice>,
    /// The families of which it is to have a VIP, sorted; `None` is those that its pools have. Only with a pool.
    pub families: Option<Vec<Family>>,
    /// Services with the same word may have one VIP, where their ports do not collide. Only with a pool.
    pub share: Option<String>,
    /// The ports of every VIP, sorted by protocol and port.
    pub ports: Vec<Port>,
    /// Where the traffic goes, sorted by address and port.
    pub backends: Vec<Backend>,
    /// How a backend is chosen for a new flow.
    pub algorithm: Algorithm,
    /// For so long after its last packet a client's address keeps its backend; `None` is off, else 1 s to 24 h.
    pub affinity: Option<Duration>,
    /// For so long after its last packet a UDP flow keeps its backend through changes of others; 0 s to 6 h.
    pub udp_idle: Duration,
    /// Which clients are let in.
    pub source_ranges: SourceRanges,
    /// The slots of this service's Maglev table; `None` is as `[load_balancer]` says.
    pub table_size: Option<TableSize>,
    /// Which names of the backends the Maglev table is computed from.
    pub hash_names: HashNames,
    /// What is done with packets while no backend is to be given traffic.
    pub no_backend: NoBackend,
    /// Whether the VIPs answer echo requests.
    pub ping: bool,
    /// What is done with packets to a VIP that are not for one of its ports.
    pub unknown_port: UnknownPort,
    /// The family of the backends of each VIP.
    pub backend_family: BackendFamily,
    /// How packets reach the backend.
    pub mode: Mode,
    /// How the health of the backends is found out; `None` is not at all.
    pub health_check: Option<HealthCheck>,
    /// From which nodes the VIPs are announced.
    pub traffic_policy: TrafficPolicy,
}

/// As long as Cilium remembers a flow of UDP, and longer than most idle time-outs of QUIC.
const UDP_IDLE: Duration = Duration::from_secs(60);

impl Default for Service {
    /// A service without name, VIPs, ports and backends, in which everything else is as if the file did not say.
    fn default() -> Self {
        Self {
            name: String::new(),
            vips: Vec::new(),
            pool: None,
            families: None,
            share: None,
            ports: Vec::new(),
            backends: Vec::new(),
            algorithm: Algorithm::default(),
            affinity: None,
            udp_idle: UDP_IDLE,
            source_ranges: SourceRanges::default(),
            table_size: None,
            hash_names: HashNames::default(),
            no_backend: NoBackend::default(),
            ping: true,
            unknown_port: UnknownPort::default(),
            backend_family: BackendFamily::default(),
            mode: Mode::default(),
            health_check: None,
            traffic_policy: TrafficPolicy::default(),
        }
    }
}

impl Service {
    /// The backends that can serve `vip`, by [`Service::backend_family`], in the order of [`Service::backends`].
    pub fn backends_of(&self, vip: IpAddr) -> impl Iterator<Item = &Backend> {
        let v4 = self.backend_family.is_ipv4_for(vip);
        self.backends.iter().filter(move |backend| backend.address.is_ipv4() == v4)
    }

    /// The port at which a health check asks `backend`: the check's own, else the backend's port for the first of the
    /// service's ports of the check's protocol, else for its first port. `None` without a check, and for an echo request.
    #[must_use]
    pub fn checked_port(&self, backend: &Backend) -> Option<u16> {
        let check = self.health_check.as_ref()?;
        let protocol = match check.kind {
            HealthKind::Tcp | HealthKind::Http | HealthKind::Https => Protocol::Tcp,
            HealthKind::Udp => Protocol::Udp,
            HealthKind::Icmp => return None,
        };
        let first = self.ports.iter().find(|port| port.protocol == protocol).or(self.ports.first());
        check.port.or_else(|| first.map(|port| backend.port_for(port)))
    }
}

/// From which nodes the VIPs of a service are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// From every node, as long as any backend can be used.
    #[default]
    Cluster,
    /// From nodes that have such a backend themselves.
    Local,
}

impl TrafficPolicy {
    /// As it is written in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Local => "local",
        }
    }
}

/// How a backend is chosen for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// By a consistent hash over the flow: every balancer of a tier chooses the same.
    #[default]
    Maglev,
    /// By chance, in proportion to the weights.
    Random,
}

/// Which clients a service lets in: the longest prefix that contains the client's address decides. With any `allow`,
/// an address in none of the prefixes is denied.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SourceRanges {
    /// Sorted.
    pub allow: Vec<IpNetwork>,
    /// Sorted; no prefix is in both.
    pub deny: Vec<IpNetwork>,
}

/// What a backend is called where the Maglev table is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HashNames {
    /// `[10.1.0.2:80/TCP,State:active]`.
    #[default]
    Cilium,
    /// `10.1.0.2:80`, as Cilium 1.10 did.
    Cilium110,
}

/// What is done with packets for a service that has no backend to give them to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NoBackend {
    /// Answered with an ICMP error.
    #[default]
    Reject,
    /// Nothing is said.
    Drop,
}

/// What is done with packets that no service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnknownPort {
    /// Nothing is said.
    #[default]
    Drop,
    /// Answered with an ICMP error.
    Reject,
    /// Left to the network stack of the node.
    Pass,
}

impl UnknownPort {
    /// As it is written in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Pass => "pass",
        }
    }
}

/// The family of the backends that a VIP uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BackendFamily {
    /// That of the VIP.
    #[default]
    Same,
    /// IPv4, for all VIPs.
    Ipv4,
    /// IPv6, for all VIPs.
    Ipv6,
}

impl BackendFamily {
    /// Whether the backends of `vip` are those with IPv4 addresses.
    #[must_use]
    pub fn is_ipv4_for(self, vip: IpAddr) -> bool {
        match self {
            Self::Same => vip.is_ipv4(),
            Self::Ipv4 => true,
            Self::Ipv6 => false,
        }
    }
}

/// How packets reach the backend, which in any case answers the client directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Inside an IP header: IPIP, IP6IP6, and 4in6 or 6in4 where the families differ.
    #[default]
    DsrIpip,
    /// Inside UDP: GUE variant 1, in which the inner IP header follows the UDP header.
    DsrGue,
}

/// One port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The transport protocol; TCP and UDP on the same port number are two ports.
    pub protocol: Protocol,
    /// What clients connect to.
    pub port: u16,
    /// What the packet's destination port becomes; `None` leaves it as it is.
    pub backend_port: Option<u16>,
}

/// A transport protocol that can be load balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// The number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// `tcp` or `udp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The address that the outer header of the tunnel carries.
    pub address: IpAddr,
    /// Overrides the port's `backend_port` for this backend.
    pub port: Option<u16>,
    /// Its share relative to the other backends: 0 to 65535, 0 takes it out.
    pub weight: u16,
    /// Whether it is given traffic.
    pub state: BackendState,
}

impl Backend {
    /// What the destination port of a packet to `port` becomes for this backend: its own, else that of the port, else
    /// what the client wrote.
    #[must_use]
    pub fn port_for(&self, port: &Port) -> u16 {
        self.port.or(port.backend_port).unwrap_or(port.port)
    }
}

/// Whether a backend is given traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum BackendState {
    /// New and established flows.
    #[default]
    Active,
    /// Established flows only, until they end.
    Terminating,
    /// None: something found it unhealthy; it may come back.
    Quarantined,
    /// None: taken out by hand.
    Maintenance,
}
