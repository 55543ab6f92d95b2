//! Generations: folders `g1`, `g2`, ... of pinned maps, each of which counts once its program is pinned in it, too.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytemuck::Pod;

use crate::bpffs::{make_folder, remove_folder};
use crate::error::{Error, Result};
use crate::links;
use crate::mmap::Mapped;
use crate::sys::{self, Hash, Queue};
use crate::tc::{Side, side_root};

/// The pin that completes a generation.
pub(crate) const PROGRAM: &str = "program";

/// A generation that is in use: where its pins are.
pub(crate) struct Generation {
    root: PathBuf,
    number: u32,
}

impl Generation {
    /// The one that is in force under a folder, if there is one.
    pub(crate) fn in_force(root: &Path) -> Result<Option<Self>> {
        Ok(in_force(root)?.map(|number| Self { root: root.to_owned(), number }))
    }

    /// Has one made in a folder that is newer than all that are there, and than `after`, whose pins somebody may have
    /// removed. What is left half made is removed. It does not count until [`Generation::complete`].
    pub(crate) fn make<T>(
        root: &Path,
        after: Option<&Self>,
        make: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<(Self, T)> {
        let newest = list(root)?.last().copied().unwrap_or(0);
        let number = newest.max(after.map_or(0, |after| after.number)) + 1;
        let generation = Self { root: root.to_owned(), number };
        let folder = generation.folder();
        make_folder(&folder).map_err(|error| Error::kernel("make", folder.display().to_string(), error))?;
        let made = make(&folder);
        if made.is_err() {
            remove_folder(&folder)?;
        }
        Ok((generation, made?))
    }

    /// The folder of all generations and links.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Newer ones have larger numbers.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The folder of its pins.
    pub(crate) fn folder(&self) -> PathBuf {
        folder(&self.root, self.number)
    }

    /// The folders of those before it that are there still.
    pub(crate) fn earlier(&self) -> Result<impl Iterator<Item = PathBuf>> {
        let numbers = list(&self.root)?.into_iter().filter(|number| *number < self.number);
        Ok(numbers.map(|number| folder(&self.root, number)))
    }

    /// Lets it be found by [`Generation::in_force`] from now on.
    pub(crate) fn complete(&self, program: BorrowedFd<'_>) -> Result<()> {
        let path = self.folder().join(PROGRAM);
        match sys::pin(program, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::kernel("pin", path.display().to_string(), error))
            }
            _ => Ok(()),
        }
    }

    /// Whether all these pins are there, and that of the program.
    pub(crate) fn has(&self, pins: impl IntoIterator<Item = &'static str>) -> bool {
        let folder = self.folder();
        pins.into_iter().chain([PROGRAM]).all(|name| folder.join(name).exists())
    }

    /// Unpins it.
    pub(crate) fn retire(&self) -> Result<()> {
        unpin(&self.folder())
    }

    /// Unpins all others.
    pub(crate) fn retire_others(&self) -> Result<()> {
        let mut others = list(&self.root)?.into_iter().filter(|number| *number != self.number);
        others.try_for_each(|number| unpin(&folder(&self.root, number)))
    }
}

/// The generation that is in force under a folder: of several complete ones, left by a process that was killed between
/// two, the newest that a link runs, or else the newest.
fn in_force(root: &Path) -> Result<Option<u32>> {
    let mut complete = Vec::new();
    for number in list(root)? {
        if exists(&folder(root, number).join(PROGRAM))? {
            complete.push(number);
        }
    }
    if complete.len() > 1 {
        let mut running = Vec::new();
        for links in link_roots(root) {
            running.extend(links::list(&links)?.into_iter().map(|link| link.program_id));
        }
        for &number in complete.iter().rev() {
            let program = open_pin(&folder(root, number).join(PROGRAM))?;
            let info = sys::program_info(program.as_fd());
            let id = info.map_err(|error| Error::kernel("read", format!("program of g{number}"), error))?.id;
            if running.contains(&id) {
                return Ok(Some(number));
            }
        }
    }
    Ok(complete.last().copied())
}

/// Unpins all generations.
pub(crate) fn retire_all(root: &Path) -> Result<()> {
    list(root)?.into_iter().try_for_each(|number| unpin(&folder(root, number)))
}

