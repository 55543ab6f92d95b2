//! Generations of the load balancer: a program with its maps, pinned together, found again after a restart.
//!
//! Under one folder of a BPF file system lie `g<N>/<map>`, `g<N>/program` and `links/<device>`. The program is pinned
//! last: a generation without it was left behind half made, and nothing runs it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;

use crate::abi::{ABI_VERSION, EntryV4, EntryV6, Fragment, FragmentKey, Meta, Settings};
use crate::bpffs::{make_folder, remove_folder};
use crate::entries::{Entry, Table};
use crate::error::{Error, Result};
use crate::frontends::Frontends;
use crate::generations::{
    self, Generation, PROGRAM, hash, incompatible, mapped, not_as_known, open_map, open_pin, pin, pin_maps,
    possible_cpus,
};
use crate::kernel_maps::KernelMaps;
use crate::loader::{self, Loaded, embedded_digest};
use crate::maps::{Capacity, Maps};
use crate::mmap::Mapped;
use crate::recorder::{self, Recorder};
use crate::sys;

/// The maps that are pinned, as they have to be: name, bytes of a key, bytes of a value.
const MAPS: [(&str, u32, u32); 15] = [
    ("buckets_v4", 4, 64),
    ("buckets_v6", 4, 64),
    ("frontends", 4, 128),
    ("rings", 4, 64),
    ("backends", 4, 64),
    ("counters", 4, 16),
    ("new_flows", 4, 8),
    ("service_counters", 4, 128),
    ("service_names", 4, 64),
    (FLOWS, 40, 16),
    (FRAGMENTS, 40, 16),
    ("sources", 24, 8),
    ("pools", 20, 8),
    ("limits", 4, 64),
    ("meta", 4, 64),
];

/// The maps of records, which outlast generations.
const FLOWS: &str = "flows";
const FRAGMENTS: &str = "fragments";

/// What a program says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The program failed; the packet is dropped.
    Aborted,
    /// The packet is dropped.
    Drop,
    /// The packet goes to the kernel.
    Pass,
    /// The packet leaves through the device that it came in by.
    Transmit,
    /// The packet leaves through another device.
    Redirect,
}

/// One generation.
pub struct Datapath {
    generation: Generation,
    program: OwnedFd,
    maps: KernelMaps,
    shares_flows: bool,
    /// The program that records, while anything is recorded.
    recording: Option<OwnedFd>,
}

