//! Generations: folders `g1`, `g2`, ... of pinned maps, each of which counts once its program is pinned in it, too.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytemuck::Pod;

use crate::bpffs::remove_folder;
use crate::error::{Error, Result};
use crate::links;
use crate::mmap::Mapped;
use crate::sys::{self, Hash, Queue};
use crate::tc::{Side, side_root};

/// The pin that completes a generation.
pub(crate) const PROGRAM: &str = "program";

/// The generation that is in force under a folder: of several complete ones, left by a process that was killed between
/// two, the newest that a link runs, or else the newest.
pub(crate) fn in_force(root: &Path) -> Result<Option<u32>> {
    let mut complete = Vec::new();
    for number in list(root)? {
        if exists(&folder(root, number).join(PROGRAM))? {
            complete.push(number);
        }
    }
    if complete.len() > 1 {
        let mut running = Vec::new();
        for links in [root.to_owned(), side_root(root, Side::Ingress), side_root(root, Side::Egress)] {
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

/// Lets a generation be found by [`in_force`] from now on.
pub(crate) fn complete(folder: &Path, program: BorrowedFd<'_>) -> Result<()> {
    let path = folder.join(PROGRAM);
    match sys::pin(program, &path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::kernel("pin", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// The number of the next generation: newer than all that are there, and than `after`, whose pins somebody may have
/// removed.
pub(crate) fn next(root: &Path, after: u32) -> Result<u32> {
    Ok(list(root)?.last().copied().unwrap_or(0).max(after) + 1)
}

/// Unpins all generations but one.
pub(crate) fn retire_others(root: &Path, kept: u32) -> Result<()> {
    let mut others = list(root)?.into_iter().filter(|number| *number != kept);
    others.try_for_each(|number| unpin(&folder(root, number)))
}

/// Unpins all generations.
pub(crate) fn retire_all(root: &Path) -> Result<()> {
    list(root)?.into_iter().try_for_each(|number| unpin(&folder(root, number)))
}

/// Removes a generation, its mark of completeness first.
pub(crate) fn unpin(folder: &Path) -> Result<()> {
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
pub(crate) fn list(root: &Path) -> Result<Vec<u32>> {
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

pub(crate) fn folder(root: &Path, number: u32) -> PathBuf {
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

pub(crate) fn open_pin(path: &Path) -> Result<OwnedFd> {
    sys::pinned(path).map_err(|error| Error::kernel("open", path.display().to_string(), error))
}

/// CPUs that may ever be there: a program can run on each of them, and counts by their numbers.
pub(crate) fn possible_cpus() -> Result<u32> {
    aya::util::nr_cpus().map(|cpus| cpus as u32).map_err(|(path, error)| Error::kernel("read", path, error))
}
