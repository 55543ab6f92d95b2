//! `[[services]]` and `[[backend_sets]]`.

use super::List;
use super::number::{PortNumber, Weight};
use super::table::raw_table;
use super::unsupported::Unsupported;
use super::word::{Address, Name};
use crate::model::{BackendState, Protocol};
use crate::span::At;

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
        /// The virtual addresses that clients use. A VIP and port belong to one service only.
        required vips: List<Address, 1>, like ["192.0.2.10", "2001:db8:100::10"];
        /// The ports of every VIP. TCP and UDP on the same number are two ports.
        required ports: List<Port, 1>;
        /// Where the traffic goes. A service without backends answers nothing.
        optional backends: List<Backend, 0, BACKENDS_MAX> = [0; 0];
        /// The name of one of the `[[backend_sets]]`, instead of `backends`.
        optional backend_set: Name, like "web-servers";
        /// The IP pool from which the VIPs are taken.
        optional pool: Unsupported;
        /// How the health of the backends is found out.
        optional health_check: Unsupported;
        /// How a backend is chosen; this version always uses Maglev.
        optional algorithm: Unsupported;
        /// How packets reach the backend; this version always tunnels and lets the backend answer directly.
        optional mode: Unsupported;
        /// Whether and for how long a client keeps its backend.
        optional affinity: Unsupported;
        /// Which clients are let in.
        optional source_ranges: Unsupported;
        /// Which names of the backends the Maglev table is computed from.
        optional hash_names: Unsupported;
        /// The size of this service's Maglev table.
        optional table_size: Unsupported;
        /// What happens to packets to a port that no service has.
        optional unknown_port: Unsupported;
        /// Whether the VIPs answer to echo requests.
        optional ping: Unsupported;
        /// What happens to the flows of a backend that is removed.
        optional on_backend_delete: Unsupported;
        /// Where the service can be reached from.
        optional traffic_policy: Unsupported;
        /// Lets VIPs of one family have backends of the other.
        optional nat46: Unsupported;
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
        /// service, IPv6 backends the IPv6 ones.
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
