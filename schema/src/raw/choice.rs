//! Words of a fixed list.

use super::network::ModeWord;
use super::word::{Refused, Word, word_schema};
use crate::model::{
    Algorithm, Announced, Avoid, BackendFamily, BackendState, CaptureFormat, EgressAnnounce, Family,
    HashNames, HealthKind, Mode, NoBackend, NotrackBackend, OnExit, OnNoGateway, OuterEcn, Protocol, Quorum,
    TrafficPolicy, TunnelKind, Underlay, UnknownPort, Via, WireguardDevice, WireguardMode, XdpMode,
};
use schemars::{Schema, json_schema};

/// A type that is one of a few words; those behind `later` are refused with that reason.
macro_rules! one_of {
    ($Type:ident, $what:literal, $($word:literal => $value:ident),* $(; later $later:literal)*) => {
        impl Word for $Type {
            const WHAT: &'static str = $what;
            const LATER: &'static [&'static str] = &[$($later),*];

            fn parse(text: &str) -> Result<Self, Refused> {
                match text {
                    $($word => Ok(Self::$value),)*
                    _ => Err(not_a_word(text, &[$($word),*])),
                }
            }

            fn schema() -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),*] })
            }
        }

        word_schema!($Type);
    };
}

one_of!(Protocol, "a protocol", "tcp" => Tcp, "udp" => Udp; later "sctp");
one_of!(XdpMode, "a mode", "auto" => Auto, "native" => Native, "generic" => Generic);
one_of!(BackendState, "a state",
    "active" => Active, "terminating" => Terminating, "quarantined" => Quarantined, "maintenance" => Maintenance);
one_of!(Algorithm, "an algorithm", "maglev" => Maglev, "random" => Random);
one_of!(HashNames, "a way to name backends", "cilium" => Cilium, "cilium-1.10" => Cilium110);
one_of!(NoBackend, "an answer", "reject" => Reject, "drop" => Drop);
one_of!(UnknownPort, "an answer", "drop" => Drop, "reject" => Reject, "pass" => Pass);
one_of!(BackendFamily, "a family of backends", "same" => Same, "ipv4" => Ipv4, "ipv6" => Ipv6);
one_of!(Mode, "a mode", "dsr-ipip" => DsrIpip, "dsr-gue" => DsrGue; later "snat");
one_of!(HealthKind, "a kind of check",
    "tcp" => Tcp, "http" => Http, "https" => Https, "udp" => Udp, "icmp" => Icmp);
one_of!(Via, "a way", "tunnel" => Tunnel, "direct" => Direct);
one_of!(Avoid, "a choice of addresses", "none" => None, "first-last" => FirstLast);
one_of!(Family, "a family", "ipv4" => Ipv4, "ipv6" => Ipv6);
one_of!(NotrackBackend, "a kind of rules", "nft" => Nft, "iptables" => Iptables);
one_of!(CaptureFormat, "a format", "pcapng" => Pcapng, "pcap" => Pcap);
one_of!(OuterEcn, "an ECN field", "copy" => Copy, "clear" => Clear);
one_of!(TrafficPolicy, "a traffic policy", "cluster" => Cluster, "local" => Local);
one_of!(Announced, "a class of prefixes", "vips" => Vips, "pod-cidrs" => PodCidrs, "egress-ips" => EgressIps);
one_of!(OnNoGateway, "an answer", "drop" => Drop, "pass" => Pass);
one_of!(Quorum, "a quorum", "majority" => Majority, "none" => None);
one_of!(EgressAnnounce, "a way to announce", "arp" => Arp, "bgp" => Bgp);
one_of!(OnExit, "an answer", "keep" => Keep, "withdraw" => Withdraw);
one_of!(ModeWord, "a mode",
    "direct" => Direct, "vxlan" => Vxlan, "geneve" => Geneve, "cross-subnet" => CrossSubnet);
one_of!(TunnelKind, "a tunnel", "vxlan" => Vxlan, "geneve" => Geneve);
one_of!(Underlay, "a family", "auto" => Auto, "ipv4" => Ipv4, "ipv6" => Ipv6);
one_of!(WireguardMode, "a mode", "pods" => Pods, "nodes" => Nodes, "overlay" => Overlay);
one_of!(WireguardDevice, "a kind of device", "auto" => Auto, "kernel" => Kernel, "userspace" => Userspace);

fn not_a_word(text: &str, words: &[&'static str]) -> Refused {
    let list: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
    // The beginning of several is no hint at one of them.
    let ambiguous = words.iter().filter(|word| word.starts_with(text)).count() > 1;
    let help = crate::explain::nearest(text, words.iter().copied()).filter(|_| !ambiguous);
    Refused {
        why: format!("must be one of {}", list.join(", ")),
        help: help.map(|word| format!("did you mean `\"{word}\"`?")),
    }
}
