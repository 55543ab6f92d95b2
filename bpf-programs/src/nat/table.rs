//! The table of mappings as user space sees it: how full it is, what in it is over, and copies of it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytemuck::Pod;

use super::Maps;
use super::abi::{ANSWERED, FIN_IN, FIN_OUT, Flow, Given, IS_OVER, Key, Mapping, Port, RESET, mapped};
use crate::abi::{TCP, UDP};
use crate::error::{Error, Result};
use crate::kernel_maps::{all, delete_all, put_all};
use crate::sys::Hash;

const NS_PER_SECOND: u64 = 1_000_000_000;

const QUESTIONS_PORT: [u8; 2] = 53_u16.to_be_bytes();

/// So many mappings are read to say how full a table is. Of a larger one the rest is estimated: reading all of it takes a
/// tenth of a second, and this is asked for in every pass.
const ENOUGH: usize = 8192;

/// How much of the table is used. Of a table with more than some thousand entries it is estimated, to about a percent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Mappings that are alive.
    pub flows: u32,
    /// Entries whose time is over, and which make room when that is needed.
    pub over: u32,
    /// The room for both.
    pub capacity: u32,
    /// What is alive of each outer address; those without a flow are not there.
    pub addresses: BTreeMap<IpAddr, Used>,
}

impl Usage {
    /// The remote to which most ports of one outer address are in use.
    #[must_use]
    pub fn fullest(&self) -> Option<Fullest> {
        self.addresses.values().filter_map(|used| used.fullest).max()
    }
}

/// How much of an outer address is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Mappings that are alive.
    pub flows: u32,
    /// The remote to which most of its ports are in use.
    pub fullest: Option<Fullest>,
}

/// A remote, and how many ports of an outer address are in use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fullest {
    /// How many.
    pub ports: u32,
    /// As in the IP header.
    pub protocol: u8,
    /// The remote's address.
    pub remote: IpAddr,
    /// The remote's port.
    pub remote_port: u16,
    /// The outer address.
    pub outer: IpAddr,
}

/// A flow that is translated. Of a ping the ports are its identifiers, and that of the remote is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Translated {
    /// As in the IP header.
    pub protocol: u8,
    /// The pod's end.
    pub inner: SocketAddr,
    /// What the remote sees in its place.
    pub outer: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

impl Translated {
    fn of(key: &Key, mapping: &Mapping) -> Self {
        Self {
            protocol: key.protocol,
            inner: socket(mapping.inner, mapping.inner_port),
            outer: socket(key.outer, key.outer_port),
            remote: socket(key.remote, key.remote_port),
        }
    }
}

/// The flows with a remote that are alive.
pub(super) fn with_remote(
    mappings: &Hash<Key, Mapping>,
    protocol: u8,
    remote: SocketAddr,
    now_ns: u64,
) -> Result<Vec<Translated>> {
    let found = all(mappings, "mappings")?;
    let alive = found.iter().filter(|(key, mapping)| is_alive(key, mapping, now_ns));
    let flows = alive.map(|(key, mapping)| Translated::of(key, mapping));
    Ok(flows.filter(|flow| flow.protocol == protocol && flow.remote == remote).collect())
}

/// The record of a flow to a pod's own address, if there is one: when its last packet was seen.
pub(super) fn direct(
    direct: &Hash<Flow, u64>,
    protocol: u8,
    inner: SocketAddr,
    remote: SocketAddr,
) -> Result<Option<u64>> {
    let flow = Flow {
        inner: mapped(inner.ip()),
        remote: mapped(remote.ip()),
        inner_port: inner.port().to_be_bytes(),
        remote_port: remote.port().to_be_bytes(),
        protocol,
        zero: [0; 3],
    };
    direct.get(&flow).map_err(|error| Error::kernel("lookup", "direct", error))
}

fn socket(address: [u8; 16], port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(address).to_canonical(), u16::from_be_bytes(port))
}

