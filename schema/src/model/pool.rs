//! Ranges of addresses that VIPs come from.

use super::UnknownPort;
use ipnetwork::IpNetwork;

/// One `[[ip_pools]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPool {
    /// Unique among the pools.
    pub name: String,
    /// Masked and sorted; no two of any pools overlap.
    pub ranges: Vec<IpNetwork>,
    /// What happens to packets for addresses that no service has.
    pub unassigned: UnknownPort,
}
