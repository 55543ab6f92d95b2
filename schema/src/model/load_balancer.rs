//! Settings of the load balancer as a whole.

use ipnetwork::IpNetwork;

/// The table sizes that Cilium accepts: primes just below powers of two.
pub const TABLE_SIZES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071];

/// The UDP port of GUE that IANA assigned.
pub const GUE_PORT_DEFAULT: u16 = 6080;

/// The `[load_balancer]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Devices that receive traffic for VIPs, sorted; empty means the devices of the default routes.
    pub devices: Vec<String>,
    /// How the program is attached.
    pub mode: XdpMode,
    /// How many slots a service's Maglev table has.
    pub table_size: TableSize,
    /// The seed of the hash functions; all balancers of a tier must have the same.
    pub hash_seed: HashSeed,
    /// Outer source addresses are picked from these prefixes, at most one per family; without one the source is the
    /// address that the node would itself use towards the backend.
    pub rss_source: Vec<IpNetwork>,
    /// The TTL or hop limit of the outer header; 1 to 255.
    pub hop_limit: u8,
    /// The DSCP of the outer header.
    pub outer_dscp: OuterDscp,
    /// The ECN field of the outer header.
    pub outer_ecn: OuterEcn,
    /// The UDP destination port of GUE; not 0.
    pub gue_port: u16,
    /// At most so many ICMP errors per second, of those that the node makes and of those that it relays to backends
    /// each; 0 to 1,000,000.
    pub icmp_errors_per_second: u32,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            mode: XdpMode::default(),
            table_size: TableSize::default(),
            hash_seed: HashSeed::default(),
            rss_source: Vec::new(),
            hop_limit: 64,
            outer_dscp: OuterDscp::default(),
            outer_ecn: OuterEcn::default(),
            gue_port: GUE_PORT_DEFAULT,
            icmp_errors_per_second: 1_000,
        }
    }
}

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// In the driver, else with a warning in the network stack.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack, after a socket buffer was made: slow, works on every device.
    Generic,
}

/// The number of slots of a Maglev table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TableSize {
    /// By the number of backends, with head-room.
    #[default]
    Auto,
    /// One of [`TABLE_SIZES`].
    Fixed(u32),
}

/// Where the DSCP of the outer header comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OuterDscp {
    /// From the inner header (RFC 2983, uniform model).
    #[default]
    Copy,
    /// The same for all packets (RFC 2983, pipe model); 0 to 63.
    Fixed(u8),
}

/// What the ECN field of the outer header says (RFC 6040, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OuterEcn {
    /// What the inner one says: normal mode.
    #[default]
    Copy,
    /// Not ECN-capable, for backends that would lose a congestion mark: compatibility mode.
    Clear,
}

/// Twelve bytes of which the hash functions of the load balancer take their seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashSeed(pub [u8; 12]);

impl Default for HashSeed {
    /// Cilium's default, `JLfvgnHc2kaSUFaI` in base64.
    fn default() -> Self {
        Self([0x24, 0xb7, 0xef, 0x82, 0x71, 0xdc, 0xda, 0x46, 0x92, 0x50, 0x56, 0x88])
    }
}

impl HashSeed {
    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at * 4..at * 4 + 4]);
        u32::from_be_bytes(bytes)
    }

    /// Seeds murmur3 over the backends' names.
    #[must_use]
    pub fn names(&self) -> u32 {
        self.word(0)
    }

    /// Seeds the hash over IPv4 flows.
    #[must_use]
    pub fn flows_v4(&self) -> u32 {
        self.word(1)
    }

    /// Seeds the hash over IPv6 flows.
    #[must_use]
    pub fn flows_v6(&self) -> u32 {
        self.word(2)
    }
}
