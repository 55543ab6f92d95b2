//! The state directory: its modes, its lock, its last good file and its store.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crate::guard::{self, Failure};
use crate::owner::Owner;
use crate::{LastGood, Lock, Opened, StateError, last_good, lock, open};

/// Writing the last good file waits so long for the disk before the caller goes on.
const LAST_GOOD_WAIT_MAX: Duration = Duration::from_secs(2);

/// All that netd makes in the directory; the lock goes last.
const NAMES: [&str; 8] = [
    "db",
    open::ATTEMPTS_NAME,
    "quarantine",
    last_good::TEMPORARY_NAME,
    last_good::FILE_NAME,
    "wireguard.key",
    "wireguard.key.next",
    "lock",
];

/// The folder of captures, which stays when the directory is removed: who wrote the packets may want them.
pub const CAPTURES_NAME: &str = "captures";

const SLOW: StateError = StateError::Slow { what: "write the last good file", limit: LAST_GOOD_WAIT_MAX };

/// A state directory, which only its owner can enter, and root.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    owner: Owner,
    last_good: Arc<Mutex<Waiting>>,
    /// Held while the file is being replaced.
    replacing: Arc<Mutex<()>>,
}

/// The last good file that is to be written next.
type Waiting = Option<LastGood>;

impl StateDir {
    /// Makes the directory where it is missing, and takes the rights of others on it away.
    ///
    /// # Errors
    ///
    /// When it cannot be made, is not a directory, or belongs to another user and this is not root.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(StateError::io("create", parent))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(StateError::io("create", path))?;
                give_to_owner_of_parent(path).map_err(StateError::io("give away", path))?;
                sync_parent(path);
            }
        }
        let metadata = directory(path)?;
        let owner = owner_of(path, &metadata)?;
        if is_of_others(path)? {
            return Err(unusable(path, "it holds files, and none of them is netd's"));
        }
        if metadata.mode() & 0o777 != 0o700 {
            fs::set_permissions(path, Permissions::from_mode(0o700))
                .map_err(StateError::io("set the mode of", path))?;
        }
        Ok(Self::at(path, owner))
    }

    /// The directory for reading, as it is; `None` where there is none. Makes and changes nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at or is not a directory.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, StateError> {
        match directory(path) {
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            // Who may read here may be neither the owner nor root; whether it may write is asked when it does.
            found => found.map(|found| Some(Self::at(path, Owner::of(&found).unwrap_or_default()))),
        }
    }

    fn at(path: &Path, owner: Owner) -> Self {
        Self { path: path.to_path_buf(), owner, last_good: Arc::default(), replacing: Arc::default() }
    }

    /// Removes what netd keeps here, and the directory too when nothing else is in it; whether it is gone. The
    /// caller holds the lock, and has closed the store.
    ///
    /// # Errors
    ///
    /// When something of netd's cannot be removed.
    pub fn remove(&self) -> Result<bool, StateError> {
        for name in NAMES {
            let path = self.path.join(name);
            let removed = match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(e) => Err(e),
            };
            match removed {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(StateError::io("remove", &path)(e));
                }
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            removed => removed.map(|()| true).map_err(StateError::io("remove", &self.path)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock that the one netd of this directory holds.
    ///
    /// # Errors
    ///
    /// [`StateError::Held`] names the process that has it.
    pub fn lock(&self) -> Result<Lock, StateError> {
        self.as_owner(|| lock::take(&self.path.join("lock")))?
    }

    /// The last accepted file; `None` when there was none yet.
    ///
    /// # Errors
    ///
    /// [`StateError::Damaged`] when it is not what was written; it stays in place until the next one is written.
    pub fn last_good(&self) -> Result<Option<LastGood>, StateError> {
        last_good::read(&self.path)
    }

    /// Replaces the last good file, durably. Of several calls the last one wins, however slow the disk is.
    ///
    /// # Errors
    ///
    /// [`StateError::Slow`] when the disk needs longer than seconds: the write goes on in the background.
    pub fn set_last_good(&self, last_good: &LastGood) -> Result<(), StateError> {
        *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = Some(last_good.clone());
        self.write_waiting()
    }

    /// Tries again to write what [`StateDir::set_last_good`] could not. Does not wait for a write that is still
    /// under way, and costs nothing when nothing is left to write.
    ///
    /// # Errors
    ///
    /// As for [`StateDir::set_last_good`].
    pub fn retry_last_good(&self) -> Result<(), StateError> {
        if matches!(self.replacing.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(SLOW);
        }
        if self.last_good.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(());
        }
        self.write_waiting()
    }

    fn write_waiting(&self) -> Result<(), StateError> {
        let Self { path, owner, last_good, replacing } = self.clone();
        let write = move || {
            let _replacing = replacing.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = || last_good.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing waits when another thread has taken the newer one along.
            let Some(newest) = waiting().take() else { return Ok(()) };
            let written = match owner.become_it() {
                Ok(()) => last_good::write(&path, &newest),
                Err(e) => Err(StateError::io("act for the owner of", &path)(e)),
            };
            if written.is_err() {
                waiting().get_or_insert(newest);
            }
            written
        };
        match guard::within(LAST_GOOD_WAIT_MAX, write) {
            Ok(written) => written,
            Err(Failure::TimedOut) => Err(SLOW),
            Err(failure) => Err(StateError::NotDurable { reason: failure.to_string() }),
        }
    }

    /// Opens the store. A database that is no good is set aside and replaced; where none can be made the store
    /// works from memory. Take the lock first: the database lets one process in. Usually takes milliseconds, on a
    /// disk that hangs up to 20 s for the old database and as long for a new one.
    #[must_use]
    pub fn store(&self) -> Opened {
        let last_good = self.last_good().unwrap_or_else(|e| {
            tracing::warn!(error = %e, "the last good file cannot be read");
            None
        });
        // Its threads are started as the owner, and stay so.
        match self.as_owner(|| open::open(&self.path, self.owner, last_good.as_ref())) {
            Ok(opened) => opened,
            Err(e) => open::none(e.to_string(), last_good.as_ref()),
        }
    }

    fn as_owner<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, StateError> {
        self.owner.run(work).map_err(StateError::io("act for the owner of", &self.path))
    }
}

