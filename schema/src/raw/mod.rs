//! The vocabulary: every table and key of the file, once.
//!
//! A [`raw_table!`] names the keys of a table, their types, whether they must be there, their defaults and their
//! documentation. The reader, the JSON Schema, `explain` and the reference page all come from it. What is read holds
//! exactly what was written, with its place; what could not be read is `None` and has been reported.

mod bgp;
mod bgp_choice;
mod bgp_word;
mod capture;
mod choice;
mod decap;
mod duration;
mod egress;
mod egress_failover;
mod health_check;
mod list;
mod load_balancer;
mod masquerade;
mod metrics;
mod mtu;
mod network;
mod node;
mod notrack;
mod number;
mod pool;
mod probe;
mod reader;
mod service;
mod size;
mod strict;
pub(crate) mod table;
mod top;
pub(crate) mod unsupported;
mod wireguard;
mod word;

pub(crate) use bgp::{Announcement, Bfd, Bgp, BgpPeer};
pub(crate) use bgp_choice::{GracefulRestart, Import};
pub(crate) use bgp_word::{AbsolutePath, Asn, GobgpdWord};
pub(crate) use capture::Capture;
pub(crate) use decap::Decap;
pub(crate) use duration::shown;
pub(crate) use egress::{Egress, EgressGroups, Gateway as EgressGateway, Source as EgressSource};
pub(crate) use egress_failover::Failover;
pub(crate) use health_check::HealthCheck;
pub(crate) use list::{List, each};
pub(crate) use load_balancer::LoadBalancer;
pub(crate) use masquerade::Masquerade;
pub(crate) use metrics::Listen;
pub(crate) use network::{ModeWord as NetworkModeWord, Network};
pub(crate) use node::Node;
pub(crate) use notrack::Notrack;
pub(crate) use pool::{IpPool, PoolName, Range};
pub(crate) use reader::{Raw, Reader, Trust};
pub(crate) use service::{Backend, BackendSet, Backends, Port, Service, SourceRanges, WEIGHT_DEFAULT};
pub(crate) use strict::{Strict, StrictEgress};
pub(crate) use top::{Top, refuse_other_version};
pub(crate) use wireguard::{NodeWireguard, Wireguard};
pub use word::unusable_address;
pub(crate) use word::{Address, DeviceName, Prefix};

/// The version of the vocabulary that this program knows.
pub(crate) const VERSION: i64 = 1;
