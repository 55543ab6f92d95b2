//! The recorder: which captures want which packets, and what they got of them.
//!
//! The load balancer that records is another program with the same maps ([`Datapath::start_recording`]); the one that
//! runs otherwise has nothing of this in it. What both this program and user space see of captures lies in maps under
//! `recorder/`, beside the generations: they live as long as anything is recorded.
//!
//! [`Datapath::start_recording`]: crate::Datapath::start_recording

pub mod abi;
mod filter;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, RingBuf};

pub use self::abi::Header;
use self::abi::{Active, CAPTURES_MAX, Key, MASKS_MAX, Mask};
pub use self::filter::{ANY_PORT, Filter, TooManyMasks, Tuple};
use self::filter::{Shape, Table};
use crate::error::{Error, Result};
use crate::generations::{hash, incompatible, mapped};
use crate::grace::grace;
use crate::mmap::Mapped;
use crate::sys::Hash;

/// The maps that are pinned.
pub(crate) const MAPS: [&str; 6] =
    ["record_masks", "record_active", ENTRIES, "record_captures", RING, "record_now"];

const ENTRIES: &str = "record_entries";
const RING: &str = "record_ring";

/// How large the recorder's maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the ring, which is rounded up to a power of two, at least a page.
    pub ring_bytes: u32,
    /// Keys of all captures together.
    pub entries: u32,
}

impl Default for Size {
    /// 8 MiB, and 16,384 keys.
    fn default() -> Self {
        Self { ring_bytes: 8 << 20, entries: 16_384 }
    }
}

impl Size {
    pub(crate) fn of_maps(self) -> [(&'static str, u32); 2] {
        let ring = self.ring_bytes.clamp(4096, 1 << 30).next_power_of_two();
        [(ENTRIES, self.entries.max(1)), (RING, ring)]
    }
}

/// What a capture wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// A packet that one of them matches is wanted.
    pub filters: Vec<Filter>,
    /// Bytes of each frame that are wanted at most.
    pub snaplen: u32,
    /// Bytes of the ring that may be its at once.
    pub share: u32,
}

/// What a capture was given and what was lost, frames as they came in and as they left each for themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames in the ring or taken out of it.
    pub packets: u64,
    /// The bytes that they had.
    pub bytes: u64,
    /// Frames that there was no room for.
    pub lost_packets: u64,
    /// The bytes that those had.
    pub lost_bytes: u64,
}

/// Why a capture was not begun.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Each mask costs a lookup per packet, so that there is a limit.
    #[error(transparent)]
    Masks(#[from] TooManyMasks),
    /// There are as many as there can be.
    #[error("{CAPTURES_MAX} captures are under way, more are not possible at once")]
    TooMany,
    /// The kernel refused something.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// The captures that are under way.
pub struct Recorder {
    masks: Mapped<Mask>,
    active: Mapped<Active>,
    entries: Hash<Key, u64>,
    captures: Mapped<abi::Capture>,
    ring: RingBuf<MapData>,
    wanted: BTreeMap<u8, Vec<Filter>>,
    table: Table,
    /// Those that have ended and are not [forgotten](Recorder::forget).
    ended: BTreeSet<u8>,
    /// Where the search for a free number begins, so that none is used again soon.
    next: u8,
}

pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("recorder")
}

