//! How the gateways of egress policies stand, as this node knows it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The gateways that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewaysReport {
    /// How this node itself stands: `ready`, or why it may not have egress addresses that others could have.
    pub standing: String,
    /// The gateways, by the names of their nodes.
    pub gateways: BTreeMap<String, GatewayReport>,
    /// Why nobody can be asked; absent when everybody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindrance: Option<String>,
}

/// A gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Whether it counts as alive: whether it can be in force.
    pub up: bool,
    /// Whether it answers this node; true of the node itself.
    pub answers: bool,
}
