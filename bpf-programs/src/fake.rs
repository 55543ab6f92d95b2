//! The maps in memory, for tests: same answers as the kernel's, a record of what was written, failures on request.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use crate::abi::{
    Backend, Counter, Flow, FlowKey, Frontend, FrontendKey, LINE_BYTES, NAME_BYTES, Pool, PoolKey,
    ServiceCounter, Settings, Source, SourceKey,
};
use crate::error::{Error, Result};
use crate::maps::{Capacity, Maps};

/// One change of [`FakeMaps`], in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A frontend was set.
    PutFrontend(FrontendKey),
    /// A frontend was removed (or was absent).
    DeleteFrontend(FrontendKey),
    /// So many bytes of rings were written from a line on.
    SetRing(u32, usize),
    /// So many lines of backends were written from one on.
    SetBackends(u32, usize),
    /// A backend counter's base was set.
    SetCounterBase(u32),
    /// A backend counter was zeroed.
    ClearCounter(u32),
    /// A service counter's base was set.
    SetServiceCounterBase(u32),
    /// A service counter was zeroed.
    ClearServiceCounter(u32),
    /// A service was named.
    SetServiceName(u32),
    /// The base of a backend's new flows was set.
    SetNewFlowsBase(u32),
    /// So many flow records were deleted.
    PurgeFlows(usize),
    /// A prefix of clients was set.
    PutSource(SourceKey),
    /// A prefix of clients was removed (or was absent).
    DeleteSource(SourceKey),
    /// A pool's prefix was set.
    PutPool(PoolKey),
    /// A pool's prefix was removed (or was absent).
    DeletePool(PoolKey),
}

/// [`Maps`] without a kernel.
#[derive(Debug)]
pub struct FakeMaps {
    capacity: Capacity,
    settings: Settings,
    frontends: BTreeMap<FrontendKey, Frontend>,
    rings: Vec<u8>,
    backends: Vec<Backend>,
    counters: Vec<[Counter; 2]>,
    new_flows: Vec<[u64; 2]>,
    service_counters: Vec<[ServiceCounter; 2]>,
    names: Vec<String>,
    flows: BTreeMap<FlowKey, Flow>,
    sources: BTreeMap<SourceKey, Source>,
    pools: BTreeMap<PoolKey, Pool>,
    puts_until_failure: Option<usize>,
    deletes_until_failure: Option<usize>,
    // Behind a lock only because `grace` takes `&self`.
    operations: Mutex<Vec<Operation>>,
}

