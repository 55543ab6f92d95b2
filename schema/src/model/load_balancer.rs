//! Settings of the load balancer as a whole.

use ipnetwork::IpNetwork;

/// The table sizes that Cilium accepts: primes just below powers of two.
pub const TABLE_SIZES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071];

/// The `[load_balancer]` table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
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