impl Datapath {
    /// Opens the generation that is in force under a folder, if there is one; changes nothing.
    ///
    /// Of several complete ones, left by a process that was killed between two, it is the newest that a link runs, or
    /// else the newest. [`Datapath::retire_others`] removes the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] when another version of netd made its maps in another way; nothing is changed then,
    /// and [`Datapath::create`] makes a generation beside it.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        Generation::in_force(root)?.map(Self::open_generation).transpose()
    }

    /// Makes a generation, newer than all there are, with empty maps. It does not outlive this process until
    /// [`Datapath::complete`].
    pub fn prepare(root: &Path, capacity: &Capacity, settings: &Settings) -> Result<Self> {
        Self::make(root, capacity, settings, None)
    }

    /// Makes a generation, newer than all there are, and completes it.
    pub fn create(root: &Path, capacity: &Capacity, settings: &Settings) -> Result<Self> {
        let mut datapath = Self::prepare(root, capacity, settings)?;
        datapath.complete()?;
        Ok(datapath)
    }

    /// Makes the generation after this one, with empty maps. Nothing is sent through it yet.
    ///
    /// If `flows` and `fragments` keep their sizes, both generations have the same ones: whichever program a packet meets
    /// while links are turned over, it finds the records that the other has made. They name backends by counter and by
    /// index in a frontend's block, so the next generation has to keep both.
    ///
    /// It does not outlive this process until [`Datapath::complete`]: fill its maps before that. Then replace the
    /// program of the links, and [`retire`](Datapath::retire) this one.
    pub fn next_generation(&self, capacity: &Capacity, settings: &Settings) -> Result<Self> {
        Self::make(self.generation.root(), capacity, settings, Some(self))
    }

    /// Whether its records of flows are those of the generation that it was made after.
    #[must_use]
    pub fn shares_flows(&self) -> bool {
        self.shares_flows
    }

    /// Lets the generation be found by [`Datapath::open`] from now on.
    pub fn complete(&mut self) -> Result<()> {
        self.generation.complete(self.program.as_fd())
    }

    /// Unpins the generation. Links that still run its program keep it and its maps alive.
    pub fn retire(self) -> Result<()> {
        self.generation.retire()
    }

    /// Unpins all generations but this one.
    pub fn retire_others(&self) -> Result<()> {
        if !self.is_recording() {
            // A process that recorded was killed.
            remove_folder(&recorder::folder(self.generation.root()))?;
        }
        self.generation.retire_others()
    }

    /// Unpins all generations under a folder, whatever made them.
    pub fn retire_all(root: &Path) -> Result<()> {
        remove_folder(&recorder::folder(root))?;
        generations::retire_all(root)
    }

    /// The maps.
    pub fn maps(&mut self) -> &mut dyn Maps {
        &mut self.maps
    }

    /// The maps, for reading.
    #[must_use]
    pub fn maps_ref(&self) -> &dyn Maps {
        &self.maps
    }

    /// The program, for attaching it: the one that records, while anything is recorded.
    #[must_use]
    pub fn program(&self) -> BorrowedFd<'_> {
        self.recording.as_ref().unwrap_or(&self.program).as_fd()
    }

    /// Makes a program that records, with the same maps. It is [`Datapath::program`] from now on, and that of the
    /// generations after this one: turn the links over to it, and to the other one after
    /// [`Datapath::stop_recording`]. Either way no packet is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] by kernels before Linux 5.18, which cannot copy frames.
    pub fn start_recording(&mut self, size: recorder::Size) -> Result<Recorder> {
        let folder = recorder::folder(self.generation.root());
        // Left behind by a process that was killed; links that still run its program keep it alive.
        remove_folder(&folder)?;
        make_folder(&folder).map_err(|error| Error::kernel("make", folder.display().to_string(), error))?;
        let made = self.load_recording(&folder, size).and_then(|program| {
            // So that other processes know what links run.
            pin(program.as_fd(), &folder.join(PROGRAM))?;
            Ok((program, Recorder::open(&folder)?))
        });
        if made.is_err() {
            remove_folder(&folder)?;
        }
        let (program, recorder) = made?;
        self.recording = Some(program);
        Ok(recorder)
    }

    /// Whether [`Datapath::program`] is the one that records.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// The kernel's number for the program that a process records with, or did until it was killed.
    #[must_use]
    pub fn recording_program_id(&self) -> Option<u32> {
        let program = open_pin(&recorder::folder(self.generation.root()).join(PROGRAM)).ok()?;
        sys::program_info(program.as_fd()).ok().map(|info| info.id)
    }

    /// Makes the program that does not record [`Datapath::program`] again.
    pub fn stop_recording(&mut self) -> Result<()> {
        self.recording = None;
        remove_folder(&recorder::folder(self.generation.root()))
    }

    fn load_recording(&self, folder: &Path, size: recorder::Size) -> Result<OwnedFd> {
        let own = self.generation.folder();
        let mut pinned: Vec<_> = MAPS.into_iter().map(|(name, ..)| (name, own.join(name))).collect();
        pinned.extend(recorder::MAPS.map(|name| (name, folder.join(name))));
        let meta = &self.maps.meta;
        loader::recorded_balancer(&self.maps.capacity(), &meta.settings, meta.ncpu, &pinned, &size.of_maps())
    }

    /// The kernel's number for the program: what links name.
    pub fn program_id(&self) -> Result<u32> {
        Ok(self.program_info()?.id)
    }

    /// The kernel's tag of the program: a digest of its instructions.
    pub fn program_tag(&self) -> Result<[u8; 8]> {
        Ok(self.program_info()?.tag)
    }

    /// Whether the program is the one that this binary carries.
    #[must_use]
    pub fn is_embedded_program(&self) -> bool {
        self.maps.meta.program_digest == embedded_digest()
    }

    /// Whether all its pins are there, so that [`Datapath::open`] would find it.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.generation.has(MAPS.into_iter().map(|(name, _, _)| name))
    }

    /// The generation's number: newer ones are larger.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.generation.number()
    }

    /// Runs the program once on an Ethernet frame that comes in by the loopback device of the caller's namespace:
    /// what it says, and the frame as it left it. What the program counts and records is counted and recorded.
    pub fn run(&self, frame: &[u8]) -> Result<(Verdict, Vec<u8>)> {
        run(self.program(), frame)
    }

    /// As [`Datapath::run`], on a frame that comes in by the device of the caller's namespace with this index.
    pub fn run_from(&self, frame: &[u8], ingress: u32) -> Result<(Verdict, Vec<u8>)> {
        run_by(self.program(), frame, Some(ingress))
    }

    /// The record of a packet whose first fragment was seen.
    pub fn fragment(&self, key: &FragmentKey) -> Result<Option<Fragment>> {
        self.maps.fragments.get(key).map_err(|error| Error::kernel("look up", FRAGMENTS, error))
    }

    /// Makes it this one, or none.
    pub fn set_fragment(&self, key: &FragmentKey, fragment: Option<&Fragment>) -> Result<()> {
        let written = match fragment {
            Some(fragment) => self.maps.fragments.update(&[(*key, *fragment)]).1,
            None => match self.maps.fragments.delete(key) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                deleted => deleted,
            },
        };
        written.map_err(|error| Error::kernel("write", FRAGMENTS, error))
    }

    fn make(root: &Path, capacity: &Capacity, settings: &Settings, after: Option<&Self>) -> Result<Self> {
        let (generation, (program, maps, shares_flows)) =
            Generation::make(root, after.map(|after| &after.generation), |folder| {
                Self::make_in(folder, capacity, settings, after)
            })?;
        let mut made = Self { generation, program, maps, shares_flows, recording: None };
        if after.is_some_and(|after| after.recording.is_some()) {
            // The recorder's maps are there already, as large as they are.
            made.recording = Some(made.load_recording(&recorder::folder(root), recorder::Size::default())?);
        }
        Ok(made)
    }

    fn make_in(
        folder: &Path,
        capacity: &Capacity,
        settings: &Settings,
        after: Option<&Self>,
    ) -> Result<(OwnedFd, KernelMaps, bool)> {
        let ncpu = possible_cpus()?;
        let shared = match after {
            Some(after) => share(folder, capacity, &after.maps)?,
            None => Vec::new(),
        };
        let Loaded { program, maps } = loader::load_balancer(capacity, settings, ncpu, &shared)?;
        let meta = Meta {
            abi_version: ABI_VERSION,
            ncpu,
            counter_stride: capacity.counters,
            service_stride: capacity.services,
            program_digest: embedded_digest(),
            settings: *settings,
            ..Meta::zeroed()
        };
        let names = MAPS.into_iter().map(|(name, ..)| name);
        let own = names.filter(|name| shared.iter().all(|(known, _)| known != name));
        pin_maps(folder, own, &maps)?;
        mapped::<Meta>(folder, "meta")?.set(0, &meta);
        Ok((program, open_maps(folder, meta)?, shared.iter().any(|(name, _)| *name == FLOWS)))
    }

    fn open_generation(generation: Generation) -> Result<Self> {
        let folder = generation.folder();
        let meta = mapped::<Meta>(&folder, "meta")?.get(0).unwrap_or_default();
        if meta.abi_version != ABI_VERSION {
            let found = meta.abi_version;
            let reason = format!("their layout has version {found}, this netd knows version {ABI_VERSION}");
            return Err(Error::Incompatible { path: folder.display().to_string(), reason });
        }
        for (name, key_size, value_size) in MAPS {
            let info = sys::map_info(open_map(&folder, name)?.as_fd());
            let info = info.map_err(|error| Error::kernel("describe", name, error))?;
            if (info.key_size, info.value_size) != (key_size, value_size) {
                let found = format!("keys of {} and values of {} bytes", info.key_size, info.value_size);
                let expected = format!("{key_size} and {value_size} were expected");
                return Err(incompatible(&folder, name, &format!("{found}, {expected}")));
            }
        }
        let maps = open_maps(&folder, meta)?;
        let rows = u64::from(meta.ncpu) + 1;
        let of_counters = u64::from(meta.counter_stride).max(1) * rows;
        let counters = [maps.counters.len(), maps.new_flows.len()].map(u64::from) == [of_counters; 2];
        let services = u64::from(meta.service_stride).max(1) * rows == u64::from(maps.service_counters.len());
        if !counters || !services {
            return Err(incompatible(&folder, "meta", "it does not describe the counters that are there"));
        }
        let program = open_pin(&folder.join(PROGRAM))?;
        Ok(Self { generation, program, maps, shares_flows: false, recording: None })
    }

    fn program_info(&self) -> Result<sys::ProgramInfo> {
        sys::program_info(self.program()).map_err(|error| Error::kernel("describe", "xdp_lb", error))
    }
}

