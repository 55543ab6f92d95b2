//! The maps of a loaded program.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{Ordering, fence};

use bytemuck::Pod;

use crate::abi::{
    Backend, Counter, Flow, FlowKey, Fragment, FragmentKey, Frontend, FrontendKey, LINE_BYTES, Meta,
    NAME_BYTES, Pool, PoolKey, READY, ServiceCounter, Settings, Source, SourceKey,
};
use crate::error::{Error, Result};
use crate::frontends::Frontends;
use crate::maps::{Capacity, Maps};
use crate::mmap::Mapped;
use crate::sys::Hash;

/// One line of `rings` or `service_names`.
pub(crate) type Line = [u8; LINE_BYTES];

/// The word of a backend's line that holds its flags.
const FLAGS_WORD: usize = 1;

/// [`Maps`] in the kernel.
pub(crate) struct KernelMaps {
    pub frontends: Frontends,
    pub rings: Mapped<Line>,
    pub backends: Mapped<Backend>,
    pub counters: Mapped<Counter>,
    pub new_flows: Mapped<u64>,
    pub service_counters: Mapped<ServiceCounter>,
    pub service_names: Mapped<Line>,
    pub flows: Hash<FlowKey, Flow>,
    pub fragments: Hash<FragmentKey, Fragment>,
    pub sources: Hash<SourceKey, Source>,
    pub pools: Hash<PoolKey, Pool>,
    pub meta: Meta,
}

impl Maps for KernelMaps {
    fn capacity(&self) -> Capacity {
        let (frontends_v4, frontends_v6) = self.frontends.capacity();
        Capacity {
            frontends_v4,
            frontends_v6,
            ring_lines: self.rings.len(),
            backend_lines: self.backends.len(),
            counters: self.meta.counter_stride,
            services: self.meta.service_stride,
            flows: self.flows.capacity(),
            fragments: self.fragments.capacity(),
            sources: self.sources.capacity(),
            pools: self.pools.capacity(),
        }
    }

    fn settings(&self) -> Settings {
        self.meta.settings
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey, Frontend)>> {
        Ok(self.frontends.all())
    }

    fn each_frontend(&self, look: &mut dyn FnMut(&FrontendKey, &Frontend)) -> Result<()> {
        self.frontends.each(look);
        Ok(())
    }

    fn frontend(&self, key: &FrontendKey) -> Result<Option<Frontend>> {
        Ok(self.frontends.get(key))
    }

    fn put_frontends(&mut self, frontends: &[(FrontendKey, Frontend)]) -> Vec<Result<()>> {
        frontends.iter().map(|(key, frontend)| self.frontends.put(key, frontend)).collect()
    }

    fn delete_frontends(&mut self, keys: &[FrontendKey]) -> Vec<Result<()>> {
        keys.iter().map(|key| self.frontends.delete(key)).map(Ok).collect()
    }

    fn read_ring(&self, at_line: u32, bytes: usize, into: &mut Vec<u8>) -> Result<()> {
        match self.rings.read_bytes(at_line, bytes, into) {
            true => Ok(()),
            false => Err(self.beyond_rings(at_line, bytes)),
        }
    }

    fn set_ring(&mut self, at_line: u32, bytes: &[u8]) -> Result<()> {
        if self.rings.set_bytes(at_line, bytes) {
            Ok(())
        } else {
            Err(self.beyond_rings(at_line, bytes.len()))
        }
    }

    fn backend_lines(&self, at: u32, count: u32) -> Result<Vec<Backend>> {
        let lines = (0..count).map(|k| self.backends.get(at.checked_add(k)?));
        lines.collect::<Option<_>>().ok_or_else(|| out_of_range(&self.backends, "backends", at, count))
    }

    fn set_backend_lines(&mut self, at: u32, lines: &[Backend]) -> Result<()> {
        let count = lines.len() as u32;
        if at.checked_add(count).is_none_or(|end| end > self.backends.len()) {
            return Err(out_of_range(&self.backends, "backends", at, count));
        }
        const WORDS: usize = LINE_BYTES / 8;
        for (index, line) in (at..).zip(lines) {
            if line.flags & READY == 0 {
                self.backends.set_words(index, line, [FLAGS_WORD]);
                fence(Ordering::Release);
            }
            self.backends.set_words(index, line, (0..WORDS).filter(|word| *word != FLAGS_WORD));
            // Not only the compiler, the CPU too must not let READY be seen before the rest.
            fence(Ordering::Release);
            self.backends.set_words(index, line, [FLAGS_WORD]);
        }
        Ok(())
    }

