//! The top of the file.

use super::bgp::Bgp;
use super::capture::{CAPTURES_MAX, Capture};
use super::decap::Decap;
use super::egress::{EGRESS_MAX, Egress, EgressGroups};
use super::egress_failover::Failover;
use super::load_balancer::LoadBalancer;
use super::masquerade::Masquerade;
use super::metrics::Metrics;
use super::network::Network;
use super::node::Node;
use super::notrack::Notrack;
use super::pool::IpPool;
use super::service::{BackendSet, Service};
use super::table::raw_table;
use super::unsupported::Unsupported;
use super::wireguard::Wireguard;
use super::{List, Raw, Reader, VERSION};
use crate::diagnostic::{Diagnoses, Draft};
use crate::document::{Item, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use std::borrow::Cow;

raw_table! {
    /// What a network of nodes should be. Unknown keys are errors, and a file with an error is refused as a whole.
    pub(crate) struct Top {
        /// The version of the vocabulary that the file is written in.
        required version: Version, like 1;
        /// The file means it when it asks for nothing at all. Without it, a file without objects is not allowed to
        /// remove what is there.
        optional allow_empty: bool = false;
        /// The machines of the network.
        optional nodes: List<Node> = [0; 0];
        /// Settings of the load balancer as a whole.
        optional load_balancer: LoadBalancer;
        /// The load-balanced services.
        optional services: List<Service> = [0; 0];
        /// Backends that several services share.
        optional backend_sets: List<BackendSet> = [0; 0];
        /// Ranges of addresses that are routed to the load balancers.
        optional ip_pools: List<IpPool> = [0; 0];
        /// Taking packets out of the tunnel, on a node that is a backend. Without it, the network stack has to.
        optional decap: Decap;
        /// Where numbers are served. Without it, nowhere.
        optional metrics: Metrics;
        /// BGP sessions and what is announced on them. Without it, nothing is announced.
        optional bgp: Bgp;
        /// Traffic that leaves through a gateway, with an address of its own.
        optional egress: List<Egress, 0, EGRESS_MAX> = [0; 0];
        /// Prefixes under a name, which policies of `egress` have as sources: `office = ["10.9.0.0/16"]`.
        optional egress_groups: EgressGroups, like json!({ "office": ["10.9.0.0/16", "fd00:9::/48"] });
        /// How nodes find out which gateways of `egress` live. Without it they do not, and a gateway that is dead stays
        /// in force.
        optional egress_failover: Failover;
        /// Encryption between the nodes.
        optional wireguard: Wireguard;
        /// How packets travel between the pods of different nodes. Without it, directly.
        optional network: Network;
        /// Packets of the load balancer that are written to files.
        optional captures: List<Capture, 0, CAPTURES_MAX> = [0; 0];
        /// Which traffic is allowed.
        optional policy: Unsupported;
        /// Addresses of the node for packets of its pods that leave the network. Without it, they leave as they are.
        optional masquerade: Masquerade;
        /// Packets of pods that the kernel's connection tracking does not see. Without it, all are tracked.
        optional notrack: Notrack;
        /// Addresses from a cloud's interface.
        optional ipam: Unsupported;
        /// Settings of the kernel.
        optional tuning: Unsupported;
        /// Groups of prefixes that policies name.
        optional groups: Unsupported;
    }
}

/// The version that a file says it is written in; always [`VERSION`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version;

impl Raw for Version {
    fn read(item: &Item<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match item.value {
            Value::Integer(Some(VERSION)) => return Some(Self),
            Value::Integer(_) => {
                let found = reader.found(item.span);
                reader.report(|| {
                    Draft::error(format!("there is no version {found}"))
                        .label(item.span, format!("must be {VERSION}"))
                });
            }
            _ => reader.wrong_type(item, &format!("the integer {VERSION}")),
        }
        None
    }
}

/// Whether the file is written for a later version. Nothing else is said then: other words may be right there.
pub(crate) fn refuse_other_version(top: &Item<'_>, diagnoses: &mut Diagnoses) -> bool {
    let Value::Table(table) = &top.value else { return false };
    let Some(entry) = table.entries.iter().find(|entry| entry.key == "version") else { return false };
    let Value::Integer(Some(newer)) = entry.item.value else { return false };
    if newer <= VERSION {
        return false;
    }
    diagnoses.push(|| {
        Draft::error(format!("written for version {newer}; this netd knows version {VERSION}"))
            .label(entry.item.span, "newer than this program")
            .help("install a newer netd, or write the file for this version")
    });
    true
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "const": VERSION })
    }
}
