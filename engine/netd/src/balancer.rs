//! The load balancer's program and maps, shared by the kinds that fill the maps and that attach the program.

use crate::clock;
use crate::kinds::service::sentence;
use crate::recorder::names::Names;
use netd_bpf::abi::{self, IN_USE, KEEP_FLOWS, Settings, WIDE_PREVIOUS, WIDE_SLOTS};
use netd_bpf::recorder::{Recorder, Size};
use netd_bpf::{Capacity, Datapath, FakeMaps, Maps, links};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// The program and maps of one instance.
pub struct Balancer {
    inner: Mutex<Inner>,
    /// Another process has the say: what it records with is as good as the program.
    only_looks: bool,
    /// What records of packets name.
    names: Names,
}

struct Inner {
    /// Where the pins are; `None` for maps in memory.
    root: Option<PathBuf>,
    tables: Option<Tables>,
    /// What a program is loaded with; `None`: what the one before it was.
    settings: Option<Settings>,
    /// Whether there are pins of another version of netd, which are as good as no maps to this one. They stay in force
    /// until the maps that are made beside them have everything.
    supersedes: bool,
    /// Whether the last that was written to the maps is all there.
    is_filled: bool,
}

enum Tables {
    Kernel(Box<Datapath>),
    Memory(Box<FakeMaps>),
}

impl Tables {
    fn maps(&mut self) -> &mut dyn Maps {
        match self {
            Self::Kernel(datapath) => datapath.maps(),
            Self::Memory(maps) => maps.as_mut(),
        }
    }
}