pub(super) fn usage(mappings: &Hash<Key, Mapping>, now_ns: u64) -> Result<Usage> {
    let (mut flows, mut over) = (0, 0);
    let mut remotes: BTreeMap<Key, u32> = BTreeMap::new();
    let read = mappings.sample(ENOUGH, |key, mapping| {
        if !is_alive(key, mapping, now_ns) {
            over += 1;
            return;
        }
        flows += 1;
        *remotes.entry(Key { outer_port: [0; 2], ..*key }).or_default() += 1;
    });
    let capacity = mappings.capacity();
    let buckets = read.map_err(|error| Error::kernel("lookup", "mappings", error))?;
    // The kernel's hash spreads entries over as many buckets as there is room for, rounded up to a power of two.
    let all = |count: u32| match buckets {
        Some(read @ 1..) => {
            let estimate = u64::from(count) * u64::from(capacity.next_power_of_two()) / u64::from(read);
            u32::try_from(estimate).unwrap_or(u32::MAX).min(capacity)
        }
        _ => count,
    };
    let addresses = by_address(remotes.into_iter().map(|(key, ports)| fullest(&key, all(ports))));
    Ok(Usage { flows: all(flows), over: all(over), capacity, addresses })
}

/// What is alive of each outer address.
pub(super) fn used(mappings: &Hash<Key, Mapping>, now_ns: u64) -> Result<BTreeMap<IpAddr, Used>> {
    let mut remotes: BTreeMap<Key, u32> = BTreeMap::new();
    for (key, _) in all(mappings, "mappings")?.iter().filter(|(key, mapping)| is_alive(key, mapping, now_ns))
    {
        *remotes.entry(Key { outer_port: [0; 2], ..*key }).or_default() += 1;
    }
    Ok(by_address(remotes.into_iter().map(|(key, ports)| fullest(&key, ports))))
}

fn by_address(remotes: impl Iterator<Item = Fullest>) -> BTreeMap<IpAddr, Used> {
    let mut used: BTreeMap<IpAddr, Used> = BTreeMap::new();
    for fullest in remotes {
        let of = used.entry(fullest.outer).or_default();
        of.flows = of.flows.saturating_add(fullest.ports);
        of.fullest = of.fullest.max(Some(fullest));
    }
    used
}

fn fullest(key: &Key, ports: u32) -> Fullest {
    let remote = socket(key.remote, key.remote_port);
    Fullest {
        ports,
        protocol: key.protocol,
        remote: remote.ip(),
        remote_port: remote.port(),
        outer: Ipv6Addr::from(key.outer).to_canonical(),
    }
}

/// Writes entries of `moved` for all flows. Of a flow that has several mappings, earlier ones whose time is over, the entry
/// names the one that was used last.
pub(super) fn fix_ports(mappings: &Hash<Key, Mapping>, moved: &Hash<Given, Port>) -> Result<()> {
    let mut found = all(mappings, "mappings")?;
    found.sort_by_key(|(_, mapping)| (mapping.seen_ns > IS_OVER, mapping.seen_ns.cast_signed()));
    let entries: BTreeMap<Given, Port> = found
        .iter()
        .map(|(key, mapping)| (given(key, mapping), Port { port: key.outer_port, zero: [0; 6] }))
        .collect();
    put_all(moved, "moved", &entries.into_iter().collect::<Vec<_>>())
}

/// Fills a table of mappings from another one: with those that are alive, and if they are too many, with those that were
/// used last.
pub(super) fn copy_mappings(from: &Maps, to: &Maps, now_ns: u64) -> Result<()> {
    let mut found = all(&from.mappings, "mappings")?;
    found.retain(|(key, mapping)| is_alive(key, mapping, now_ns));
    found.sort_by_key(|(_, mapping)| std::cmp::Reverse(mapping.seen_ns.cast_signed()));
    found.truncate(to.mappings.capacity() as usize);
    let ports: BTreeMap<Given, Port> = all(&from.moved, "moved")?.into_iter().collect();
    for (key, mapping) in &found {
        match to.mappings.insert(key, mapping) {
            // Somebody's packet was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => break,
            other => other.map_err(|error| Error::kernel("update", "mappings", error))?,
        }
        to.turns.push(key).map_err(|error| Error::kernel("update", "turns", error))?;
        let given = given(key, mapping);
        if let Some(port) = ports.get(&given).filter(|port| port.port == key.outer_port) {
            put_all(&to.moved, "moved", &[(given, *port)])?;
        }
    }
    Ok(())
}

