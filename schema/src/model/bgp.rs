//! BGP sessions, and what is announced on them.

use super::Family;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The `[bgp]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// The own autonomous system; not 0.
    pub asn: u32,
    /// The router identifier; `None` is derived from the node.
    pub router_id: Option<Ipv4Addr>,
    /// Where peers may open sessions; `None`: sessions are only opened from here.
    pub listen_port: Option<u16>,
    /// Which gobgpd speaks BGP.
    pub gobgpd: Gobgpd,
    /// What becomes of the announcements when netd stops.
    pub on_exit: OnExit,
    /// For so long a VIP that lost its last healthy backend is still announced; at most an hour.
    pub hold_down: Duration,
    /// In percent: if verdicts would leave fewer of the VIPs announced, none of them counts; 0 to 100, 0 is off.
    pub floor: u8,
    /// What every peer gets, sorted.
    pub announce: Vec<Announced>,
    /// The peers, sorted by address, port and name.
    pub peers: Vec<BgpPeer>,
    /// Finer rules, in the order of the file.
    pub announcements: Vec<Announcement>,
}

impl Default for Bgp {
    /// Without peers, and with an autonomous system that is no network's (RFC 5398).
    fn default() -> Self {
        Self {
            asn: 64_496,
            router_id: None,
            listen_port: None,
            gobgpd: Gobgpd::Managed,
            on_exit: OnExit::Keep,
            hold_down: Duration::from_secs(5),
            floor: 50,
            announce: vec![Announced::Vips],
            peers: Vec::new(),
            announcements: Vec::new(),
        }
    }
}

/// Which gobgpd speaks BGP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gobgpd {
    /// One that netd starts and watches.
    Managed,
    /// One that listens on this unix socket.
    Unix(PathBuf),
    /// One on this machine, without encryption; a loopback address.
    Http(SocketAddr),
    /// One behind TLS.
    Https {
        /// Host and port: `bgp.example.com:50051`.
        authority: String,
        /// What it and netd prove themselves by.
        tls: BgpTls,
    },
}

/// The files by which a gobgpd behind TLS and netd know each other; PEM, absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpTls {
    /// The certificates of the authorities that may vouch for gobgpd.
    pub ca: PathBuf,
    /// netd's own certificate and key, if gobgpd asks for them.
    pub identity: Option<TlsIdentity>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, with those between it and the authority's.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What becomes of the announcements when netd stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnExit {
    /// They stay.
    #[default]
    Keep,
    /// They are withdrawn.
    Withdraw,
}

/// A class of prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Announced {
    /// The addresses of services.
    Vips,
    /// The pod prefixes of this node.
    PodCidrs,
    /// The addresses of the egress policies whose gateway in force this node is.
    EgressIps,
}

/// One `[[bgp.peers]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpPeer {
    /// What it is called; without a name of its own, its address.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// Its autonomous system; not 0.
    pub asn: u32,
    /// Its TCP port.
    pub port: u16,
    /// The file with the password of the session (TCP MD5, RFC 2385); absolute.
    pub password_file: Option<PathBuf>,
    /// After so long without a message the session is over; whole seconds, 0 (never) or 3 to 65535.
    pub hold: Duration,
    /// From one message to the next; whole seconds, less than `hold`; 0 exactly if `hold` is.
    pub keepalive: Duration,
    /// Between two tries to connect; whole seconds, at least 1.
    pub connect_retry: Duration,
    /// Packets of an eBGP session live for so many hops; `None`: the peer is on a link of the node.
    pub multihop_ttl: Option<u8>,
    /// Packets from further than one hop are dropped (RFC 5082).
    pub ttl_security: bool,
    /// The own address of the session; of the family of `address`.
    pub source: Option<IpAddr>,
    /// The families that are exchanged, sorted; at least one.
    pub families: Vec<Family>,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// For so long the peer keeps the routes of a session that broke (RFC 4724); `None` is off; whole seconds, 1 to 4095.
    pub graceful_restart: Option<Duration>,
    /// Finding a dead peer within milliseconds (RFC 5880); `None` is off.
    pub bfd: Option<Bfd>,
    /// The peer opens the session.
    pub passive: bool,
    /// The nodes that have this peer, sorted; empty: all.
    pub nodes: Vec<String>,
    /// What becomes of received routes; `None`: they are only counted.
    pub import: Option<Import>,
}

impl BgpPeer {
    /// Whether the node called `node` has this peer.
    #[must_use]
    pub fn is_of(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|name| name == node)
    }
}