/// Unpins all generations, whatever made them, and removes the folder if no link is left in it. What is not netd's stays.
pub(crate) fn dismantle(root: &Path) -> Result<()> {
    retire_all(root)?;
    for links in link_roots(root) {
        if !links::list(&links)?.is_empty() {
            return Ok(());
        }
    }
    for links in link_roots(root) {
        let _ = fs::remove_dir(links.join("links"));
        let _ = fs::remove_dir(links);
    }
    Ok(())
}

/// Where links are of programs that have both sides, and of those that have one; the folder of these is around the others.
fn link_roots(root: &Path) -> [PathBuf; 3] {
    [side_root(root, Side::Ingress), side_root(root, Side::Egress), root.to_owned()]
}

/// Removes a generation, its mark of completeness first.
fn unpin(folder: &Path) -> Result<()> {
    let program = folder.join(PROGRAM);
    match fs::remove_file(&program) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::kernel("unpin", program.display().to_string(), error));
        }
        _ => {}
    }
    remove_folder(folder)
}

/// The numbers of the generations under a folder, in order.
fn list(root: &Path) -> Result<Vec<u32>> {
    let failed = |error| Error::kernel("read", root.display().to_string(), error);
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix('g')?.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn folder(root: &Path, number: u32) -> PathBuf {
    root.join(format!("g{number}"))
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| Error::kernel("look for", path.display().to_string(), error))
}

pub(crate) fn hash<K: Pod, V: Pod>(folder: &Path, name: &'static str) -> Result<Hash<K, V>> {
    Hash::new(open_map(folder, name)?).map_err(|error| not_as_known(folder, name, error))
}

pub(crate) fn queue<V: Pod>(folder: &Path, name: &'static str) -> Result<Queue<V>> {
    Queue::new(open_map(folder, name)?).map_err(|error| not_as_known(folder, name, error))
}

pub(crate) fn mapped<T: Pod>(folder: &Path, name: &'static str) -> Result<Mapped<T>> {
    Mapped::new(open_map(folder, name)?.as_fd()).map_err(|error| not_as_known(folder, name, error))
}

pub(crate) fn not_as_known(folder: &Path, name: &'static str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => incompatible(folder, name, "its keys or values have another size"),
        _ => Error::kernel("open", folder.join(name).display().to_string(), error),
    }
}

pub(crate) fn incompatible(folder: &Path, map: &str, what: &str) -> Error {
    Error::Incompatible { path: folder.display().to_string(), reason: format!("{map}: {what}") }
}

/// Refuses maps that another version of netd made in another way; `map` says in which.
pub(crate) fn check_version(folder: &Path, map: &str, found: u32, known: u32) -> Result<()> {
    if found == known {
        return Ok(());
    }
    let what = format!("its layout has version {found}, this netd knows version {known}");
    Err(incompatible(folder, map, &what))
}

pub(crate) fn open_map(folder: &Path, name: &'static str) -> Result<OwnedFd> {
    match open_pin(&folder.join(name)) {
        Err(Error::Kernel { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(incompatible(folder, name, "it is missing"))
        }
        other => other,
    }
}

pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<()> {
    sys::pin(object, path).map_err(|error| Error::kernel("pin", path.display().to_string(), error))
}

/// Pins some of the maps of an object that was loaded, by their names.
pub(crate) fn pin_maps(
    folder: &Path,
    names: impl IntoIterator<Item = &'static str>,
    maps: &BTreeMap<String, OwnedFd>,
) -> Result<()> {
    names.into_iter().try_for_each(|name| {
        let map = maps.get(name).ok_or_else(|| incompatible(folder, name, "the object does not have it"))?;
        pin(map.as_fd(), &folder.join(name))
    })
}

/// The kernel's number for a program: what links name.
pub(crate) fn program_id(program: BorrowedFd<'_>, name: &'static str) -> Result<u32> {
    Ok(sys::program_info(program).map_err(|error| Error::kernel("describe", name, error))?.id)
}

pub(crate) fn open_pin(path: &Path) -> Result<OwnedFd> {
    sys::pinned(path).map_err(|error| Error::kernel("open", path.display().to_string(), error))
}

/// CPUs that may ever be there: a program can run on each of them, and counts by their numbers.
pub(crate) fn possible_cpus() -> Result<u32> {
    aya::util::nr_cpus().map(|cpus| cpus as u32).map_err(|(path, error)| Error::kernel("read", path, error))
}
