//! One hash table of frontends: where a key's entry is, and the order in which an entry is written.

use std::collections::BTreeSet;
use std::sync::atomic::{Ordering, fence};

use bytemuck::Pod;

use crate::abi::{EntryV4, EntryV6, FrontendKey};
use crate::mmap::Mapped;

/// The buckets in which a key may lie, from its own on: `BUCKETS_TRIED` in `include/lookup.h`. With half of the
/// entries in use a key lies in its own bucket or the next, so this is beyond what chance does.
const FARTHEST: u32 = 32;

/// The factors of the hash in `include/lookup.h`.
const FACTORS: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9];

/// An entry of either family.
pub(crate) trait Entry: Pod + Default {
    const PER_BUCKET: u32;
    /// The word that is written last, with `frontend` in it.
    const PUBLISHED: usize;
    /// The word with `overflow` in it.
    const OVERFLOW: usize;

    /// The entry with a key, that names nothing. The key's address is of this family.
    fn with_key(key: &FrontendKey) -> Self;
    fn key(&self) -> FrontendKey;
    fn hash(&self) -> u64;
    fn frontend(&mut self) -> &mut u32;
    fn overflow(&mut self) -> &mut u32;
}

/// A table, of which no more than half of the entries are used.
pub(crate) struct Table<E> {
    entries: Mapped<E>,
    buckets: u32,
    /// Found out when something is first written.
    state: Option<State>,
}

struct State {
    used: u32,
    /// Entries that name nothing, but that a packet may still hold: they wait for a grace period, unless they get the
    /// key that they had.
    gone: BTreeSet<u32>,
}

/// The buckets of a table for so many keys.
pub(crate) fn buckets_for<E: Entry>(keys: u32) -> u32 {
    const MOST: u32 = 1 << 30;
    keys.min(MOST).saturating_mul(2).div_ceil(E::PER_BUCKET).clamp(2, MOST).next_power_of_two()
}

/// What the hash is shifted by, to be the number of one of these buckets, a power of two from two on.
pub(crate) const fn shift_for(buckets: u32) -> u32 {
    u64::BITS - buckets.trailing_zeros()
}

impl<E: Entry> Table<E> {
    /// None if the array has not the size of a table.
    pub(crate) fn new(entries: Mapped<E>) -> Option<Self> {
        let buckets = entries.len() / E::PER_BUCKET;
        (buckets >= 2 && buckets.is_power_of_two()).then_some(Self { entries, buckets, state: None })
    }

    /// The keys that there is room for.
    pub(crate) fn capacity(&self) -> u32 {
        self.entries.len() / 2
    }

    /// The entries that are in use: keys, and numbers of lines plus one.
    pub(crate) fn used(&self) -> impl Iterator<Item = (FrontendKey, u32)> + '_ {
        let all = (0..self.entries.len()).filter_map(|place| self.entries.get(place));
        all.map(|mut entry| (entry.key(), *entry.frontend())).filter(|(_, number)| *number != 0)
    }

    /// The place of a key that is in use.
    pub(crate) fn find(&self, key: &FrontendKey) -> Option<u32> {
        for bucket in self.buckets_of(key) {
            let of_key = |entry: &mut E| *entry.frontend() != 0 && entry.key() == *key;
            let found =
                self.places(bucket).find(|place| self.entries.get(*place).as_mut().is_some_and(of_key));
            if found.is_some() {
                return found;
            }
            if !self.overflows(bucket) {
                return None;
            }
        }
        None
    }

    /// The number that the entry of a key names, if it is in use.
    pub(crate) fn number(&self, key: &FrontendKey) -> Option<u32> {
        let mut entry = self.entries.get(self.find(key)?)?;
        Some(*entry.frontend()).filter(|number| *number != 0)
    }

    /// A free place for a key that is not in use, and that no packet can mistake for another's.
    pub(crate) fn place_for(&mut self, key: &FrontendKey) -> Option<u32> {
        self.state();
        let state = self.state.as_ref().filter(|state| state.used < self.capacity())?;
        let free = |place: &u32| {
            let entry = self.entries.get(*place);
            entry.is_some_and(|mut entry| {
                *entry.frontend() == 0 && (entry.key() == *key || !state.gone.contains(place))
            })
        };
        self.buckets_of(key).flat_map(|bucket| self.places(bucket)).find(free)
    }

    /// Lets the entry at a place name a line, `number` less one: the entry of the key, or a free one for it. What it
    /// named before.
    pub(crate) fn name(&mut self, place: u32, key: &FrontendKey, number: u32) -> u32 {
        self.state();
        let mut found = self.entries.get(place).unwrap_or_default();
        let (before, overflow) = (*found.frontend(), *found.overflow());
        let mut entry = E::with_key(key);
        *entry.overflow() = overflow;
        if before == 0 {
            for bucket in self.buckets_of(key).take_while(|bucket| *bucket != place / E::PER_BUCKET) {
                self.set_overflow(bucket);
            }
            self.entries.set_words(
                place,
                &entry,
                (0..size_of::<E>() / 8).filter(|word| *word != E::OVERFLOW),
            );
            if let Some(state) = &mut self.state {
                state.used += 1;
                state.gone.remove(&place);
            }
        }
        *entry.frontend() = number;
        // Not only the compiler, the CPU too must not let the number be seen before the key and the line.
        fence(Ordering::Release);
        self.entries.set_words(place, &entry, [E::PUBLISHED]);
        before
    }

    /// Lets a key's entry name nothing; what it named before, zero if there was none.
    pub(crate) fn clear(&mut self, key: &FrontendKey) -> u32 {
        self.state();
        let Some(place) = self.find(key) else { return 0 };
        let mut entry = self.entries.get(place).unwrap_or_default();
        let before = std::mem::take(entry.frontend());
        self.entries.set_words(place, &entry, [E::PUBLISHED]);
        if let Some(state) = &mut self.state {
            state.used = state.used.saturating_sub(1);
            state.gone.insert(place);
        }
        before
    }

    /// Whether there is no room for another key. Counted anew: another process may have removed some.
    pub(crate) fn is_full(&mut self) -> bool {
        let used = self.used().count() as u32;
        self.state().used = used;
        used >= self.capacity()
    }

    /// A grace period has passed.
    pub(crate) fn settle(&mut self) {
        self.state().gone.clear();
    }

    /// Entries that another process let go of have a key still.
    fn state(&mut self) -> &mut State {
        let state = match self.state.take() {
            Some(state) => state,
            None => self.found_state(),
        };
        self.state.insert(state)
    }

    fn found_state(&self) -> State {
        let empty = E::default().key();
        let mut state = State { used: 0, gone: BTreeSet::new() };
        for (place, mut entry) in (0..self.entries.len()).filter_map(|at| Some((at, self.entries.get(at)?))) {
            if *entry.frontend() != 0 {
                state.used += 1;
            } else if entry.key() != empty {
                state.gone.insert(place);
            }
        }
        state
    }

    fn buckets_of(&self, key: &FrontendKey) -> impl Iterator<Item = u32> + use<E> {
        let first = (E::with_key(key).hash() >> shift_for(self.buckets)) as u32;
        let mask = self.buckets - 1;
        (0..FARTHEST.min(self.buckets)).map(move |farther| (first + farther) & mask)
    }

    fn places(&self, bucket: u32) -> std::ops::Range<u32> {
        bucket * E::PER_BUCKET..(bucket + 1) * E::PER_BUCKET
    }

    fn overflows(&self, bucket: u32) -> bool {
        self.entries.get(bucket * E::PER_BUCKET).is_some_and(|mut entry| *entry.overflow() != 0)
    }

    fn set_overflow(&mut self, bucket: u32) {
        let place = bucket * E::PER_BUCKET;
        let mut entry = self.entries.get(place).unwrap_or_default();
        *entry.overflow() = 1;
        self.entries.set_words(place, &entry, [E::OVERFLOW]);
    }
}

