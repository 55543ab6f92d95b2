//! The frontends of a loaded program: hash tables in mapped arrays, changed under traffic without a system call.
//!
//! `include/lookup.h` reads them. A packet that is under way may hold an entry or a line for as long as it takes, so
//! what is let go of is put to another use only after a grace period. That is waited for only when nothing else is
//! free; the arrays have twice the room that the keys need.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{Ordering, fence};

use crate::abi::{EntryV4, EntryV6, Frontend, FrontendKey};
use crate::entries::Table;
use crate::error::{Error, Result};
use crate::mmap::Mapped;

/// The tables of both families and the lines that they name.
pub(crate) struct Frontends {
    v4: Table<EntryV4>,
    v6: Table<EntryV6>,
    lines: Mapped<Frontend>,
    /// Found out when something is first written.
    lines_free: Option<Lines>,
}

/// The lines that no entry names.
struct Lines {
    /// No packet can hold them.
    free: Vec<u32>,
    /// Let go of since the last grace period.
    gone: Vec<u32>,
}

impl Frontends {
    pub(crate) fn new(v4: Table<EntryV4>, v6: Table<EntryV6>, lines: Mapped<Frontend>) -> Self {
        Self { v4, v6, lines, lines_free: None }
    }

    /// How many frontends there is room for: IPv4, IPv6.
    pub(crate) fn capacity(&self) -> (u32, u32) {
        (self.v4.capacity(), self.v6.capacity())
    }

    /// All frontends, in the order of their keys. An entry that names a line that is not there is none.
    pub(crate) fn all(&self) -> Vec<(FrontendKey, Frontend)> {
        let mut named: Vec<_> = self.named().collect();
        named.sort_unstable();
        named.into_iter().filter_map(|(key, at)| Some((key, self.lines.get(at)?))).collect()
    }

    /// Looks at all frontends, as they lie.
    pub(crate) fn each(&self, look: &mut dyn FnMut(&FrontendKey, &Frontend)) {
        for (key, at) in self.named() {
            if let Some(frontend) = self.lines.get(at) {
                look(&key, &frontend);
            }
        }
    }

    /// The frontend of a key. An entry that names a line that is not there is none.
    pub(crate) fn get(&self, key: &FrontendKey) -> Option<Frontend> {
        let number = match key.address {
            IpAddr::V4(_) => self.v4.number(key),
            IpAddr::V6(_) => self.v6.number(key),
        };
        self.lines.get(number?.checked_sub(1)?)
    }

    /// Sets a frontend: a packet finds the one before or this one, whole.
    pub(crate) fn put(&mut self, key: &FrontendKey, frontend: &Frontend) -> Result<()> {
        let present = match key.address {
            IpAddr::V4(_) => self.v4.find(key),
            IpAddr::V6(_) => self.v6.find(key),
        };
        let place = match present {
            Some(place) => place,
            None => self.place_for(key)?,
        };
        let line = self.take_line()?;
        self.lines.set(line, frontend);
        fence(Ordering::Release);
        let before = match key.address {
            IpAddr::V4(_) => self.v4.name(place, key, line + 1),
            IpAddr::V6(_) => self.v6.name(place, key, line + 1),
        };
        self.let_go(before);
        Ok(())
    }

    /// Removes a frontend; that there is none is success.
    pub(crate) fn delete(&mut self, key: &FrontendKey) {
        // Before anything changes: what is named now is not free.
        self.free_lines();
        let before = match key.address {
            IpAddr::V4(_) => self.v4.clear(key),
            IpAddr::V6(_) => self.v6.clear(key),
        };
        self.let_go(before);
    }

    /// An entry for a key that has none.
    fn place_for(&mut self, key: &FrontendKey) -> Result<u32> {
        let look = |this: &mut Self| match key.address {
            IpAddr::V4(_) => this.v4.place_for(key),
            IpAddr::V6(_) => this.v6.place_for(key),
        };
        if let Some(place) = look(self) {
            return Ok(place);
        }
        let (map, capacity, is_full) = match key.address {
            IpAddr::V4(_) => ("buckets_v4", self.v4.capacity(), self.v4.is_full()),
            IpAddr::V6(_) => ("buckets_v6", self.v6.capacity(), self.v6.is_full()),
        };
        let full = Error::Full { map, capacity };
        if is_full {
            return Err(full);
        }
        self.settle()?;
        look(self).ok_or(full)
    }

    /// A line that no packet can hold.
    fn take_line(&mut self) -> Result<u32> {
        if self.free_lines().free.is_empty() {
            self.settle()?;
        }
        let full = Error::Full { map: "frontends", capacity: self.lines.len() };
        self.free_lines().free.pop().ok_or(full)
    }

    /// Notes that an entry has stopped naming a line.
    fn let_go(&mut self, number: u32) {
        if let Some(line) = number.checked_sub(1)
            && line < self.lines.len()
        {
            self.free_lines().gone.push(line);
        }
    }

    /// After this, all that was let go of before is free.
    fn settle(&mut self) -> Result<()> {
        #[cfg(test)]
        crate::trace::grace();
        #[cfg(not(test))]
        crate::grace()?;
        self.v4.settle();
        self.v6.settle();
        // Also lines that another process let go of.
        self.lines_free = Some(Lines { free: self.unnamed(), gone: Vec::new() });
        Ok(())
    }

    fn free_lines(&mut self) -> &mut Lines {
        let lines = match self.lines_free.take() {
            Some(lines) => lines,
            None => self.found_lines(),
        };
        self.lines_free.insert(lines)
    }

    /// What another process let go of is not known: of the lines that nothing names, those that were ever written
    /// count as just let go of.
    fn found_lines(&self) -> Lines {
        let untouched = |line: &u32| self.lines.get(*line) == Some(Frontend::default());
        let (free, gone) = self.unnamed().into_iter().partition(untouched);
        Lines { free, gone }
    }

    /// The lines that no entry names, the first last.
    fn unnamed(&self) -> Vec<u32> {
        let named: BTreeSet<u32> = self.named().map(|(_, line)| line).collect();
        (0..self.lines.len()).rev().filter(|line| !named.contains(line)).collect()
    }

    /// The keys in use, and their lines.
    fn named(&self) -> impl Iterator<Item = (FrontendKey, u32)> {
        self.v4.used().chain(self.v6.used()).map(|(key, number)| (key, number - 1))
    }
}

#[cfg(test)]
mod tests;
