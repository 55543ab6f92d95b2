//! Taking packets out of the tunnel, on a node that is a backend.

use super::GUE_PORT_DEFAULT;
use ipnetwork::IpNetwork;

/// The `[decap]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decap {
    /// Devices on which tunnelled packets arrive, sorted; at least one.
    pub devices: Vec<String>,
    /// Outer sources that are believed, sorted; at least one.
    pub from: Vec<IpNetwork>,
    /// Inner destinations that are taken besides the VIPs and pools of the file, sorted.
    pub to: Vec<IpNetwork>,
    /// The UDP port on which GUE arrives.
    pub gue_port: u16,
}

impl Default for Decap {
    fn default() -> Self {
        Self { devices: Vec::new(), from: Vec::new(), to: Vec::new(), gue_port: GUE_PORT_DEFAULT }
    }
}