impl Default for BgpPeer {
    /// A peer without a name and an address, in which everything else is as if the file did not say.
    fn default() -> Self {
        Self {
            name: String::new(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            asn: Bgp::default().asn,
            port: 179,
            password_file: None,
            hold: Duration::from_secs(90),
            keepalive: Duration::from_secs(30),
            connect_retry: Duration::from_secs(10),
            multihop_ttl: None,
            ttl_security: false,
            source: None,
            families: vec![Family::Ipv4],
            extended_next_hop: false,
            graceful_restart: None,
            bfd: None,
            passive: false,
            nodes: Vec::new(),
            import: None,
        }
    }
}

/// Which received routes go where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// The routing table; none of the kernel's own, except main.
    pub table: u32,
    /// Also one to everywhere.
    pub default_route: bool,
    /// No more than so many of the peer; 1 to 100000.
    pub max: u32,
}

impl Default for Import {
    /// Into the main table, and everything else as if the file did not say.
    fn default() -> Self {
        Self { table: 254, default_route: false, max: 100_000 }
    }
}

/// How a dead peer is found by BFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Between two packets that are sent; at least 10 ms.
    pub transmit: Duration,
    /// Between two packets that can be taken; at least 10 ms.
    pub receive: Duration,
    /// After so many missing packets the peer is dead; 1 to 50.
    pub multiplier: u8,
}

impl Default for Bfd {
    fn default() -> Self {
        Self { transmit: Duration::from_secs(1), receive: Duration::from_secs(1), multiplier: 3 }
    }
}

/// One `[[bgp.announcements]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Announcement {
    /// The classes it speaks of, sorted; at least one.
    pub what: Vec<Announced>,
    /// Of the VIPs, only those of these services, sorted; empty: all.
    pub services: Vec<String>,
    /// Of the VIPs and egress addresses, only those in these pools, sorted; empty: all.
    pub pools: Vec<String>,
    /// The names of the peers that get it, sorted; empty: all.
    pub peers: Vec<String>,
    /// Added to what other rules add; sorted.
    pub communities: Vec<Community>,
    /// Added to what other rules add; sorted.
    pub large_communities: Vec<LargeCommunity>,
    /// For iBGP peers.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// So many times the own ASN is in the path besides; for eBGP peers. 1 to 10.
    pub prepend: Option<u8>,
    /// The VIPs are announced as prefixes of these lengths.
    pub aggregate: Aggregate,
}

/// The lengths of aggregates; `None`: each VIP is announced by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Aggregate {
    /// For IPv4; 8 to 31.
    pub ipv4: Option<u8>,
    /// For IPv6; 16 to 127.
    pub ipv6: Option<u8>,
}

/// A community (RFC 1997): shown by the name that RFC 1997 and others gave it, else as two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// The well-known communities by their names.
pub const WELL_KNOWN_COMMUNITIES: [(&str, Community); 10] = [
    ("graceful-shutdown", Community(0xffff_0000)),
    ("accept-own", Community(0xffff_0001)),
    ("llgr-stale", Community(0xffff_0006)),
    ("no-llgr", Community(0xffff_0007)),
    ("blackhole", Community(0xffff_029a)),
    ("no-export", Community(0xffff_ff01)),
    ("no-advertise", Community(0xffff_ff02)),
    ("no-export-subconfed", Community(0xffff_ff03)),
    ("local-as", Community(0xffff_ff03)),
    ("no-peer", Community(0xffff_ff04)),
];

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN_COMMUNITIES.iter().find(|(_, community)| community == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

/// A large community (RFC 8092), shown as three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Whose it is: an ASN.
    pub administrator: u32,
    /// What it says.
    pub data: [u32; 2],
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.data;
        write!(f, "{}:{first}:{second}", self.administrator)
    }
}
