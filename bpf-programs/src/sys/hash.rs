//! Maps of the kernel with keys: entries read, set and removed, one by one and many at once.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use bytemuck::{Pod, Zeroable};

use super::{
    BatchAttr, ElementAttr, MAP_DELETE_ELEM, MAP_LOOKUP_BATCH, MAP_LOOKUP_ELEM, MAP_UPDATE_BATCH,
    MAP_UPDATE_ELEM, bpf, map_info,
};

/// An element is set only if there is none.
const BPF_NOEXIST: u64 = 1;

/// The elements that one batch starts with; it grows when a bucket of the hash does not fit.
const BATCH: usize = 4096;

/// A map of the kernel with keys, whose keys and values are known to be `K` and `V`.
pub(crate) struct Hash<K, V> {
    fd: OwnedFd,
    capacity: u32,
    types: PhantomData<fn(K, V)>,
}

impl<K: Pod, V: Pod> Hash<K, V> {
    /// Takes a map if its keys and values have the sizes of `K` and `V`; `EINVAL` if not.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { fd, capacity: info.max_entries, types: PhantomData })
    }

    /// For pinning it.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The entries that it has room for.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The value of a key, if it has one.
    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        let mut attr = ElementAttr {
            map: self.fd.as_raw_fd() as u32,
            key: &raw const *key as u64,
            value: &raw mut value as u64,
            ..ElementAttr::zeroed()
        };
        // SAFETY: `new` has compared the sizes; key and value live until after the call.
        match unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets entries in order until one fails: how many were set, and why not the next.
    pub(crate) fn update(&self, entries: &[(K, V)]) -> (usize, io::Result<()>) {
        if entries.is_empty() {
            return (0, Ok(()));
        }
        let (keys, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
        let mut attr = BatchAttr {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: keys.len() as u32,
            map: self.fd.as_raw_fd() as u32,
            ..BatchAttr::zeroed()
        };
        // SAFETY: `new` has compared the sizes; there are `count` keys and values, which live until after the call.
        let result = unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) };
        match result {
            Ok(_) => (entries.len(), Ok(())),
            // The kernel leaves the count as it was when it refuses the call as a whole.
            Err(error) if attr.count as usize >= entries.len() => (0, Err(error)),
            Err(error) => (attr.count as usize, Err(error)),
        }
    }

    /// Removes an entry; `ENOENT` if there is none.
    pub(crate) fn delete(&self, key: &K) -> io::Result<()> {
        let mut attr = ElementAttr {
            map: self.fd.as_raw_fd() as u32,
            key: &raw const *key as u64,
            ..ElementAttr::zeroed()
        };
        // SAFETY: `new` has compared the sizes; the key lives until after the call.
        unsafe { bpf(MAP_DELETE_ELEM, &mut attr) }.map(drop)
    }

    /// Sets an entry that is not there; `EEXIST` if it is.
    pub(crate) fn insert(&self, key: &K, value: &V) -> io::Result<()> {
        let mut attr = ElementAttr {
            map: self.fd.as_raw_fd() as u32,
            padding: 0,
            key: &raw const *key as u64,
            value: &raw const *value as u64,
            flags: BPF_NOEXIST,
        };
        // SAFETY: `new` has compared the sizes; key and value live until after the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Shows every entry. One that comes or goes meanwhile may be missed, one that is replaced may be shown twice.
    pub(crate) fn for_each(&self, show: impl FnMut(&K, &V)) -> io::Result<()> {
        self.sample(usize::MAX, show).map(drop)
    }

    /// Shows every entry, or of a hash map with more than `enough` about so many, of the buckets before the one that is
    /// said then.
    pub(crate) fn sample(&self, enough: usize, mut show: impl FnMut(&K, &V)) -> io::Result<Option<u32>> {
        let mut shown = 0;
        let mut size = BATCH.min(self.capacity.max(1) as usize);
        const { assert!(size_of::<K>() >= size_of::<u32>(), "a position fits a key") };
        let mut position: Option<K> = None;
        loop {
            let (mut keys, mut values) = (vec![K::zeroed(); size], vec![V::zeroed(); size]);
            let (mut next, current) = (K::zeroed(), position.unwrap_or(K::zeroed()));
            let mut attr = BatchAttr {
                in_batch: position.map_or(0, |_| &raw const current as u64),
                out_batch: &raw mut next as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: size as u32,
                map: self.fd.as_raw_fd() as u32,
                ..BatchAttr::zeroed()
            };
            // SAFETY: `new` has compared the sizes; there is room for `count` of each, and for the two positions,
            // which are four bytes in hash maps and a key in tries; all live until after the call.
            let result = unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) };
            let last = match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) => false,
                Err((Some(libc::ENOENT), _)) => true,
                // A bucket holds more than there is room for.
                Err((Some(libc::ENOSPC), _)) => {
                    size *= 2;
                    continue;
                }
                Err((_, error)) => return Err(error),
            };
            for (key, value) in keys.iter().zip(&values).take(attr.count as usize) {
                show(key, value);
            }
            shown += attr.count as usize;
            if last {
                return Ok(None);
            }
            if shown >= enough {
                return Ok(bytemuck::bytes_of(&next).first_chunk().copied().map(u32::from_ne_bytes));
            }
            position = Some(next);
        }
    }
}