fn directory(path: &Path) -> Result<fs::Metadata, StateError> {
    let metadata = fs::metadata(path).map_err(StateError::io("read", path))?;
    if metadata.is_dir() { Ok(metadata) } else { Err(unusable(path, "it is not a directory")) }
}

fn owner_of(path: &Path, found: &fs::Metadata) -> Result<Owner, StateError> {
    let user = rustix::process::geteuid().as_raw();
    Owner::of(found)
        .ok_or_else(|| unusable(path, &format!("it belongs to user {}, this is user {user}", found.uid())))
}

/// What root makes below a directory of the daemon's user is for that user.
fn give_to_owner_of_parent(path: &Path) -> io::Result<()> {
    let parent = fs::metadata(parent_of(path))?;
    if rustix::process::geteuid().is_root() && parent.uid() != 0 {
        chown(path, Some(parent.uid()), Some(parent.gid()))?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unusable(path: &Path, why: &str) -> StateError {
    StateError::Unusable { path: path.to_path_buf(), why: why.to_owned() }
}

/// Whether there is something in the directory, and none of it netd's.
fn is_of_others(path: &Path) -> Result<bool, StateError> {
    let mut has_others = false;
    for entry in fs::read_dir(path).map_err(StateError::io("read", path))? {
        let name = entry.map_err(StateError::io("read", path))?.file_name();
        if NAMES.iter().any(|ours| name == *ours) {
            return Ok(false);
        }
        // A file system of its own begins with the one; the other may be on one, and is made before netd is started then.
        has_others |= name != "lost+found" && name != CAPTURES_NAME;
    }
    Ok(has_others)
}

/// Lets a new directory survive a power cut with what will be in it. A file system that cannot do this is one
/// that makes no promises about the files either.
fn sync_parent(path: &Path) {
    let parent = parent_of(path);
    if let Err(e) = fs::File::open(parent).and_then(|parent| parent.sync_all()) {
        tracing::debug!(path = %parent.display(), error = %e, "cannot sync");
    }
}