impl Recorder {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let ring =
            MapData::from_pin(folder.join(RING)).and_then(|data| RingBuf::try_from(Map::RingBuf(data)));
        Ok(Self {
            masks: mapped(folder, "record_masks")?,
            active: mapped(folder, "record_active")?,
            entries: hash(folder, ENTRIES)?,
            captures: mapped(folder, "record_captures")?,
            ring: ring.map_err(|error| incompatible(folder, RING, &error.to_string()))?,
            wanted: BTreeMap::new(),
            table: Table::default(),
            ended: BTreeSet::new(),
            next: 0,
        })
    }

    /// Begins a capture: its number.
    ///
    /// # Errors
    ///
    /// [`CaptureError`]; the captures that are under way stay as they are.
    pub fn begin(&mut self, capture: &Capture) -> std::result::Result<u8, CaptureError> {
        let numbers = (0..CAPTURES_MAX as u8).map(|ahead| (self.next + ahead) % CAPTURES_MAX as u8);
        let is_free = |number: &u8| !self.wanted.contains_key(number) && !self.ended.contains(number);
        let number = { numbers }.find(is_free).ok_or(CaptureError::TooMany)?;
        let mut wanted = self.wanted.clone();
        wanted.insert(number, capture.filters.clone());
        let table = self.table.after(&wanted)?;
        let begun =
            abi::Capture { snaplen: capture.snaplen, share: capture.share, ..abi::Capture::default() };
        self.captures.set(number.into(), &begun);
        if let Err(error) = self.put(&table) {
            let before = self.table.clone();
            self.table = table;
            // What can be taken back is; what cannot has a capture's bit that nobody listens to.
            let _ = self.put(&before);
            return Err(error.into());
        }
        self.wanted = wanted;
        self.next = number + 1;
        Ok(number)
    }

    /// Ends a capture. What is in the ring for it can still be [polled](Recorder::poll), until it is
    /// [forgotten](Recorder::forget).
    ///
    /// # Errors
    ///
    /// The kernel's; the capture does not count as under way all the same.
    pub fn end(&mut self, number: u8) -> Result<()> {
        let withdrawn = self.withdraw(&[number]);
        grace()?;
        withdrawn
    }

    /// Lets no packet that comes from now on be found for these captures. Programs that are under way may still give
    /// them something: they have [ended](Recorder::end) after a [grace period](crate::grace), which one waits for once for
    /// all of them, and while others begin.
    ///
    /// # Errors
    ///
    /// As for [`Recorder::end`].
    pub fn withdraw(&mut self, numbers: &[u8]) -> Result<()> {
        for number in numbers {
            if self.wanted.remove(number).is_some() {
                self.ended.insert(*number);
            }
        }
        // Fewer captures never need more masks.
        let table = self.table.after(&self.wanted).unwrap_or_default();
        self.put(&table)
    }

    /// Whether all that a capture was given has been taken out of the ring.
    #[must_use]
    pub fn is_drained(&self, number: u8) -> bool {
        let capture = self.captures.get(number.into()).unwrap_or_default();
        capture.given.wrapping_sub(capture.taken).cast_signed() <= 0
    }

    /// Lets the number of a capture that has ended be another one's.
    pub fn forget(&mut self, number: u8) {
        self.ended.remove(&number);
    }

    /// What a capture got.
    #[must_use]
    pub fn counts(&self, number: u8) -> Counts {
        let capture = self.captures.get(number.into()).unwrap_or_default();
        Counts {
            packets: capture.packets,
            bytes: capture.bytes,
            lost_packets: capture.lost_packets,
            lost_bytes: capture.lost_bytes,
        }
    }

    /// Takes what is in the ring out of it, at most so many records, and shows each with the bytes of its frame: how many.
    pub fn poll(&mut self, most: usize, mut show: impl FnMut(&Header, &[u8])) -> usize {
        let mut taken = [0u64; CAPTURES_MAX as usize];
        let mut polled = 0;
        while polled < most
            && let Some(record) = self.ring.next()
        {
            polled += 1;
            let Some((header, frame)) = record.split_at_checked(size_of::<Header>()) else { continue };
            let header: Header = bytemuck::pod_read_unaligned(header);
            for number in (0..CAPTURES_MAX).filter(|number| header.captures >> number & 1 == 1) {
                taken[number as usize] += size_of::<Header>() as u64 + u64::from(header.kept);
            }
            let kept = (header.kept as usize).min(frame.len());
            show(&header, &frame[..kept]);
        }
        for (number, taken) in (0..CAPTURES_MAX).zip(taken).filter(|(_, taken)| *taken > 0) {
            let mut capture = self.captures.get(number).unwrap_or_default();
            capture.taken = capture.taken.wrapping_add(taken);
            self.captures.set_words(number, &capture, [1]);
        }
        polled
    }

    /// Makes the maps say what a table says. Packets of captures that both tables have are found at any moment.
    fn put(&mut self, table: &Table) -> Result<()> {
        let kept: BTreeMap<Shape, u8> = self
            .table
            .masks
            .iter()
            .filter(|(shape, number)| table.masks.get(shape) == Some(number))
            .map(|(s, n)| (*s, *n))
            .collect();
        self.set_active(&Table { masks: kept, entries: BTreeMap::new() });
        for key in self.table.entries.keys().filter(|key| !table.entries.contains_key(key)) {
            match self.entries.delete(key) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::kernel("write", ENTRIES, error));
                }
                _ => {}
            }
        }
        let changed =
            table.entries.iter().filter(|(key, captures)| self.table.entries.get(key) != Some(captures));
        let changed: Vec<(Key, u64)> = changed.map(|(key, captures)| (*key, *captures)).collect();
        self.entries.update(&changed).1.map_err(|error| Error::kernel("write", ENTRIES, error))?;
        for (shape, &number) in &table.masks {
            self.masks.set(number.into(), &Mask { bits: shape.bits, reserved: [0; 3] });
        }
        self.set_active(table);
        self.table = table.clone();
        Ok(())
    }

    fn set_active(&mut self, table: &Table) {
        let (v4, v6) = table.active();
        self.active.set(0, &Active { v4, v6 });
    }
}

const _: () = assert!(2 * MASKS_MAX <= u8::MAX as u32 && CAPTURES_MAX < u64::BITS);
