//! Queues of the kernel.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bytemuck::{Pod, Zeroable};

use super::{ElementAttr, MAP_LOOKUP_AND_DELETE_ELEM, MAP_UPDATE_ELEM, bpf, map_info};

/// A queue of the kernel, whose elements are known to be `V`.
pub(crate) struct Queue<V> {
    fd: OwnedFd,
    types: PhantomData<fn(V)>,
}

impl<V: Pod> Queue<V> {
    /// Takes a map if it has no keys, and its values have the size of `V`; `EINVAL` if not.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        if info.key_size != 0 || info.value_size as usize != size_of::<V>() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// Puts a value at the end; `E2BIG` if there is no room.
    pub(crate) fn push(&self, value: &V) -> io::Result<()> {
        let mut attr = self.attr(&raw const *value as u64);
        // SAFETY: `new` has compared the sizes; there is no key, and the value lives until after the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Takes the value at the front, if there is one.
    pub(crate) fn pop(&self) -> io::Result<Option<V>> {
        let mut value = V::zeroed();
        let mut attr = self.attr(&raw mut value as u64);
        // SAFETY: as in `push`; every value of `V` is one that the kernel may write.
        match unsafe { bpf(MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn attr(&self, value: u64) -> ElementAttr {
        ElementAttr { map: self.fd.as_raw_fd() as u32, value, ..ElementAttr::zeroed() }
    }
}
