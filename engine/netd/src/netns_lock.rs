//! Lets one netd at a time write in a network namespace: two would take each other's routes and neighbours for their
//! own, because all of them bear the same protocol number.

use crate::instance::{InstanceName, RUNTIME_ROOT};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

/// The network namespace of the thread that looks; its device and inode number name it while anything is in it.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

/// A process identifier, an instance's name and what separates them are shorter.
const HOLDER_BYTES_MAX: u64 = 64;

/// Each further try means that a holder went away just then; so many in a row do not happen.
const TRIES_MAX: usize = 100;

/// The right to write in a network namespace. It ends when this is dropped or the process dies in any way.
#[derive(Debug)]
pub struct NetnsLock {
    file: File,
    path: PathBuf,
}

/// Why this process may not write in its network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsLockError {
    /// Another process has the right.
    #[error("another netd{} keeps this network namespace, and only one can: each would undo what the other makes", named(.0.as_ref()))]
    Held(Option<Holder>),
    /// The file could not be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Who has the right to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process identifier.
    pub pid: u32,
    /// Which instance it is.
    pub instance: InstanceName,
}

impl NetnsLock {
    /// Takes the right for the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetnsLockError::Held`] names who has it.
    pub fn take(instance: &InstanceName) -> Result<Self, NetnsLockError> {
        let netns = fs::metadata(OWN_NETNS).map_err(failed("look at", Path::new(OWN_NETNS)))?;
        Self::take_below(Path::new(RUNTIME_ROOT), (netns.dev(), netns.ino()), instance)
    }

    fn take_below(root: &Path, netns: (u64, u64), instance: &InstanceName) -> Result<Self, NetnsLockError> {
        make_root(root).map_err(failed("make", root))?;
        // The dot keeps it apart from the folders of instances.
        let path = root.join(format!("netns-{}-{}.lock", netns.0, netns.1));
        for _ in 0..TRIES_MAX {
            let file = match open(root, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed("open", &path))?,
            };
            if let Some(mut lock) = Self::of_opened(file, &path)? {
                name_holder(&mut lock.file, &path, instance);
                return Ok(lock);
            }
        }
        Err(failed("lock", &path)(io::Error::other("it is replaced again and again")))
    }

    /// `None` when the one before removed the file after it was opened here: locking it would keep nobody else out.
    fn of_opened(mut file: File, path: &Path) -> Result<Option<Self>, NetnsLockError> {
        match file.try_lock() {
            Ok(()) => Ok(is_at(&file, path).then(|| Self { file, path: path.to_owned() })),
            Err(TryLockError::WouldBlock) => Err(NetnsLockError::Held(holder(&mut file))),
            Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
        }
    }
}

impl Drop for NetnsLock {
    fn drop(&mut self) {
        // While it is locked still, so that nobody else's is removed.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetnsLockError {
    move |source| NetnsLockError::Io { what, path: path.to_owned(), source }
}

fn named(holder: Option<&Holder>) -> String {
    let named = |Holder { pid, instance }: &Holder| format!(" (process {pid}, instance {instance})");
    holder.map(named).unwrap_or_default()
}

/// Makes the folder where it is missing; one that the service manager made stays as it is.
fn make_root(root: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The umask may have taken away what other users need to get to the socket below.
        made => made.and_then(|()| fs::set_permissions(root, Permissions::from_mode(0o755))),
    }
}

fn open(root: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        made => {
            let file = made?;
            let owner = fs::metadata(root)?;
            // Root comes before the daemon's own user: what it leaves behind must not keep that user out.
            if rustix::process::geteuid().is_root() && owner.uid() != 0 {
                fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            Ok(file)
        }
    }
}

/// Whether the file is the one that is found by this path.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(file), Ok(found)) => place(file) == place(found),
        _ => false,
    }
}

/// Writes down who this is: a courtesy to the one who comes second, and no reason to fail.
fn name_holder(file: &mut File, path: &Path, instance: &InstanceName) {
    let line = format!("{} {instance}\n", std::process::id());
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the lock is held but does not name this process");
    }
}

fn holder(file: &mut File) -> Option<Holder> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    let (pid, instance) = text.trim().split_once(' ')?;
    Some(Holder { pid: pid.parse().ok()?, instance: instance.parse().ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tempfile::TempDir;

    const HERE: (u64, u64) = (4, 4026531840);

    fn take(dir: &TempDir, netns: (u64, u64), instance: &str) -> Result<NetnsLock, NetnsLockError> {
        NetnsLock::take_below(&dir.path().join("netd"), netns, &instance.parse().unwrap())
    }

    #[test]
    fn p11_a_second_writer_in_a_network_namespace_is_told_who_the_first_is() {
        let dir = TempDir::new().unwrap();
        let _first = take(&dir, HERE, "edge").unwrap();
        let said = take(&dir, HERE, "lab").unwrap_err().to_string();
        let wanted = format!("another netd (process {}, instance edge) keeps", std::process::id());
        assert!(said.starts_with(&wanted), "{said}");
        let _elsewhere = take(&dir, (4, 4026531841), "lab").unwrap();
    }

    #[test]
    fn p12_a_file_that_a_dead_process_left_keeps_nobody_out() {
        let dir = TempDir::new().unwrap();
        drop(take(&dir, HERE, "edge").unwrap());
        let path = dir.path().join("netd/netns-4-4026531840.lock");
        assert!(!path.exists(), "it goes with its holder");
        fs::write(&path, "1 edge, and more than was ever written by anyone\n").unwrap();
        let lock = take(&dir, HERE, "lab").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{} lab\n", std::process::id()));
        drop(lock);
    }

    #[test]
    fn a_holder_leaves_the_file_of_another_alone() {
        let dir = TempDir::new().unwrap();
        let first = take(&dir, HERE, "edge").unwrap();
        // As a service manager does with the folder of a service that has ended.
        fs::remove_dir_all(dir.path().join("netd")).unwrap();
        let _second = take(&dir, HERE, "lab").unwrap();
        drop(first);
        assert!(take(&dir, HERE, "third").unwrap_err().to_string().contains("instance lab"));
    }

    #[test]
    fn x18_the_file_is_for_its_owner_alone() {
        let dir = TempDir::new().unwrap();
        let _lock = take(&dir, HERE, "edge").unwrap();
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode("netd"), mode("netd/netns-4-4026531840.lock")), (0o755, 0o600));
    }

    #[test]
    fn a_file_that_went_with_its_holder_is_not_locked() {
        let dir = TempDir::new().unwrap();
        let first = take(&dir, HERE, "edge").unwrap();
        let path = first.path.clone();
        let opened = open(&dir.path().join("netd"), &path).unwrap();
        drop(first);
        assert!(NetnsLock::of_opened(opened, &path).unwrap().is_none());
        let opened = open(&dir.path().join("netd"), &path).unwrap();
        let _second = take(&dir, HERE, "lab").unwrap();
        assert!(NetnsLock::of_opened(opened, &path).is_err());
    }
}
