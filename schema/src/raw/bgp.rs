//! `[bgp]`.

use super::List;
use super::bgp_choice::{GracefulRestart, Import, RouteTable};
use super::bgp_word::{
    AbsolutePath, Asn, BfdTime, CommunityWord, ConnectRetry, GobgpdWord, HoldDown, HoldTime, Keepalive,
    LargeCommunityWord, PeerWord, RouterId,
};
use super::number::{HopLimit, Percent, PortNumber, Within};
use super::table::raw_table;
use super::word::{Address, Name, NodeName};
use crate::model::{Announced, Family, OnExit};
use serde_json::json;

/// What the daemon counts lost packets by.
pub(crate) type BfdMultiplier = Within<1, 50>;

/// More would make the path longer than the Internet is wide.
pub(crate) type Prepend = Within<1, 10>;

/// A node that takes more is a router and no load balancer.
pub(crate) type ImportMax = Within<1, 100_000>;

/// Any number of 32 bits.
pub(crate) type Metric = Within<0, { u32::MAX }>;

/// The length of an aggregate: longer is a single address, shorter than anybody's network.
pub(crate) type AggregateV4 = Within<8, 31>;

/// As [`AggregateV4`].
pub(crate) type AggregateV6 = Within<16, 127>;

/// So many communities of a kind fit an UPDATE beside everything else.
const COMMUNITIES_MAX: usize = 63;

raw_table! {
    /// BGP sessions, by gobgpd, and what is announced on them. What is announced is withdrawn before the datapath
    /// stops taking its packets, and not announced before it takes them.
    pub(crate) struct Bgp {
        /// The autonomous system of the nodes.
        required asn: Asn, like 64_512;
        /// The router identifier, unlike that of every other router. Without it, the node's first IPv4 address of
        /// `nodes.addresses` or of its own, else a number made from its name.
        optional router_id: RouterId, like "10.0.0.11";
        /// The TCP port at which peers may open sessions. Without it, sessions are only opened from here.
        optional listen_port: PortNumber, like 179;
        /// Which gobgpd speaks BGP: `managed`, one that netd starts and watches, and that goes on while netd is
        /// stopped; or the address of one that runs already: `unix:///run/gobgpd.sock`, `http://127.0.0.1:50051` on
        /// the same machine, `https://bgp.example.com:50051`. What netd has not made there stays.
        optional gobgpd: GobgpdWord = "managed", like "unix:///run/gobgpd.sock";
        /// The files for a gobgpd behind `https`.
        optional tls: BgpTls, like json!({ "ca": "/etc/netd/ca.pem" });
        /// What becomes of the announcements when netd stops: `keep`, they stay, as the datapath does; `withdraw`,
        /// traffic goes elsewhere.
        optional on_exit: OnExit = "keep", like "withdraw";
        /// For so long a VIP is still announced after its last backend was found unhealthy. One whose last backend
        /// is taken out of the file, or out of reach, is withdrawn at once.
        optional hold_down: HoldDown = "5s", like "30s";
        /// In percent. If the health checks would leave fewer of the VIPs announced than this share, they are not
        /// believed, and all stay announced: more likely the checks are wrong than nearly everything is broken. 0
        /// turns this off.
        optional floor: Percent = 50, like 20;
        /// What every peer gets: `vips`, the addresses of services (see `services.traffic_policy`); `pod-cidrs`, the
        /// pod prefixes of this node; `egress-ips`, the addresses of the egress policies whose gateway in force this node
        /// is, also of those that do not have `bgp` in `egress.announce`.
        optional announce: List<Announced> = ["vips"], like ["vips", "pod-cidrs"];
        /// The routers to speak with.
        optional peers: List<BgpPeer> = [0; 0];
        /// Finer rules. What a rule matches is announced to its peers, with its attributes. Where several rules match
        /// a prefix for a peer, it has the communities of all; of the other attributes each is that of the most
        /// specific rule that has it: one with `services` before one with `pools` before one with neither, then one
        /// with `peers` before one without, then the first.
        optional announcements: List<Announcement> = [0; 0];
    }
}

raw_table! {
    /// The files for a gobgpd behind `https`, in PEM.
    pub(crate) struct BgpTls {
        /// The certificates of the authorities that may vouch for gobgpd.
        required ca: AbsolutePath, like "/etc/netd/gobgpd-ca.pem";
        /// netd's own certificate, if gobgpd asks for one.
        optional certificate: AbsolutePath, like "/etc/netd/netd.pem";
        /// The key of the certificate. Only its owner may be able to read it.
        optional key: AbsolutePath, like "/etc/netd/netd-key.pem";
    }
}