impl Balancer {
    /// The load balancer whose pins are under `root`; nothing is opened or made before it is needed.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self::with_root(Some(root))
    }

    /// As [`Balancer::new`], for who never changes it and looks at it beside who does.
    #[must_use]
    pub fn beside_another(root: PathBuf) -> Self {
        Self { only_looks: true, ..Self::new(root) }
    }

    /// Whether another process has the say.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        self.only_looks
    }

    /// A load balancer whose maps are in memory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with_root(None)
    }

    fn with_root(root: Option<PathBuf>) -> Self {
        let inner = Inner { root, tables: None, settings: None, supersedes: false, is_filled: true };
        Self { inner: Mutex::new(inner), only_looks: false, names: Names::default() }
    }

    /// A panic while the maps were held leaves them as a crash would: whole. So a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the maps, or with the fact that there are none.
    ///
    /// # Errors
    ///
    /// A sentence, if maps are pinned and cannot be opened.
    pub fn with_maps<T>(&self, action: impl FnOnce(Option<&mut dyn Maps>) -> T) -> Result<T, String> {
        let mut inner = self.lock();
        inner.open().map_err(|error| sentence(&error))?;
        Ok(action(inner.tables.as_mut().map(Tables::maps)))
    }

    /// As [`Balancer::with_maps`], for who changes what services and backends there are. What stood for something else when
    /// this is called is not in use any more.
    ///
    /// # Errors
    ///
    /// As [`Balancer::with_maps`].
    pub fn change_maps<T>(&self, action: impl FnOnce(Option<&mut dyn Maps>) -> T) -> Result<T, String> {
        self.with_maps(|maps| {
            let Some(maps) = maps else { return action(None) };
            let since = clock::awake();
            let done = action(Some(&mut *maps));
            self.names.note(since, maps);
            done
        })
    }

    /// What records of packets name.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Does something with the datapath, or with the fact that there is none.
    ///
    /// # Errors
    ///
    /// As [`Balancer::with_maps`].
    pub fn with_datapath<T>(&self, action: impl FnOnce(Option<&mut Datapath>) -> T) -> Result<T, String> {
        let mut inner = self.lock();
        inner.open().map_err(|error| sentence(&error))?;
        match &mut inner.tables {
            Some(Tables::Kernel(datapath)) => Ok(action(Some(datapath))),
            Some(Tables::Memory(_)) | None => Ok(action(None)),
        }
    }

    /// The folder of the pins; `None` when the maps are in memory.
    #[must_use]
    pub fn root(&self) -> Option<PathBuf> {
        self.lock().root.clone()
    }

    /// Makes the maps with at least this room, and the program for them, and turns the links over to it.
    ///
    /// No packet is lost: each link runs the old program with the old maps until it runs the new one with the new
    /// ones, and both say the same.
    ///
    /// # Errors
    ///
    /// A sentence. What was there before is still in force then.
    pub fn grow(&self, capacity: &Capacity) -> Result<(), String> {
        self.lock().grow(capacity).map_err(|error| refused(&error))
    }

    /// Replaces the program and maps by those that this binary carries, with the same content.
    ///
    /// # Errors
    ///
    /// As [`Balancer::grow`].
    pub fn renew(&self) -> Result<(), String> {
        let mut inner = self.lock();
        let capacity = inner.tables.as_mut().map(|tables| tables.maps().capacity());
        capacity.map_or(Ok(()), |capacity| inner.grow(&capacity)).map_err(|error| refused(&error))
    }

    /// Says whether what is being written to the maps is all there: maps that supersede those of another version are
    /// not put in force before.
    pub fn set_filled(&self, is_filled: bool) {
        self.lock().is_filled = is_filled;
    }

    /// Lets maps that supersede those of another version be found after a restart; links may then be turned over to
    /// their program. False if there are none, or they are in force already.
    ///
    /// # Errors
    ///
    /// A sentence; in particular if they are not filled.
    pub fn put_in_force(&self) -> Result<bool, String> {
        let mut inner = self.lock();
        if !inner.supersedes {
            return Ok(false);
        }
        if !inner.is_filled {
            return Err(
                "another version's program stays in force until all services are in the new maps".into()
            );
        }
        let root = inner.root.clone();
        let (Some(Tables::Kernel(datapath)), Some(root)) = (&mut inner.tables, root) else {
            return Ok(false);
        };
        datapath.complete().and_then(|()| turn_links(&root, datapath)).map_err(|error| sentence(&error))?;
        inner.supersedes = false;
        Ok(true)
    }

    /// Decides what the program is loaded with; one that is loaded with something else is replaced, with the same maps'
    /// content.
    ///
    /// # Errors
    ///
    /// As [`Balancer::grow`].
    pub fn configure(&self, settings: Settings) -> Result<(), String> {
        let mut inner = self.lock();
        inner.settings = Some(settings);
        inner.open().map_err(|error| sentence(&error))?;
        let loaded = inner.tables.as_mut().map(|tables| (tables.maps().settings(), tables.maps().capacity()));
        match loaded {
            Some((loaded, capacity)) if loaded != settings => {
                inner.grow(&capacity).map_err(|error| refused(&error))
            }
            Some(_) => Ok(()),
            // Who fills the maps makes them, as large as they have to be. Whether that can be done is known before.
            None if inner.root.is_some() => netd_bpf::check_kernel().map_err(|error| sentence(&error)),
            None => Ok(()),
        }
    }

    /// Has the links run a program that records. No packet is lost.
    ///
    /// # Errors
    ///
    /// A sentence; the links run then what they ran before.
    pub fn start_recording(&self, size: Size) -> Result<Recorder, String> {
        let mut inner = self.lock();
        inner.open().map_err(|error| sentence(&error))?;
        let root = inner.root.clone();
        let supersedes = inner.supersedes;
        let (Some(Tables::Kernel(datapath)), Some(root), false) = (&mut inner.tables, root, supersedes)
        else {
            return Err("there is no load balancer in force on this node, and nothing to record".into());
        };
        let recorder = datapath.start_recording(size).map_err(|error| refused(&error))?;
        // Before a packet is recorded.
        self.names.begin(datapath.maps());
        if let Err(error) = turn_links(&root, datapath) {
            datapath
                .stop_recording()
                .and_then(|()| turn_links(&root, datapath))
                .map_err(|error| sentence(&error))?;
            return Err(sentence(&error));
        }
        Ok(recorder)
    }

    /// Whether the links run a program that records; `None` while somebody else has the maps.
    pub fn is_recording(&self) -> Option<bool> {
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(matches!(&inner.tables, Some(Tables::Kernel(datapath)) if datapath.is_recording()))
    }

    /// Has the links run the program that does not record again. No packet is lost.
    ///
    /// # Errors
    ///
    /// A sentence; the next pass turns links over that were not.
    pub fn stop_recording(&self) -> Result<(), String> {
        self.names.end();
        let mut inner = self.lock();
        let root = inner.root.clone();
        let (Some(Tables::Kernel(datapath)), Some(root)) = (&mut inner.tables, root) else { return Ok(()) };
        datapath.stop_recording().and_then(|()| turn_links(&root, datapath)).map_err(|error| sentence(&error))
    }

    /// Removes what a process that was killed between two generations left behind. Only for who may write.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn sweep(&self) -> Result<(), String> {
        let mut inner = self.lock();
        inner.open().map_err(|error| sentence(&error))?;
        match &inner.tables {
            Some(Tables::Kernel(datapath)) if !inner.supersedes => {
                datapath.retire_others().map_err(|error| sentence(&error))
            }
            _ => Ok(()),
        }
    }

    /// Unpins program and maps. What links still run goes on until they are detached.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn remove(&self) -> Result<(), String> {
        let mut inner = self.lock();
        inner.tables = None;
        inner.supersedes = false;
        match &inner.root {
            Some(root) => Datapath::retire_all(root).map_err(|error| sentence(&error)),
            None => Ok(()),
        }
    }
}