impl Entry for EntryV4 {
    const PER_BUCKET: u32 = Self::PER_BUCKET;
    const PUBLISHED: usize = 1;
    const OVERFLOW: usize = 1;

    fn with_key(key: &FrontendKey) -> Self {
        let address = match key.address {
            std::net::IpAddr::V4(address) => address.octets(),
            std::net::IpAddr::V6(_) => [0; 4],
        };
        Self { address, port: key.port.to_be_bytes(), protocol: key.protocol, ..Self::default() }
    }

    fn key(&self) -> FrontendKey {
        Self::key(self)
    }

    fn hash(&self) -> u64 {
        let [a, b, c, d] = self.address;
        let [high, low] = self.port;
        u64::from_le_bytes([a, b, c, d, high, low, self.protocol, 0]).wrapping_mul(FACTORS[0])
    }

    fn frontend(&mut self) -> &mut u32 {
        &mut self.frontend
    }

    fn overflow(&mut self) -> &mut u32 {
        &mut self.overflow
    }
}

impl Entry for EntryV6 {
    const PER_BUCKET: u32 = Self::PER_BUCKET;
    const PUBLISHED: usize = 2;
    const OVERFLOW: usize = 3;

    fn with_key(key: &FrontendKey) -> Self {
        let address = match key.address {
            std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(address) => address.octets(),
        };
        Self { address, port: key.port.to_be_bytes(), protocol: key.protocol, ..Self::default() }
    }

    fn key(&self) -> FrontendKey {
        Self::key(self)
    }

    fn hash(&self) -> u64 {
        let (high, low) = {
            let address = u128::from_le_bytes(self.address);
            (address as u64, (address >> 64) as u64)
        };
        let [port_high, port_low] = self.port;
        let rest = u64::from(u32::from_le_bytes([port_high, port_low, self.protocol, 0]));
        let [a, b, c] = FACTORS;
        high.wrapping_mul(a).wrapping_add(low.wrapping_mul(b)).wrapping_add(rest.wrapping_mul(c))
    }

    fn frontend(&mut self) -> &mut u32 {
        &mut self.frontend
    }

    fn overflow(&mut self) -> &mut u32 {
        &mut self.overflow
    }
}

#[cfg(test)]
impl<E: Entry> Table<E> {
    /// The table as a process that opens it finds it.
    pub(crate) fn copied(&self) -> Self {
        Self { entries: self.entries.copied(), buckets: self.buckets, state: None }
    }

    /// Clears every entry, and does not notice.
    pub(crate) fn forget_all(&mut self) {
        for place in 0..self.entries.len() {
            let mut entry = self.entries.get(place).unwrap_or_default();
            *entry.frontend() = 0;
            self.entries.set(place, &entry);
        }
    }

    pub(crate) fn entries(&self) -> &Mapped<E> {
        &self.entries
    }
}
