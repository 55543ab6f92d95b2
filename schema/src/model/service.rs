//! Load-balanced services.

use std::net::IpAddr;

/// One `[[services]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique, at most 63 characters of `a-z`, `0-9`, `-`, `.`, `_`.
    pub name: String,
    /// The addresses that clients use, sorted.
    pub vips: Vec<IpAddr>,
    /// The ports of every VIP, sorted by protocol and port.
    pub ports: Vec<Port>,
    /// Where the traffic goes, sorted by address and port.
    pub backends: Vec<Backend>,
}

impl Service {
    /// The backends that can serve `vip`: those of its family, in the order of [`Service::backends`].
    pub fn backends_of(&self, vip: IpAddr) -> impl Iterator<Item = &Backend> {
        self.backends.iter().filter(move |backend| backend.address.is_ipv4() == vip.is_ipv4())
    }
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