impl Inner {
    fn open(&mut self) -> netd_bpf::Result<()> {
        if let (None, Some(root)) = (&self.tables, &self.root)
            && root.exists()
        {
            match Datapath::open(root) {
                Ok(found) => {
                    self.tables = found.map(|datapath| Tables::Kernel(Box::new(datapath)));
                    self.supersedes = false;
                }
                Err(error @ netd_bpf::Error::Incompatible { .. }) => {
                    if !self.supersedes {
                        tracing::warn!(reason = %sentence(&error), "everything is planned as new beside these maps");
                    }
                    self.supersedes = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn grow(&mut self, capacity: &Capacity) -> netd_bpf::Result<()> {
        self.open()?;
        let in_force = self.tables.as_mut().map(|tables| tables.maps().settings());
        let settings = self.settings.or(in_force).unwrap_or_default();
        let Some(root) = self.root.clone() else {
            let mut next = FakeMaps::with_settings(*capacity, settings);
            if let Some(old) = &mut self.tables {
                copy(old.maps(), &mut next)?;
                next.put_flows(&old.maps().flows()?)?;
            }
            self.tables = Some(Tables::Memory(Box::new(next)));
            return Ok(());
        };
        netd_bpf::mount_bpffs_if_missing(&root)?;
        let Some(Tables::Kernel(old)) = &mut self.tables else {
            let datapath = if self.supersedes {
                Datapath::prepare(&root, capacity, &settings)?
            } else {
                let datapath = Datapath::create(&root, capacity, &settings)?;
                // What processes that were killed left half made.
                datapath.retire_others()?;
                datapath
            };
            self.tables = Some(Tables::Kernel(Box::new(datapath)));
            return Ok(());
        };
        if self.supersedes {
            let mut next = Box::new(old.next_generation(capacity, &settings)?);
            copy(old.maps(), next.maps())?;
            carry_flows(old, &mut next)?;
            if let Some(Tables::Kernel(old)) = self.tables.replace(Tables::Kernel(next)) {
                old.retire()?;
            }
            return Ok(());
        }
        // What a process that was killed while it made a generation left behind.
        old.retire_others()?;
        let mut next = Box::new(old.next_generation(capacity, &settings)?);
        if let Err(error) = take_over(&root, old, &mut next) {
            // Links that run the new program already go back; then nothing names the new generation.
            for link in links::list(&root)?.into_iter().filter(|link| link.ifindex != 0) {
                links::update(&root, &link.device, old.program())?;
            }
            next.retire()?;
            return Err(error);
        }
        if let Some(Tables::Kernel(old)) = self.tables.replace(Tables::Kernel(next)) {
            old.retire()?;
        }
        Ok(())
    }
}

/// What an operator is told; the verifier's words, thousands of lines, are for the log of who asks for everything.
fn refused(error: &netd_bpf::Error) -> String {
    if let netd_bpf::Error::Rejected { log, .. } = error {
        tracing::debug!(log, "the kernel did not take a program");
    }
    sentence(error)
}

/// Fills a new generation and turns the links over to it.
fn take_over(root: &Path, old: &mut Datapath, next: &mut Datapath) -> netd_bpf::Result<()> {
    copy(old.maps(), next.maps())?;
    carry_flows(old, next)?;
    next.complete()?;
    turn_links(root, next)?;
    // What went through the old program meanwhile.
    carry_counts(old.maps(), next.maps())?;
    carry_flows(old, next)
}

/// Has every device with a program run this one, also one that is only kept.
fn turn_links(root: &Path, next: &Datapath) -> netd_bpf::Result<()> {
    for link in links::list(root)?.into_iter().filter(|link| link.ifindex != 0) {
        links::update(root, &link.device, next.program())?;
    }
    Ok(())
}

/// Copies the records of flows that the next generation does not know, if it has other ones at all.
///
/// It has if their number changes. Then a flow whose first packet meets the old program after its records were copied,
/// and whose second meets the new one before they are again, is taken for an older one.
fn carry_flows(old: &mut Datapath, next: &mut Datapath) -> netd_bpf::Result<()> {
    if next.shares_flows() {
        return Ok(());
    }
    let known: BTreeSet<abi::FlowKey> = next.maps().flows()?.into_iter().map(|(flow, _)| flow).collect();
    let late: Vec<_> = old.maps().flows()?.into_iter().filter(|(flow, _)| !known.contains(flow)).collect();
    next.maps().put_flows(&late)
}

/// Copies everything that packets and people need but the records of flows, moved together. Backends keep their counters
/// and their places in the blocks, which records name.
fn copy(old: &mut dyn Maps, new: &mut dyn Maps) -> netd_bpf::Result<()> {
    let (mut ring_line, mut backend_line) = (0, 0);
    let mut rings = std::collections::BTreeMap::new();
    let mut blocks = std::collections::BTreeMap::new();
    let mut entries = Vec::new();
    for (key, mut entry) in whole_frontends(old)? {
        let mut place_ring = |old: &dyn Maps, new: &mut dyn Maps, at: u32, slots: u32, wide: bool| {
            let lines = abi::ring_lines(slots, wide);
            if let Some(&place) = rings.get(&(at, lines)) {
                return Ok(place);
            }
            let place = ring_line;
            new.set_ring(place, &old.ring(at, lines as usize * abi::LINE_BYTES)?)?;
            rings.insert((at, lines), place);
            ring_line += lines;
            netd_bpf::Result::Ok(place)
        };
        entry.ring = place_ring(old, new, entry.ring, entry.slots, entry.flags & WIDE_SLOTS != 0)?;
        if entry.flags & KEEP_FLOWS != 0 {
            let wide = entry.flags & WIDE_PREVIOUS != 0;
            entry.previous_ring = place_ring(old, new, entry.previous_ring, entry.previous_slots, wide)?;
        }
        let block = (entry.backends, entry.backend_count);
        (entry.backends, entry.first_counter) = match blocks.get(&block) {
            Some(&placed) => placed,
            None => {
                let lines = old.backend_lines(block.0, block.1)?;
                let placed = (backend_line, abi::first_counter(&lines));
                new.set_backend_lines(backend_line, &lines)?;
                blocks.insert(block, placed);
                backend_line += block.1;
                placed
            }
        };
        new.set_service_name(entry.service, &old.service_name(entry.service)?)?;
        entries.push((key, entry));
    }
    carry_counts(old, new)?;
    new.put_sources(&old.sources()?)?;
    new.put_pools(&old.pools()?)?;
    new.put_frontends(&entries).into_iter().collect()
}

/// Sets what the old maps counted as the base of the new ones.
fn carry_counts(old: &dyn Maps, new: &mut dyn Maps) -> netd_bpf::Result<()> {
    for (_, entry) in whole_frontends(old)? {
        new.set_service_counter_base(entry.service, old.service_counter(entry.service)?)?;
        let lines = old.backend_lines(entry.backends, entry.backend_count)?;
        for line in lines.iter().filter(|line| line.flags & IN_USE != 0) {
            new.set_counter_base(line.counter, old.counter(line.counter)?)?;
            new.set_new_flows_base(line.counter, old.new_flows(line.counter)?)?;
        }
    }
    Ok(())
}

/// The frontends that name what is there; a damaged one is written anew by the next pass.
fn whole_frontends(maps: &dyn Maps) -> netd_bpf::Result<Vec<(abi::FrontendKey, abi::Frontend)>> {
    let capacity = maps.capacity();
    Ok(maps.frontends()?.into_iter().filter(|(_, frontend)| capacity.holds(frontend)).collect())
}