    fn counter(&self, index: u32) -> Result<Counter> {
        let rows = self.rows(&self.counters, self.meta.counter_stride, "counters", index)?;
        Ok(rows.filter_map(|at| self.counters.get(at)).fold(Counter::default(), Counter::plus))
    }

    fn set_counter_base(&mut self, index: u32, base: Counter) -> Result<()> {
        let at = self.rows(&self.counters, self.meta.counter_stride, "counters", index)?.last();
        self.counters.set(at.unwrap_or(u32::MAX), &base);
        Ok(())
    }

    fn clear_counter(&mut self, index: u32) -> Result<()> {
        for at in self.rows(&self.counters, self.meta.counter_stride, "counters", index)? {
            self.counters.set(at, &Counter::default());
            self.new_flows.set(at, &0);
        }
        Ok(())
    }

    fn new_flows(&self, counter: u32) -> Result<u64> {
        let rows = self.rows(&self.new_flows, self.meta.counter_stride, "new_flows", counter)?;
        Ok(rows.filter_map(|at| self.new_flows.get(at)).fold(0, u64::wrapping_add))
    }

    fn set_new_flows_base(&mut self, counter: u32, base: u64) -> Result<()> {
        let at = self.rows(&self.new_flows, self.meta.counter_stride, "new_flows", counter)?.last();
        self.new_flows.set(at.unwrap_or(u32::MAX), &base);
        Ok(())
    }

    fn service_counter(&self, service: u32) -> Result<ServiceCounter> {
        let stride = self.meta.service_stride;
        let rows = self.rows(&self.service_counters, stride, "service_counters", service)?;
        let counters = rows.filter_map(|at| self.service_counters.get(at));
        Ok(counters.fold(ServiceCounter::default(), ServiceCounter::plus))
    }

    fn set_service_counter_base(&mut self, service: u32, base: ServiceCounter) -> Result<()> {
        let stride = self.meta.service_stride;
        let at = self.rows(&self.service_counters, stride, "service_counters", service)?.last();
        self.service_counters.set(at.unwrap_or(u32::MAX), &base);
        Ok(())
    }

    fn clear_service_counter(&mut self, service: u32) -> Result<()> {
        let stride = self.meta.service_stride;
        for at in self.rows(&self.service_counters, stride, "service_counters", service)? {
            self.service_counters.set(at, &ServiceCounter::default());
        }
        Ok(())
    }

