//! What the service logic sees of the maps: reading and writing them, whatever they are.

use std::collections::BTreeMap;

use crate::abi::{
    self, Backend, Counter, Flow, FlowKey, Frontend, FrontendKey, Pool, PoolKey, ServiceCounter, Settings,
    Source, SourceKey,
};
use crate::error::Result;

/// How many entries each map has; fixed when the maps are made. Those of frontends are rounded up to powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Frontends and VIP entries of IPv4; each takes 32 bytes of buckets and 256 of lines.
    pub frontends_v4: u32,
    /// The same of IPv6; each takes 64 bytes of buckets and 256 of lines.
    pub frontends_v6: u32,
    /// Lines of `rings`.
    pub ring_lines: u32,
    /// Lines of `backends`.
    pub backend_lines: u32,
    /// Backend counters; each takes 24 bytes for every CPU and once more.
    pub counters: u32,
    /// Service names and counters; each counter takes 128 bytes for every CPU and once more.
    pub services: u32,
    /// Records of `flows`.
    pub flows: u32,
    /// Records of `fragments`.
    pub fragments: u32,
    /// Prefixes of `sources`; room is taken only by those that are there.
    pub sources: u32,
    /// Prefixes of `pools`; room is taken only by those that are there.
    pub pools: u32,
}

impl Capacity {
    /// Whether all that a frontend names is there. One of which it is not was damaged.
    #[must_use]
    pub fn holds(&self, frontend: &Frontend) -> bool {
        let within =
            |at: u32, count: u32, capacity: u32| at.checked_add(count).is_some_and(|end| end <= capacity);
        let ring =
            |at: u32, slots: u32, wide: bool| within(at, abi::ring_lines(slots, wide), self.ring_lines);
        let keeps_flows = frontend.flags & abi::KEEP_FLOWS != 0;
        within(frontend.backends, frontend.backend_count, self.backend_lines)
            && ring(frontend.ring, frontend.slots, frontend.flags & abi::WIDE_SLOTS != 0)
            && frontend.service < self.services
            && (!keeps_flows
                || ring(
                    frontend.previous_ring,
                    frontend.previous_slots,
                    frontend.flags & abi::WIDE_PREVIOUS != 0,
                ))
    }
}

/// The maps of the load balancer.
///
/// Writing is idempotent, deleting what is absent is success. Entries are addressed as the programs address them;
/// naming one beyond [`Maps::capacity`] is [`Error::OutOfRange`](crate::Error::OutOfRange) and writes nothing.
/// Packets may be under way through everything that a frontend names: make before break, and [`grace`](crate::grace()) before
/// what is no longer named is used for something else.
pub trait Maps: Send {
    /// How many entries there are of each.
    fn capacity(&self) -> Capacity;

    /// What the program was loaded with.
    fn settings(&self) -> Settings;

    /// All frontends, in the order of their keys.
    fn frontends(&self) -> Result<Vec<(FrontendKey, Frontend)>>;

    /// Looks at all frontends, in no particular order.
    fn each_frontend(&self, look: &mut dyn FnMut(&FrontendKey, &Frontend)) -> Result<()>;

    /// A frontend, if there is one of the key.
    fn frontend(&self, key: &FrontendKey) -> Result<Option<Frontend>>;

    /// Sets frontends; one result for each, in order. A packet finds each as it was or as it is, never half.
    fn put_frontends(&mut self, frontends: &[(FrontendKey, Frontend)]) -> Vec<Result<()>>;

    /// Removes frontends; one result for each, in order.
    fn delete_frontends(&mut self, keys: &[FrontendKey]) -> Vec<Result<()>>;

    /// Reads `bytes` bytes of rings from the beginning of a line.
    fn ring(&self, at_line: u32, bytes: usize) -> Result<Vec<u8>> {
        let mut ring = Vec::new();
        self.read_ring(at_line, bytes, &mut ring)?;
        Ok(ring)
    }

    /// As [`Maps::ring`], appended to what was read before.
    fn read_ring(&self, at_line: u32, bytes: usize, into: &mut Vec<u8>) -> Result<()>;

    /// Writes bytes of rings from the beginning of a line; what follows them in the last line stays.
    /// Bytes are replaced in no particular order.
    fn set_ring(&mut self, at_line: u32, bytes: &[u8]) -> Result<()>;

    /// Reads `count` lines of backends.
    fn backend_lines(&self, at: u32, count: u32) -> Result<Vec<Backend>>;

