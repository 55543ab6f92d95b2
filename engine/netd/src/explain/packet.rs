//! The packet that a person asks about: `tcp 198.51.100.7:4242 > 192.0.2.10:80`.

use netd_schema::Protocol;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A packet of a client, or an ICMP error about one of its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The transport protocol of the flow; a ping has none, and nobody looks at it.
    pub protocol: Protocol,
    /// The client, also where a router tells of its flow. Of a ping the port is zero.
    pub source: SocketAddr,
    /// The VIP and port that it wants. Of a ping the port is zero.
    pub destination: SocketAddr,
    /// The TCP flags; ignored for UDP.
    pub flags: TcpFlags,
    /// What it is of the flow.
    pub kind: Kind,
    /// Bytes of the IP packet, at least its headers; `None`: just those.
    pub length: Option<u16>,
    /// Whether IPv4 leaves DF out. Fragments have none.
    pub lacks_df: bool,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packet of TCP or UDP in one piece.
    Whole,
    /// The first fragment of one, with this identification.
    FirstFragment(u32),
    /// A later fragment; the ports are not in it.
    LaterFragment(u32),
    /// An ICMP echo request.
    Ping,
    /// An ICMP error about a packet that went to the client.
    Error {
        /// The router that sends it.
        from: IpAddr,
        /// What it says.
        complaint: Complaint,
    },
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The packet was too big.
    TooBig,
    /// It cannot be delivered.
    Unreachable,
    /// It went over too many routers.
    Expired,
}

impl Complaint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TooBig, Self::Unreachable, Self::Expired];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::TooBig => "too-big",
            Self::Unreachable => "unreachable",
            Self::Expired => "expired",
        }
    }
}

/// Which segment of a TCP connection it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpFlags {
    /// The first of a connection.
    #[default]
    Syn,
    /// One of an established connection.
    Ack,
    /// The end of one.
    Fin,
    /// The abort of one.
    Rst,
}

impl TcpFlags {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Syn, Self::Ack, Self::Fin, Self::Rst];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::Ack => "ack",
            Self::Fin => "fin",
            Self::Rst => "rst",
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, vip) = (self.protocol.name(), self.destination.ip());
        match self.kind {
            Kind::Ping => write!(f, "icmp {} > {vip}", self.source.ip())?,
            Kind::Error { from, complaint } => {
                let complaint = complaint.word();
                return write!(
                    f,
                    "icmp {from} > {vip} {complaint} {protocol} {} > {}",
                    self.destination, self.source
                );
            }
            Kind::Whole | Kind::FirstFragment(_) | Kind::LaterFragment(_) => {
                write!(f, "{protocol} {} > {}", self.source, self.destination)?;
            }
        }
        match self.kind {
            Kind::Whole | Kind::FirstFragment(_) if self.protocol == Protocol::Tcp => {
                write!(f, " {}", self.flags.word())?;
            }
            _ => {}
        }
        match self.kind {
            Kind::FirstFragment(id) => write!(f, " first-fragment id {id}")?,
            Kind::LaterFragment(id) => write!(f, " later-fragment id {id}")?,
            Kind::Whole | Kind::Ping | Kind::Error { .. } => {}
        }
        if let Some(length) = self.length {
            write!(f, " length {length}")?;
        }
        if self.lacks_df { f.write_str(" no-df") } else { Ok(()) }
    }
}

impl Packet {
    /// Whether it is the first segment of a connection.
    #[must_use]
    pub fn is_syn(&self) -> bool {
        let has_flags = matches!(self.kind, Kind::Whole | Kind::FirstFragment(_));
        has_flags && self.protocol == Protocol::Tcp && self.flags == TcpFlags::Syn
    }

    /// Who sends it: the client, or a router.
    #[must_use]
    pub fn sender(&self) -> IpAddr {
        match self.kind {
            Kind::Error { from, .. } => from,
            Kind::Whole | Kind::FirstFragment(_) | Kind::LaterFragment(_) | Kind::Ping => self.source.ip(),
        }
    }

    /// Whether the service's source ranges are looked at: not for what is about a client, and for fragments once.
    #[must_use]
    pub fn shows_its_client(&self) -> bool {
        matches!(self.kind, Kind::Whole | Kind::FirstFragment(_))
    }

    /// Whether somebody who does not want it says so: ICMP and fragments are only dropped, and resets are.
    #[must_use]
    pub fn is_refused_aloud(&self) -> bool {
        self.kind == Kind::Whole && !(self.protocol == Protocol::Tcp && self.flags == TcpFlags::Rst)
    }

    /// The bytes that it has at least: its headers.
    #[must_use]
    pub fn least_length(&self) -> u16 {
        let is_fragment = matches!(self.kind, Kind::FirstFragment(_) | Kind::LaterFragment(_));
        let ip = match (self.destination.is_ipv4(), is_fragment) {
            (true, _) => 20,
            (false, false) => 40,
            (false, true) => 48,
        };
        let has_tcp = self.protocol == Protocol::Tcp && self.kind != Kind::Ping;
        ip + if has_tcp { 20 } else { 8 }
    }
}
