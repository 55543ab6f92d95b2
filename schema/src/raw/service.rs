//! `[[services]]` and `[[backend_sets]]`.

use super::List;
use super::duration::{AffinityTime, UdpIdleTime};
use super::health_check::HealthCheck;
use super::number::{PortNumber, Weight};
use super::pool::PoolName;
use super::table::raw_table;
use super::unsupported::Unsupported;
use super::word::{Address, Name, Prefix};
use crate::model::{
    Algorithm, BackendFamily, BackendState, Family, HashNames, Mode, NoBackend, Protocol, TableSize,
    TrafficPolicy, UnknownPort,
};
use crate::span::At;
use serde_json::json;

/// Leaves room to shift a backend's share both ways.
pub(crate) const WEIGHT_DEFAULT: u16 = 100;

/// The ring of a service names its backends by 16 bits.
pub(crate) const BACKENDS_MAX: usize = 65_535;

/// The backends of a service or of a set, where they were written.
pub(crate) type Backends = At<List<Backend, 0, BACKENDS_MAX>>;

raw_table! {
    /// A load-balanced service: traffic to any of its VIPs and ports goes to one of its backends.
    pub(crate) struct Service {
        /// Unique among the services; shown in plans and in the status.
        required name: Name, like "web";
        /// The virtual addresses that clients use. A VIP and port belong to one service only. Needed unless there is a
        /// `pool`; with one, they are addresses that the service asks for, and the pool gives one of each family that
        /// they do not have.
        optional vips: List<Address, 1>, like ["192.0.2.10", "2001:db8:100::10"];
        /// The name of one of the `[[ip_pools]]`, from which the service gets its VIPs; `auto`, any pool whose
        /// `auto_assign` is not off. What a service was given it keeps.
        optional pool: PoolName, like "public";
        /// The families of which the service is to have a VIP from its `pool`. Without it, those that the pool has;
        /// with `pool = "auto"`, those that any such pool has.
        optional families: List<Family, 1>, like ["ipv4"];
        /// A word of your choice: services with the same one may get the same VIP from their pools, where they do not
        /// have a protocol and port in common. Without it, no other service gets a VIP of this one.
        optional share: Name, like "edge";
        /// The ports of every VIP. TCP and UDP on the same number are two ports.
        required ports: List<Port, 1>;
        /// Where the traffic goes. A service without backends does what `no_backend` says. One that has any needs,
        /// for each VIP, one of the family that it uses.
        optional backends: List<Backend, 0, BACKENDS_MAX> = [0; 0];
        /// The name of one of the `[[backend_sets]]`, instead of `backends`.
        optional backend_set: Name, like "web-servers";
        /// How a backend is chosen for a new flow: `maglev`, by a consistent hash, so that every balancer of a tier
        /// chooses the same; `random`, by chance, in proportion to the weights, and each balancer on its own.
        optional algorithm: Algorithm = "maglev", like "random";
        /// For so long after its last packet a client's address keeps its backend, whatever its ports. Without it,
        /// each flow is balanced on its own.
        optional affinity: AffinityTime, like "3h";
        /// For so long after its last packet a UDP flow goes on, and keeps its backend when others come or go. UDP
        /// does not tell a first packet from any other: for so long after a change, new flows go to the backend that
        /// had their slot before as well, even if it terminates. `0s`: UDP flows are not kept, and each packet goes
        /// where the backends of the moment say, which suits questions with one answer, like DNS.
        optional udp_idle: UdpIdleTime = "60s", like "5m";
        /// Which clients are let in. Without it, all.
        optional source_ranges: SourceRanges, like json!({ "allow": ["10.0.0.0/8"], "deny": ["10.66.0.0/16"] });
        /// The size of this service's Maglev table. Without it, that of `load_balancer.table_size`.
        optional table_size: TableSize, like 65_521;
        /// What the backends are called where the Maglev table is computed; balancers that name them alike choose
        /// alike. `cilium` is `[10.1.0.2:80/TCP,State:active]`, as Cilium does it today; `cilium-1.10` is
        /// `10.1.0.2:80`, as Cilium 1.10 did.
        optional hash_names: HashNames = "cilium", like "cilium-1.10";
        /// What is done with packets while there is no backend to give them to: `reject`, the client gets a TCP reset
        /// or an ICMP error; `drop`, nothing is said.
        optional no_backend: NoBackend = "reject", like "drop";
        /// Whether the VIPs answer echo requests. Services that share a VIP must agree.
        optional ping: bool = true, like false;
        /// What is done with packets to a VIP that are not for one of its ports: `drop`, nothing is said; `reject`,
        /// the client gets a TCP reset or an ICMP error; `pass`, they are left to the network stack of the node.
        /// Services that share a VIP must agree.
        optional unknown_port: UnknownPort = "drop", like "reject";
        /// Which backends the VIPs use: `same`, each VIP those of its own family; `ipv4` or `ipv6`, every VIP those of
        /// that family, by IPv4 inside IPv6 or IPv6 inside IPv4 where the families differ.
        optional backend_family: BackendFamily = "same", like "ipv6";
        /// How packets reach the backend, which answers the client itself: `dsr-ipip`, inside an IP header (IPIP,
        /// IP6IP6, and 4in6 or 6in4 where families differ); `dsr-gue`, inside UDP (GUE variant 1: the inner IP header
        /// follows the UDP header), for networks that spread or let through nothing else.
        optional mode: Mode = "dsr-ipip", like "dsr-gue";
        /// How the health of the backends is found out. Without it, it is not.
        optional health_check: HealthCheck, like json!({ "kind": "http", "path": "/healthz" });
        /// From which nodes BGP announces the VIPs: `cluster`, from every node, as long as any backend can be used;
        /// `local`, only from nodes that have such a backend themselves, in their `nodes.pod_cidrs` or at one of their
        /// `nodes.addresses`.
        optional traffic_policy: TrafficPolicy = "cluster", like "local";
        /// What happens to the flows of a backend that is removed.
        optional on_backend_delete: Unsupported;
    }
    at least one of [vips, pool]
}