raw_table! {
    /// A router to speak BGP with: eBGP if its ASN is another than `bgp.asn`, else iBGP.
    pub(crate) struct BgpPeer {
        /// Its address.
        required address: Address, like "10.0.0.1";
        /// Its autonomous system.
        required asn: Asn, like 64_513;
        /// What it is called. Without it, its address.
        optional name: Name, like "tor-1";
        /// Its TCP port.
        optional port: PortNumber = 179, like 1179;
        /// A file that holds the password of the session (TCP MD5, RFC 2385) and nothing else. Only its owner may be
        /// able to read it. Without the file there is no session.
        optional password_file: AbsolutePath, like "/etc/netd/tor-1.password";
        /// After so long without a message the session is over; `0s` is never. The peer may ask for less.
        optional hold: HoldTime = "90s", like "9s";
        /// From one message to the next. Without it, a third of `hold`.
        optional keepalive: Keepalive, like "3s";
        /// Between two tries to connect.
        optional connect_retry: ConnectRetry = "10s", like "5s";
        /// An eBGP peer that is not on a link of the node, and how many hops packets to it may take.
        optional multihop_ttl: HopLimit, like 3;
        /// Whether packets that were sent further away than one hop are dropped (GTSM, RFC 5082). The peer has to do
        /// the same.
        optional ttl_security: bool = false, like true;
        /// The own address of the session. Without it, the kernel chooses.
        optional source: Address, like "10.0.0.11";
        /// Which prefixes are exchanged. Without it, those of the family of `address`, with `extended_next_hop` both.
        /// A prefix of the other family gets an address of that family that the node has for its next hop.
        optional families: List<Family, 1>, like ["ipv4", "ipv6"];
        /// Whether IPv4 prefixes have IPv6 next hops on an IPv6 session (RFC 8950).
        optional extended_next_hop: bool = false, like true;
        /// Whether the peer keeps the routes for a while when the session breaks (RFC 4724): `true`, for two minutes,
        /// or a table that says how long.
        optional graceful_restart: GracefulRestart = false, like json!({ "restart": "120s" });
        /// Finding a dead peer within milliseconds (RFC 5880), if the gobgpd can. Without it, `hold` finds it.
        optional bfd: Bfd, like json!({ "transmit": "300ms", "receive": "300ms", "multiplier": 3 });
        /// Whether only the peer opens the session. Needs `bgp.listen_port`.
        optional passive: bool = false, like true;
        /// The nodes that have this peer. Without it, all.
        optional nodes: List<NodeName, 1>, like ["lb-1"];
        /// What becomes of received routes: `none`, they are only counted; or into which routing table they go, as long
        /// as the session lives. Rules that lead to the table are somebody else's. Martians, and what is inside VIPs,
        /// pools and pod prefixes of the file, are never taken; a route to everywhere is with `default_route = true`,
        /// and no more than `max` of them, 100000 if it does not say.
        optional import: Import = "none", like json!({ "table": 100 });
    }
}

raw_table! {
    /// The pace of graceful restart.
    pub(crate) struct Restart {
        /// For so long the peer keeps the routes of a session that broke.
        optional restart: super::bgp_word::RestartTime = "120s", like "60s";
    }
}

raw_table! {
    /// Where received routes go.
    pub(crate) struct ImportTable {
        /// The number of a routing table; 254 is the main one.
        required table: RouteTable, like 100;
        /// Whether a route to everywhere is taken, too.
        optional default_route: bool = false, like true;
        /// No more than so many routes are taken; what is beyond it, by the order of the prefixes, is said and left out.
        optional max: ImportMax = 100000, like 1000;
    }
}

raw_table! {
    /// The pace of BFD.
    pub(crate) struct Bfd {
        /// Between two packets that are sent.
        optional transmit: BfdTime = "1s", like "300ms";
        /// Between two packets that can be taken.
        optional receive: BfdTime = "1s", like "300ms";
        /// After so many missing packets the peer is dead.
        optional multiplier: BfdMultiplier = 3;
    }
}

raw_table! {
    /// A finer rule: what is announced to whom, and with which attributes.
    pub(crate) struct Announcement {
        /// Which prefixes it speaks of, also where `bgp.announce` does not.
        optional what: List<Announced, 1> = ["vips"], like ["pod-cidrs"];
        /// Of the VIPs only those of these services.
        optional services: List<Name, 1>, like ["web"];
        /// Of the VIPs, and of the egress addresses, only those in these pools.
        optional pools: List<Name, 1>, like ["public"];
        /// The peers that get it, by name or address. Without it, all.
        optional peers: List<PeerWord, 1>, like ["tor-1"];
        /// Communities, each two numbers or a well-known name such as `no-export`.
        optional communities: List<CommunityWord, 1, COMMUNITIES_MAX>, like ["64512:100", "no-export"];
        /// Large communities, each three numbers.
        optional large_communities: List<LargeCommunityWord, 1, COMMUNITIES_MAX>, like ["64512:1:100"];
        /// The local preference, for iBGP peers.
        optional local_preference: Metric, like 200;
        /// The metric that tells entries into one autonomous system apart (MULTI_EXIT_DISC).
        optional med: Metric, like 50;
        /// So many times the own ASN is in the path besides, for eBGP peers.
        optional prepend: Prepend, like 2;
        /// VIPs are announced as shorter prefixes, as long as one VIP of the prefix would be. Never shorter than the
        /// pool's own range, and not for services with `traffic_policy = "local"`. Packets for addresses of the
        /// prefix that nothing has are refused by a route.
        optional aggregate: Aggregate, like json!({ "ipv4": 24, "ipv6": 64 });
    }
}

raw_table! {
    /// The lengths of aggregates.
    pub(crate) struct Aggregate {
        /// For IPv4. Without it, each VIP is announced by itself.
        optional ipv4: AggregateV4, like 24;
        /// For IPv6. Without it, each VIP is announced by itself.
        optional ipv6: AggregateV6, like 64;
    }
}
