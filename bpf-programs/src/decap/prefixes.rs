//! The prefixes that the program knows: read, and changed by as little as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::abi::{IPV4, IPV6};
use crate::abi::PoolKey;
use crate::error::{Error, Result};
use crate::sys::Hash;

/// A prefix: an address without bits behind it, and how many bits of its family count.
pub type Prefix = (IpAddr, u8);

/// What the program goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Outer sources that are believed.
    pub from: BTreeSet<Prefix>,
    /// Outer destinations: the addresses of the node.
    pub own: BTreeSet<Prefix>,
    /// Inner destinations that are taken.
    pub to: BTreeSet<Prefix>,
    /// The UDP port at which GUE arrives.
    pub gue_port: u16,
}

/// One of a program's sets of prefixes; an entry's value is its family.
pub(crate) struct Prefixes {
    map: Hash<PoolKey, u32>,
    name: &'static str,
}

impl Prefixes {
    pub(crate) fn new(map: Hash<PoolKey, u32>, name: &'static str) -> Self {
        Self { map, name }
    }

    /// Those that the program believes; a damaged entry is none.
    pub(crate) fn all(&self) -> Result<BTreeSet<Prefix>> {
        let held = self.held()?;
        Ok(held.iter().filter(|(key, value)| **value == value_of(key)).map(|(key, _)| key.prefix()).collect())
    }

    /// Adds those of these that are missing.
    pub(crate) fn add(&mut self, wanted: &BTreeSet<Prefix>) -> Result<()> {
        let held = self.held()?;
        let entries = wanted.iter().map(key_of).map(|key| (key, value_of(&key)));
        let missing: Vec<_> = entries.filter(|(key, value)| held.get(key) != Some(value)).collect();
        let (_, result) = self.map.update(&missing);
        result.map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Error::Full { map: self.name, capacity: self.map.capacity() },
            _ => Error::kernel("update", self.name, error),
        })
    }

    /// Removes all but these.
    pub(crate) fn keep(&mut self, wanted: &BTreeSet<Prefix>) -> Result<()> {
        let wanted: BTreeSet<PoolKey> = wanted.iter().map(key_of).collect();
        for key in self.held()?.keys().filter(|key| !wanted.contains(key)) {
            match self.map.delete(key) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::kernel("delete", self.name, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn held(&self) -> Result<BTreeMap<PoolKey, u32>> {
        let mut held = BTreeMap::new();
        let read = self.map.for_each(|key, value| {
            held.insert(*key, *value);
        });
        read.map_err(|error| Error::kernel("lookup", self.name, error))?;
        Ok(held)
    }
}

fn key_of(&(address, bits): &Prefix) -> PoolKey {
    PoolKey::new(address, bits)
}

fn value_of(key: &PoolKey) -> u32 {
    if key.prefix().0.is_ipv4() { IPV4 } else { IPV6 }
}