    /// Writes lines of backends. A line becomes READY last, and stops being so first.
    fn set_backend_lines(&mut self, at: u32, lines: &[Backend]) -> Result<()>;

    /// A backend's counter: the sum over the CPUs and the base.
    fn counter(&self, index: u32) -> Result<Counter>;

    /// Sets what is added to the CPUs' counts.
    fn set_counter_base(&mut self, index: u32, base: Counter) -> Result<()>;

    /// Zeroes a backend's counter and its new flows on all CPUs, and their bases. Nothing may be counting with it.
    fn clear_counter(&mut self, index: u32) -> Result<()>;

    /// How many new TCP connections a backend got: the sum over the CPUs and the base, by the backend's counter.
    fn new_flows(&self, counter: u32) -> Result<u64>;

    /// Sets what is added to the CPUs' counts.
    fn set_new_flows_base(&mut self, counter: u32, base: u64) -> Result<()>;

    /// A service's counters: the sum over the CPUs and the base.
    fn service_counter(&self, service: u32) -> Result<ServiceCounter>;

    /// Sets what is added to the CPUs' counts.
    fn set_service_counter_base(&mut self, service: u32, base: ServiceCounter) -> Result<()>;

    /// Zeroes a service's counters on all CPUs, and their base. Nothing may be counting with them.
    fn clear_service_counter(&mut self, service: u32) -> Result<()>;

    /// A service's name; empty when it has none. Bytes that are not UTF-8 are replaced.
    fn service_name(&self, service: u32) -> Result<String>;

    /// Appends what of all maps belongs to a frontend, as bytes, to what was read before: its entry, its service's name, its
    /// lines and its ring. Equal bytes mean the same; what is not there is left out.
    fn read_whole(&self, frontend: &Frontend, into: &mut Vec<u8>) {
        into.extend_from_slice(bytemuck::bytes_of(frontend));
        self.read_service_name(frontend.service, into);
        if self.capacity().holds(frontend) {
            self.read_backend_lines(frontend.backends, frontend.backend_count, into);
            let wide = frontend.flags & abi::WIDE_SLOTS != 0;
            let bytes = abi::ring_lines(frontend.slots, wide) as usize * abi::LINE_BYTES;
            // Within the map, as was just seen.
            let _ = self.read_ring(frontend.ring, bytes, into);
        }
    }

    /// Appends a service's name to what was read before, if there is one of this number.
    fn read_service_name(&self, service: u32, into: &mut Vec<u8>);

    /// Appends lines of backends to what was read before, if there are so many.
    fn read_backend_lines(&self, at: u32, count: u32, into: &mut Vec<u8>);

    /// Sets a service's name. Bytes beyond [`NAME_BYTES`](crate::abi::NAME_BYTES) are cut off, at a character.
    fn set_service_name(&mut self, service: u32, name: &str) -> Result<()>;

    /// All flow records. Records that come and go meanwhile may be missed.
    fn flows(&self) -> Result<Vec<(FlowKey, Flow)>>;

    /// A flow record, if there is one of the key.
    fn flow(&self, key: &FlowKey) -> Result<Option<Flow>>;

    /// Sets flow records; the oldest make room for them when there is none.
    fn put_flows(&mut self, flows: &[(FlowKey, Flow)]) -> Result<()>;

    /// Deletes flow records.
    fn delete_flows(&mut self, keys: &[FlowKey]) -> Result<()>;

    /// Deletes the flow records that the function chooses; says how many.
    fn purge_flows(&mut self, doomed: &dyn Fn(&FlowKey, &Flow) -> bool) -> Result<usize>;

    /// How many flow records name each counter. Records that come and go meanwhile may be missed or counted twice.
    fn flows_per_counter(&self) -> Result<BTreeMap<u32, usize>>;

    /// The prefixes of clients that services let in or not, in the order of their keys.
    fn sources(&self) -> Result<Vec<(SourceKey, Source)>>;

    /// Sets prefixes of clients, in order, until one fails.
    fn put_sources(&mut self, sources: &[(SourceKey, Source)]) -> Result<()>;

    /// Removes prefixes of clients.
    fn delete_sources(&mut self, keys: &[SourceKey]) -> Result<()>;

    /// The prefixes of pools, in the order of their keys.
    fn pools(&self) -> Result<Vec<(PoolKey, Pool)>>;

    /// Sets prefixes of pools, in order, until one fails.
    fn put_pools(&mut self, pools: &[(PoolKey, Pool)]) -> Result<()>;

    /// Removes prefixes of pools.
    fn delete_pools(&mut self, keys: &[PoolKey]) -> Result<()>;
}
