//! Array maps as memory: reading and writing them without a system call, in aligned words of eight bytes.
#![allow(unsafe_code, reason = "the memory is shared with the kernel; all access to it is in this file")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use bytemuck::Pod;

use crate::sys;

const WORD: usize = size_of::<u64>();

/// The elements of an array map, which are `T`s.
pub(crate) struct Mapped<T> {
    start: NonNull<u64>,
    elements: u32,
    bytes: usize,
    types: PhantomData<T>,
}

// SAFETY: the memory belongs to no thread, and the methods that write take `&mut self`.
unsafe impl<T: Send> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// Words of an element.
    const WORDS: usize = size_of::<T>() / WORD;

    /// Maps an array whose values have the size of `T`, a multiple of eight; `EINVAL` if they have not.
    pub(crate) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Self::parts(map, 1)
    }

    /// Maps an array whose values have the size of so many `T`s; `EINVAL` if they have not.
    pub(crate) fn parts(map: BorrowedFd<'_>, parts: u32) -> io::Result<Self> {
        let info = sys::map_info(map)?;
        let value_size = info.value_size as usize;
        if value_size != size_of::<T>() * parts as usize || !size_of::<T>().is_multiple_of(WORD) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let elements = info.max_entries.checked_mul(parts).ok_or(io::ErrorKind::InvalidData)?;
        let bytes = elements as usize * size_of::<T>();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = map.as_fd().as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is there.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, elements, bytes, types: PhantomData })
    }

    /// How many elements there are.
    pub(crate) fn len(&self) -> u32 {
        self.elements
    }

    /// An element; each eight bytes of it are as the kernel or a program wrote them at once.
    pub(crate) fn get(&self, index: u32) -> Option<T> {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        let words = self.words(index as usize * Self::WORDS, Self::WORDS)?;
        for (chunk, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        Some(value)
    }

    /// All elements, as [`Mapped::get`] reads them.
    pub(crate) fn all(&self) -> impl Iterator<Item = T> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Writes an element, word after word; false if there is no such element.
    pub(crate) fn set(&mut self, index: u32, value: &T) -> bool {
        self.set_words(index, value, 0..Self::WORDS)
    }

    /// Writes some words of an element in the given order; false if there is no such element.
    pub(crate) fn set_words(
        &mut self,
        index: u32,
        value: &T,
        order: impl IntoIterator<Item = usize>,
    ) -> bool {
        let bytes = bytemuck::bytes_of(value);
        order.into_iter().all(|k| match bytes.get(k * WORD..).and_then(<[u8]>::first_chunk) {
            Some(word) => self.set_word(index as usize * Self::WORDS + k, u64::from_ne_bytes(*word)),
            None => false,
        })
    }

    /// Reads bytes from the beginning of an element on, and appends them; false, and nothing is appended, if there are not
    /// so many.
    pub(crate) fn read_bytes(&self, index: u32, count: usize, into: &mut Vec<u8>) -> bool {
        let count_words = count.div_ceil(WORD);
        let Some(words) = self.words(index as usize * Self::WORDS, count_words) else { return false };
        let before = into.len();
        into.resize(before + count_words * WORD, 0);
        for (chunk, word) in into[before..].chunks_exact_mut(WORD).zip(words) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        into.truncate(before + count);
        true
    }

    /// Writes bytes from the beginning of an element on; false, and nothing is written, if there is no room.
    pub(crate) fn set_bytes(&mut self, index: u32, bytes: &[u8]) -> bool {
        let first = index as usize * Self::WORDS;
        if (index as usize * size_of::<T>()).saturating_add(bytes.len()) > self.bytes {
            return false;
        }
        bytes.chunks(WORD).enumerate().all(|(k, chunk)| {
            let mut word = self.word(first + k).unwrap_or_default().to_ne_bytes();
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.set_word(first + k, u64::from_ne_bytes(word))
        })
    }

    fn word(&self, at: usize) -> Option<u64> {
        self.words(at, 1)?.next()
    }

    /// Words from one on; `None` if there are not so many.
    fn words(&self, first: usize, count: usize) -> Option<impl Iterator<Item = u64>> {
        if first.checked_add(count).is_none_or(|end| end > self.bytes / WORD) {
            return None;
        }
        let start = self.start;
        // SAFETY: within the mapping, which outlives the iterator's borrow of it, aligned; volatile because programs write it
        // meanwhile.
        Some((first..first + count).map(move |at| unsafe { start.add(at).read_volatile() }))
    }

    fn set_word(&mut self, at: usize, word: u64) -> bool {
        if at >= self.bytes / WORD {
            return false;
        }
        #[cfg(test)]
        if !crate::trace::store(self.start.addr().get(), at, word) {
            return true;
        }
        // SAFETY: within the mapping, aligned; volatile because programs read it meanwhile.
        unsafe { self.start.add(at).write_volatile(word) };
        true
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nothing refers to any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
impl<T: Pod> Mapped<T> {
    /// An array that no program sees, of zeros.
    pub(crate) fn in_memory(elements: u32) -> Self {
        let bytes = elements as usize * size_of::<T>();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else is there.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let start = NonNull::new(start.cast()).expect("a mapping has an address");
        Self { start, elements, bytes, types: PhantomData }
    }

    /// Another array with the same content.
    pub(crate) fn copied(&self) -> Self {
        let copy = Self::in_memory(self.elements);
        // SAFETY: both are as long as that and do not overlap.
        unsafe { copy.start.copy_from_nonoverlapping(self.start, self.bytes / WORD) };
        copy
    }

    /// What stores to this array are traced as.
    pub(crate) fn array(&self) -> usize {
        self.start.addr().get()
    }
}
