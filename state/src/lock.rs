//! The lock that lets one netd at a time work on a state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::StateError;

/// The longest process id in decimal, with room for the newline.
const HOLDER_BYTES_MAX: u64 = 16;

/// The lock of a state directory; it ends when this value is dropped or the process dies in any way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock in the file `path`, which is never removed: only flock(2) decides, not what is written there.
pub(crate) fn take(path: &Path) -> Result<Lock, StateError> {
    let mut file = open(path).map_err(StateError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StateError::Held { pid: holder(&mut file) }),
        Err(TryLockError::Error(e)) => return Err(StateError::io("lock", path)(e)),
    }
    // The process id is a courtesy to the one who comes second; a full disk must not keep netd from running.
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(e) = written {
        tracing::warn!(path = %path.display(), error = %e, "the lock is held but does not name this process");
    }
    Ok(Lock { _file: file })
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path);
    match file {
        // Locking needs no right to write, and a disk gone read-only is no reason not to start.
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            OpenOptions::new().read(true).custom_flags(flags).open(path)
        }
        file => file,
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
