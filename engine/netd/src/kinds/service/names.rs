//! Numbers of services: what their entries, counters and sources are found by.

use super::space::Space;
use netd_bpf::Maps;
use netd_bpf::abi::Frontend;
use std::collections::{BTreeSet, HashMap};

/// Which names have numbers, and which numbers are free.
pub struct Names {
    numbers: HashMap<String, u32>,
    free: Space,
}

impl Names {
    /// Those of all entries, VIPs and pools that name what is there.
    pub fn of(maps: &dyn Maps) -> netd_bpf::Result<Self> {
        Self::among(maps, maps.frontends()?.iter().map(|(_, entry)| entry))
    }

    /// The same, of entries that were read already.
    pub fn among<'e>(
        maps: &dyn Maps,
        entries: impl IntoIterator<Item = &'e Frontend>,
    ) -> netd_bpf::Result<Self> {
        let capacity = maps.capacity();
        let mut named: BTreeSet<u32> = maps.pools()?.into_iter().map(|(_, pool)| pool.service).collect();
        // A damaged entry uses nothing; it is written anew.
        let whole = entries.into_iter().filter(|entry| capacity.holds(entry));
        named.extend(whole.map(|entry| entry.service));
        let mut numbers = HashMap::new();
        for &number in &named {
            numbers.insert(maps.service_name(number)?, number);
        }
        let free = Space::new(capacity.services, named.into_iter().map(|number| (number, 1)));
        Ok(Self { numbers, free })
    }

    /// The number of a name that has one.
    pub fn known(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The number of a name; one that has none gets one, with counters at zero.
    ///
    /// # Errors
    ///
    /// [`netd_bpf::Error::Full`] when all are taken.
    pub fn number(&mut self, maps: &mut dyn Maps, name: &str) -> netd_bpf::Result<u32> {
        if let Some(number) = self.known(name) {
            return Ok(number);
        }
        let capacity = maps.capacity().services;
        let number = self.free.take(1).ok_or(netd_bpf::Error::Full { map: "service_names", capacity })?;
        maps.clear_service_counter(number)?;
        maps.set_service_name(number, name)?;
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    /// How many are taken.
    pub fn taken(&self, capacity: u32) -> u32 {
        u32::try_from(u64::from(capacity).saturating_sub(self.free.free())).unwrap_or(capacity)
    }
}