/// Runs an XDP program once, on a frame that comes in by the loopback device.
pub(crate) fn run(program: BorrowedFd<'_>, frame: &[u8]) -> Result<(Verdict, Vec<u8>)> {
    run_by(program, frame, None)
}

fn run_by(program: BorrowedFd<'_>, frame: &[u8], ingress: Option<u32>) -> Result<(Verdict, Vec<u8>)> {
    let (verdict, out) =
        sys::xdp_run(program, frame, ingress).map_err(|error| Error::kernel("test run", "xdp", error))?;
    let verdict = match verdict {
        1 => Verdict::Drop,
        2 => Verdict::Pass,
        3 => Verdict::Transmit,
        4 => Verdict::Redirect,
        _ => Verdict::Aborted,
    };
    Ok((verdict, out))
}

/// Pins the maps of records that keep their sizes in the folder of the next generation: what they are, and where.
fn share(folder: &Path, capacity: &Capacity, maps: &KernelMaps) -> Result<Vec<(&'static str, PathBuf)>> {
    let records = [
        (FLOWS, maps.flows.fd(), maps.flows.capacity() == capacity.flows.max(1)),
        (FRAGMENTS, maps.fragments.fd(), maps.fragments.capacity() == capacity.fragments.max(1)),
    ];
    let kept = records.into_iter().filter(|(.., is_kept)| *is_kept);
    kept.map(|(name, map, _)| {
        let path = folder.join(name);
        pin(map, &path)?;
        Ok((name, path))
    })
    .collect()
}

fn open_maps(folder: &Path, meta: Meta) -> Result<KernelMaps> {
    Ok(KernelMaps {
        frontends: Frontends::new(
            table::<EntryV4>(folder, "buckets_v4")?,
            table::<EntryV6>(folder, "buckets_v6")?,
            mapped(folder, "frontends")?,
        ),
        rings: mapped(folder, "rings")?,
        backends: mapped(folder, "backends")?,
        counters: mapped(folder, "counters")?,
        new_flows: mapped(folder, "new_flows")?,
        service_counters: mapped(folder, "service_counters")?,
        service_names: mapped(folder, "service_names")?,
        flows: hash(folder, FLOWS)?,
        fragments: hash(folder, FRAGMENTS)?,
        sources: hash(folder, "sources")?,
        pools: hash(folder, "pools")?,
        meta,
    })
}

fn table<E: Entry>(folder: &Path, name: &'static str) -> Result<Table<E>> {
    let entries = Mapped::parts(open_map(folder, name)?.as_fd(), E::PER_BUCKET);
    let entries = entries.map_err(|error| not_as_known(folder, name, error))?;
    Table::new(entries).ok_or_else(|| incompatible(folder, name, "its size is not that of a table"))
}