/// Fills a table from another one.
pub(super) fn copy<K: Pod + Ord, V: Pod>(
    from: &Hash<K, V>,
    to: &Hash<K, V>,
    name: &'static str,
) -> Result<()> {
    let entries = all(from, name)?;
    let room = entries.len().min(to.capacity() as usize);
    put_all(to, name, &entries[..room])
}

impl Maps {
    pub(super) fn forget(&mut self) -> Result<()> {
        while self.turns.pop().map_err(|error| Error::kernel("empty", "turns", error))?.is_some() {}
        empty(&self.mappings, "mappings")?;
        empty(&self.moved, "moved")?;
        empty(&self.direct, "direct")?;
        empty(&self.fragments, "nat_fragments")
    }

    /// Lets everything be older by so many nanoseconds.
    pub(super) fn age(&mut self, ns: u64) -> Result<()> {
        // Before the machine was, if it has to be: differences of times are all that is asked for.
        let older = |seen_ns: u64| seen_ns.wrapping_sub(ns);
        rewrite(&self.mappings, |mapping| {
            if mapping.seen_ns > IS_OVER {
                mapping.seen_ns = older(mapping.seen_ns);
            }
        })?;
        rewrite(&self.direct, |seen_ns| *seen_ns = older(*seen_ns))?;
        rewrite(&self.fragments, |fragment| fragment.seen_ns = older(fragment.seen_ns))?;
        let mut settings = self.settings.get(0).unwrap_or_default();
        settings.swept_ns = older(settings.swept_ns);
        self.settings.set(0, &settings);
        Ok(())
    }
}

fn empty<K: Pod + Ord, V: Pod>(map: &Hash<K, V>, name: &'static str) -> Result<()> {
    let keys: Vec<K> = all(map, name)?.into_iter().map(|(key, _)| key).collect();
    delete_all(map, name, &keys)
}

fn rewrite<K: Pod + Ord, V: Pod>(map: &Hash<K, V>, change: impl Fn(&mut V)) -> Result<()> {
    let mut entries = all(map, "records")?;
    entries.iter_mut().for_each(|(_, value)| change(value));
    put_all(map, "records", &entries)
}

fn given(key: &Key, mapping: &Mapping) -> Given {
    let flow = Flow {
        inner: mapping.inner,
        remote: key.remote,
        inner_port: mapping.inner_port,
        remote_port: key.remote_port,
        protocol: key.protocol,
        zero: [0; 3],
    };
    Given { flow, outer: key.outer }
}

fn is_alive(key: &Key, mapping: &Mapping, now_ns: u64) -> bool {
    // The programs' clock is a tick late, and may be ahead of a reading that was made before theirs.
    if mapping.seen_ns <= IS_OVER {
        return false;
    }
    let ago = now_ns.wrapping_sub(mapping.seen_ns).cast_signed().max(0).unsigned_abs();
    ago <= lifetime_seconds(key, mapping.state) * NS_PER_SECOND
}

/// The table of lifetimes in `docs/nat.md`.
fn lifetime_seconds(key: &Key, state: u8) -> u64 {
    let is_closing = state & RESET != 0 || state & (FIN_OUT | FIN_IN) == FIN_OUT | FIN_IN;
    match key.protocol {
        TCP if state & ANSWERED != 0 && !is_closing => 7440,
        TCP => 240,
        UDP if key.remote_port == QUESTIONS_PORT => 30,
        UDP if state & ANSWERED != 0 => 300,
        UDP => 120,
        _ => 60,
    }
}