    fn service_name(&self, service: u32) -> Result<String> {
        let line = self.service_names.get(service);
        let line = line.ok_or_else(|| out_of_range(&self.service_names, "service_names", service, 1))?;
        let name = line.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn read_service_name(&self, service: u32, into: &mut Vec<u8>) {
        self.service_names.read_bytes(service, NAME_BYTES, into);
    }

    fn read_backend_lines(&self, at: u32, count: u32, into: &mut Vec<u8>) {
        self.backends.read_bytes(at, count as usize * LINE_BYTES, into);
    }

    fn set_service_name(&mut self, service: u32, name: &str) -> Result<()> {
        let mut line = [0; NAME_BYTES];
        let kept = &name[..name.floor_char_boundary(NAME_BYTES)];
        for (to, from) in line.iter_mut().zip(kept.bytes()) {
            *to = from;
        }
        if self.service_names.set(service, &line) {
            return Ok(());
        }
        Err(out_of_range(&self.service_names, "service_names", service, 1))
    }

    fn flows(&self) -> Result<Vec<(FlowKey, Flow)>> {
        let mut flows = Vec::new();
        let read = self.flows.for_each(|key, flow| flows.push((*key, *flow)));
        read.map_err(|error| Error::kernel("lookup", "flows", error))?;
        Ok(flows)
    }

    fn flow(&self, key: &FlowKey) -> Result<Option<Flow>> {
        self.flows.get(key).map_err(|error| Error::kernel("lookup", "flows", error))
    }

    fn put_flows(&mut self, flows: &[(FlowKey, Flow)]) -> Result<()> {
        let (_, result) = self.flows.update(flows);
        result.map_err(|error| Error::kernel("update", "flows", error))
    }

    fn delete_flows(&mut self, keys: &[FlowKey]) -> Result<()> {
        delete_all(&self.flows, "flows", keys)
    }

    fn purge_flows(&mut self, doomed: &dyn Fn(&FlowKey, &Flow) -> bool) -> Result<usize> {
        let mut keys = Vec::new();
        let read = self.flows.for_each(|key, flow| {
            if doomed(key, flow) {
                keys.push(*key);
            }
        });
        read.map_err(|error| Error::kernel("lookup", "flows", error))?;
        let mut purged = 0;
        for key in keys {
            let deleted = present_or_not(self.flows.delete(&key));
            purged += usize::from(deleted.map_err(|error| Error::kernel("delete", "flows", error))?);
        }
        Ok(purged)
    }

    fn flows_per_counter(&self) -> Result<BTreeMap<u32, usize>> {
        let mut counts = BTreeMap::new();
        let read = self.flows.for_each(|_, flow| *counts.entry(flow.counter).or_insert(0) += 1);
        read.map_err(|error| Error::kernel("lookup", "flows", error))?;
        Ok(counts)
    }

    fn sources(&self) -> Result<Vec<(SourceKey, Source)>> {
        all(&self.sources, "sources")
    }

    fn put_sources(&mut self, sources: &[(SourceKey, Source)]) -> Result<()> {
        put_all(&self.sources, "sources", sources)
    }

    fn delete_sources(&mut self, keys: &[SourceKey]) -> Result<()> {
        delete_all(&self.sources, "sources", keys)
    }

    fn pools(&self) -> Result<Vec<(PoolKey, Pool)>> {
        all(&self.pools, "pools")
    }

    fn put_pools(&mut self, pools: &[(PoolKey, Pool)]) -> Result<()> {
        put_all(&self.pools, "pools", pools)
    }

    fn delete_pools(&mut self, keys: &[PoolKey]) -> Result<()> {
        delete_all(&self.pools, "pools", keys)
    }
}

impl KernelMaps {
    /// The elements of a counter: one for each CPU, and last the base.
    fn rows<T: Pod>(
        &self,
        map: &Mapped<T>,
        stride: u32,
        name: &'static str,
        index: u32,
    ) -> Result<impl Iterator<Item = u32> + use<T>> {
        if index >= stride {
            return Err(Error::OutOfRange { map: name, at: index, count: 1, capacity: stride });
        }
        Ok((index..map.len()).step_by(stride.max(1) as usize).take(self.meta.ncpu as usize + 1))
    }

    fn beyond_rings(&self, at: u32, bytes: usize) -> Error {
        out_of_range(&self.rings, "rings", at, bytes.div_ceil(LINE_BYTES) as u32)
    }
}

/// All entries, in the order of their keys.
pub(crate) fn all<K: Pod + Ord, V: Pod>(map: &Hash<K, V>, name: &'static str) -> Result<Vec<(K, V)>> {
    let mut all = BTreeMap::new();
    let read = map.for_each(|key, value| {
        all.insert(*key, *value);
    });
    read.map_err(|error| Error::kernel("lookup", name, error))?;
    Ok(all.into_iter().collect())
}

/// Sets entries until one fails.
pub(crate) fn put_all<K: Pod, V: Pod>(
    map: &Hash<K, V>,
    name: &'static str,
    entries: &[(K, V)],
) -> Result<()> {
    let (_, result) = map.update(entries);
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => Error::Full { map: name, capacity: map.capacity() },
        _ => Error::kernel("update", name, error),
    })
}

pub(crate) fn delete_all<K: Pod, V: Pod>(map: &Hash<K, V>, name: &'static str, keys: &[K]) -> Result<()> {
    for key in keys {
        present_or_not(map.delete(key)).map_err(|error| Error::kernel("delete", name, error))?;
    }
    Ok(())
}

/// Whether there was something to delete.
pub(crate) fn present_or_not(deleted: io::Result<()>) -> io::Result<bool> {
    match deleted {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn out_of_range<T: Pod>(map: &Mapped<T>, name: &'static str, at: u32, count: u32) -> Error {
    Error::OutOfRange { map: name, at, count, capacity: map.len() }
}