raw_table! {
    /// Which clients are let in: the longest prefix that contains the client's address decides. With any `allow`, an
    /// address in none of the prefixes is denied, else it is allowed. Denied packets are dropped.
    pub(crate) struct SourceRanges {
        /// Clients that are let in.
        optional allow: List<Prefix, 1>, like ["10.0.0.0/8", "2001:db8::/32"];
        /// Clients that are not.
        optional deny: List<Prefix, 1>, like ["10.66.0.0/16"];
    }
}

raw_table! {
    /// One port of a service.
    pub(crate) struct Port {
        /// The transport protocol.
        required protocol: Protocol, like "tcp";
        /// What clients connect to.
        required port: PortNumber, like 80;
        /// What the destination port of the packet becomes. Without it the port stays as it is. Answers go to the
        /// client directly and have to come from the service's port: a backend that listens on another one must
        /// translate the port of its answers back.
        optional backend_port: PortNumber, like 8080;
    }
}

raw_table! {
    /// One backend: a machine that takes the packets out of the tunnel and answers the client itself.
    pub(crate) struct Backend {
        /// The address that the outer header of the tunnel carries. IPv4 backends serve the IPv4 VIPs of the
        /// service, IPv6 backends the IPv6 ones, unless `backend_family` says otherwise.
        required address: Address, like "10.1.0.2";
        /// Overrides `backend_port` for this backend.
        optional port: PortNumber, like 8080;
        /// Its share relative to the other backends. 0 takes it out.
        optional weight: Weight = WEIGHT_DEFAULT, like 50;
        /// Whether it is given traffic: `active`, new and established flows; `terminating`, established flows only,
        /// until they end; `quarantined`, none because something found it unhealthy; `maintenance`, none because
        /// somebody took it out.
        optional state: BackendState = "active", like "terminating";
    }
}

raw_table! {
    /// Backends that several services share.
    pub(crate) struct BackendSet {
        /// Unique among the sets; what `services.backend_set` names.
        required name: Name, like "web-servers";
        /// The backends, as in a service.
        required backends: List<Backend, 0, BACKENDS_MAX>;
    }
}