impl FakeMaps {
    /// Empty maps, with the default settings.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self::with_settings(capacity, Settings::default())
    }

    /// Empty maps.
    #[must_use]
    pub fn with_settings(capacity: Capacity, settings: Settings) -> Self {
        Self {
            capacity,
            settings,
            frontends: BTreeMap::new(),
            rings: vec![0; capacity.ring_lines as usize * LINE_BYTES],
            backends: vec![Backend::default(); capacity.backend_lines as usize],
            counters: vec![Default::default(); capacity.counters as usize],
            new_flows: vec![Default::default(); capacity.counters as usize],
            service_counters: vec![Default::default(); capacity.services as usize],
            names: vec![String::new(); capacity.services as usize],
            flows: BTreeMap::new(),
            sources: BTreeMap::new(),
            pools: BTreeMap::new(),
            puts_until_failure: None,
            deletes_until_failure: None,
            operations: Mutex::default(),
        }
    }

    /// Lets the n-th frontend put from now on fail (1 is the next), once, with `ENOMEM`.
    pub fn fail_put(&mut self, n: usize) {
        self.puts_until_failure = Some(n);
    }

    /// Lets the n-th frontend delete from now on fail (1 is the next), once, with `ENOMEM`.
    pub fn fail_delete(&mut self, n: usize) {
        self.deletes_until_failure = Some(n);
    }

    /// What was written since the last call.
    pub fn take_operations(&mut self) -> Vec<Operation> {
        std::mem::take(self.operations.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Counts packets of a backend, as a program would.
    pub fn count(&mut self, index: u32, packets: u64, bytes: u64) {
        if let Some([cpus, _]) = self.counters.get_mut(index as usize) {
            cpus.packets += packets;
            cpus.bytes += bytes;
        }
    }

    /// Adds to a service's counters, as a program would.
    pub fn count_service(&mut self, service: u32, add: ServiceCounter) {
        if let Some([cpus, _]) = self.service_counters.get_mut(service as usize) {
            *cpus = cpus.plus(add);
        }
    }

    /// Counts new flows of a backend, as a program would.
    pub fn count_new_flows(&mut self, counter: u32, flows: u64) {
        if let Some([cpus, _]) = self.new_flows.get_mut(counter as usize) {
            *cpus += flows;
        }
    }

    /// Records a flow, as a program would.
    pub fn put_flow(&mut self, key: FlowKey, flow: Flow) {
        self.flows.insert(key, flow);
    }

    fn log(&self, operation: Operation) {
        self.operations.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(operation);
    }

    fn put(&mut self, key: FrontendKey, frontend: Frontend) -> Result<()> {
        let (map, capacity) = match key.address {
            std::net::IpAddr::V4(_) => ("buckets_v4", self.capacity.frontends_v4),
            std::net::IpAddr::V6(_) => ("buckets_v6", self.capacity.frontends_v6),
        };
        if due(&mut self.puts_until_failure) {
            return Err(told_to_fail("update", map));
        }
        let used = self.frontends.keys().filter(|k| k.address.is_ipv4() == key.address.is_ipv4()).count();
        if used >= capacity as usize && !self.frontends.contains_key(&key) {
            return Err(Error::Full { map, capacity });
        }
        self.frontends.insert(key, frontend);
        self.log(Operation::PutFrontend(key));
        Ok(())
    }

    fn delete(&mut self, key: FrontendKey) -> Result<()> {
        if due(&mut self.deletes_until_failure) {
            return Err(told_to_fail("delete", "frontends"));
        }
        self.frontends.remove(&key);
        self.log(Operation::DeleteFrontend(key));
        Ok(())
    }
}

impl Maps for FakeMaps {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn settings(&self) -> Settings {
        self.settings
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey, Frontend)>> {
        Ok(self.frontends.iter().map(|(key, frontend)| (*key, *frontend)).collect())
    }

    fn each_frontend(&self, look: &mut dyn FnMut(&FrontendKey, &Frontend)) -> Result<()> {
        self.frontends.iter().for_each(|(key, frontend)| look(key, frontend));
        Ok(())
    }

    fn frontend(&self, key: &FrontendKey) -> Result<Option<Frontend>> {
        Ok(self.frontends.get(key).copied())
    }

    fn put_frontends(&mut self, frontends: &[(FrontendKey, Frontend)]) -> Vec<Result<()>> {
        frontends.iter().map(|(key, frontend)| self.put(*key, *frontend)).collect()
    }

    fn delete_frontends(&mut self, keys: &[FrontendKey]) -> Vec<Result<()>> {
        keys.iter().map(|key| self.delete(*key)).collect()
    }

    fn read_ring(&self, at_line: u32, bytes: usize, into: &mut Vec<u8>) -> Result<()> {
        let at = at_line as usize * LINE_BYTES;
        let found = self.rings.get(at..at.saturating_add(bytes));
        into.extend_from_slice(found.ok_or_else(|| self.beyond_rings(at_line, bytes))?);
        Ok(())
    }

    fn set_ring(&mut self, at_line: u32, bytes: &[u8]) -> Result<()> {
        let at = at_line as usize * LINE_BYTES;
        let beyond = self.beyond_rings(at_line, bytes.len());
        self.rings.get_mut(at..at.saturating_add(bytes.len())).ok_or(beyond)?.copy_from_slice(bytes);
        self.log(Operation::SetRing(at_line, bytes.len()));
        Ok(())
    }

    fn backend_lines(&self, at: u32, count: u32) -> Result<Vec<Backend>> {
        let found = self.backends.get(at as usize..(at as usize).saturating_add(count as usize));
        let capacity = self.capacity.backend_lines;
        found.map(<[Backend]>::to_vec).ok_or(Error::OutOfRange { map: "backends", at, count, capacity })
    }

    fn set_backend_lines(&mut self, at: u32, lines: &[Backend]) -> Result<()> {
        let capacity = self.capacity.backend_lines;
        let beyond = Error::OutOfRange { map: "backends", at, count: lines.len() as u32, capacity };
        let room = self.backends.get_mut(at as usize..(at as usize).saturating_add(lines.len()));
        room.ok_or(beyond)?.copy_from_slice(lines);
        self.log(Operation::SetBackends(at, lines.len()));
        Ok(())
    }

    fn counter(&self, index: u32) -> Result<Counter> {
        let [cpus, base] = *at(&self.counters, "counters", index)?;
        Ok(cpus.plus(base))
    }

    fn set_counter_base(&mut self, index: u32, base: Counter) -> Result<()> {
        at_mut(&mut self.counters, "counters", index)?[1] = base;
        self.log(Operation::SetCounterBase(index));
        Ok(())
    }

    fn clear_counter(&mut self, index: u32) -> Result<()> {
        *at_mut(&mut self.counters, "counters", index)? = Default::default();
        *at_mut(&mut self.new_flows, "new_flows", index)? = Default::default();
        self.log(Operation::ClearCounter(index));
        Ok(())
    }

    fn new_flows(&self, counter: u32) -> Result<u64> {
        let [cpus, base] = *at(&self.new_flows, "new_flows", counter)?;
        Ok(cpus.wrapping_add(base))
    }

    fn set_new_flows_base(&mut self, counter: u32, base: u64) -> Result<()> {
        at_mut(&mut self.new_flows, "new_flows", counter)?[1] = base;
        self.log(Operation::SetNewFlowsBase(counter));
        Ok(())
    }

    fn service_counter(&self, service: u32) -> Result<ServiceCounter> {
        let [cpus, base] = *at(&self.service_counters, "service_counters", service)?;
        Ok(cpus.plus(base))
    }

    fn set_service_counter_base(&mut self, service: u32, base: ServiceCounter) -> Result<()> {
        at_mut(&mut self.service_counters, "service_counters", service)?[1] = base;
        self.log(Operation::SetServiceCounterBase(service));
        Ok(())
    }

    fn clear_service_counter(&mut self, service: u32) -> Result<()> {
        *at_mut(&mut self.service_counters, "service_counters", service)? = Default::default();
        self.log(Operation::ClearServiceCounter(service));
        Ok(())
    }

    fn service_name(&self, service: u32) -> Result<String> {
        at(&self.names, "service_names", service).cloned()
    }

    fn read_service_name(&self, service: u32, into: &mut Vec<u8>) {
        into.extend(self.names.get(service as usize).into_iter().flat_map(|name| name.bytes()));
    }

    fn read_backend_lines(&self, at: u32, count: u32, into: &mut Vec<u8>) {
        for line in self.backend_lines(at, count).unwrap_or_default() {
            into.extend_from_slice(bytemuck::bytes_of(&line));
        }
    }

    fn set_service_name(&mut self, service: u32, name: &str) -> Result<()> {
        let kept = &name[..name.floor_char_boundary(NAME_BYTES)];
        *at_mut(&mut self.names, "service_names", service)? = kept.to_owned();
        self.log(Operation::SetServiceName(service));
        Ok(())
    }

    fn flows(&self) -> Result<Vec<(FlowKey, Flow)>> {
        Ok(self.flows.iter().map(|(key, flow)| (*key, *flow)).collect())
    }

    fn flow(&self, key: &FlowKey) -> Result<Option<Flow>> {
        Ok(self.flows.get(key).copied())
    }

    fn put_flows(&mut self, flows: &[(FlowKey, Flow)]) -> Result<()> {
        self.flows.extend(flows.iter().copied());
        Ok(())
    }

    fn delete_flows(&mut self, keys: &[FlowKey]) -> Result<()> {
        self.flows.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    fn purge_flows(&mut self, doomed: &dyn Fn(&FlowKey, &Flow) -> bool) -> Result<usize> {
        let before = self.flows.len();
        self.flows.retain(|key, flow| !doomed(key, flow));
        let purged = before - self.flows.len();
        self.log(Operation::PurgeFlows(purged));
        Ok(purged)
    }

    fn flows_per_counter(&self) -> Result<BTreeMap<u32, usize>> {
        let mut counts = BTreeMap::new();
        for flow in self.flows.values() {
            *counts.entry(flow.counter).or_insert(0) += 1;
        }
        Ok(counts)
    }

    fn sources(&self) -> Result<Vec<(SourceKey, Source)>> {
        Ok(self.sources.iter().map(|(key, source)| (*key, *source)).collect())
    }

    fn put_sources(&mut self, sources: &[(SourceKey, Source)]) -> Result<()> {
        for (key, source) in sources {
            room(&self.sources, key, "sources", self.capacity.sources)?;
            self.sources.insert(*key, *source);
            self.log(Operation::PutSource(*key));
        }
        Ok(())
    }

    fn delete_sources(&mut self, keys: &[SourceKey]) -> Result<()> {
        for key in keys {
            self.sources.remove(key);
            self.log(Operation::DeleteSource(*key));
        }
        Ok(())
    }

    fn pools(&self) -> Result<Vec<(PoolKey, Pool)>> {
        Ok(self.pools.iter().map(|(key, pool)| (*key, *pool)).collect())
    }

    fn put_pools(&mut self, pools: &[(PoolKey, Pool)]) -> Result<()> {
        for (key, pool) in pools {
            room(&self.pools, key, "pools", self.capacity.pools)?;
            self.pools.insert(*key, *pool);
            self.log(Operation::PutPool(*key));
        }
        Ok(())
    }

    fn delete_pools(&mut self, keys: &[PoolKey]) -> Result<()> {
        for key in keys {
            self.pools.remove(key);
            self.log(Operation::DeletePool(*key));
        }
        Ok(())
    }
}

impl FakeMaps {
    fn beyond_rings(&self, at: u32, bytes: usize) -> Error {
        let count = bytes.div_ceil(LINE_BYTES) as u32;
        Error::OutOfRange { map: "rings", at, count, capacity: self.capacity.ring_lines }
    }
}

/// Whether a map has room for a key.
fn room<K: Ord, V>(entries: &BTreeMap<K, V>, key: &K, map: &'static str, capacity: u32) -> Result<()> {
    if entries.len() < capacity as usize || entries.contains_key(key) {
        return Ok(());
    }
    Err(Error::Full { map, capacity })
}

/// Counts down to the call that is to fail; true for that one.
fn due(until_failure: &mut Option<usize>) -> bool {
    *until_failure = until_failure.map(|n| n.saturating_sub(1));
    let due = *until_failure == Some(0);
    if due {
        *until_failure = None;
    }
    due
}

fn told_to_fail(call: &'static str, map: &str) -> Error {
    Error::kernel(call, map, io::Error::from_raw_os_error(libc::ENOMEM))
}

fn at<'a, T>(all: &'a [T], map: &'static str, index: u32) -> Result<&'a T> {
    let capacity = all.len() as u32;
    all.get(index as usize).ok_or(Error::OutOfRange { map, at: index, count: 1, capacity })
}

fn at_mut<'a, T>(all: &'a mut [T], map: &'static str, index: u32) -> Result<&'a mut T> {
    let capacity = all.len() as u32;
    all.get_mut(index as usize).ok_or(Error::OutOfRange { map, at: index, count: 1, capacity })
}

#[cfg(test)]
mod tests;
