//! The tables that the model is given: services, VIPs, pools, settings.

use std::net::IpAddr;

use netd_bpf::abi::{Backend, FrontendKey};

/// One VIP, port and protocol.
#[derive(Clone, Debug)]
pub struct Service {
    pub key: FrontendKey,
    /// Whose counters and source ranges; absent: those that have the number of its place in the table.
    pub number: Option<u32>,
    pub seed: u32,
    pub slots: Vec<u16>,
    pub wide: bool,
    /// Present: KEEP_FLOWS.
    pub previous: Option<Vec<u16>>,
    pub wide_previous: bool,
    pub window_open: bool,
    /// With `previous`: records are looked for in slots that have not changed, too.
    pub records_anywhere: bool,
    pub backends: Vec<Backend>,
    pub random: bool,
    /// The timeout in seconds.
    pub affinity: Option<u32>,
    pub sources: Vec<Range>,
    /// What no range contains is denied.
    pub sources_listed: bool,
    pub reject_no_backend: bool,
}

/// A prefix of clients.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub address: IpAddr,
    pub bits: u8,
    pub allowed: bool,
}

/// What becomes of packets that are for no service of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Drop,
    Reject,
    Pass,
}

/// A VIP's own entry.
#[derive(Clone, Copy, Debug)]
pub struct Vip {
    pub address: IpAddr,
    pub service: u32,
    pub ping: bool,
    pub unknown: Unknown,
}

/// A prefix whose addresses are VIPs, with an entry of their own or not.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    pub address: IpAddr,
    pub bits: u8,
    pub service: u32,
    pub unknown: Unknown,
}

/// What is decided for the whole load balancer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Zero: none. Any other number is never reached here.
    pub icmp_errors_per_second: u32,
    pub gue_port: u16,
    pub hop_limit: u8,
    /// Absent: the inner one.
    pub outer_dscp: Option<u8>,
    pub copies_ecn: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let icmp_errors_per_second = 1_000_000;
        Self { icmp_errors_per_second, gue_port: 6080, hop_limit: 64, outer_dscp: None, copies_ecn: true }
    }
}

impl Service {
    pub fn new(key: FrontendKey, slots: Vec<u16>, backends: Vec<Backend>) -> Self {
        Self {
            key,
            number: None,
            seed: 0x71dc_da46,
            slots,
            wide: false,
            previous: None,
            wide_previous: false,
            window_open: false,
            records_anywhere: false,
            backends,
            random: false,
            affinity: None,
            sources: Vec::new(),
            sources_listed: false,
            reject_no_backend: false,
        }
    }

    /// The number of its counters, for a service at a place of the table.
    pub fn number(&self, place: usize) -> u32 {
        self.number.unwrap_or(place as u32)
    }

    /// Section 2, step 3.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        let containing = self.sources.iter().filter(|range| contains(range.address, range.bits, client));
        match containing.max_by_key(|range| range.bits) {
            Some(range) => range.allowed,
            None => !self.sources_listed,
        }
    }
}

impl super::Model {
    /// The VIP that an address is, by its own entry or as an unassigned address of a pool.
    pub(super) fn vip(&self, address: IpAddr) -> Option<Vip> {
        if let Some(vip) = self.vips.iter().find(|vip| vip.address == address) {
            return Some(*vip);
        }
        let containing = self.pools.iter().filter(|pool| contains(pool.address, pool.bits, address));
        let pool = containing.max_by_key(|pool| pool.bits)?;
        Some(Vip { address, service: pool.service, ping: false, unknown: pool.unknown })
    }
}

fn contains(prefix: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (prefix, address, width) = match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => (prefix.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(prefix), IpAddr::V6(address)) => (prefix.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let low = width - u32::from(bits);
    (prefix ^ address).checked_shr(low).unwrap_or(0) == 0
}
