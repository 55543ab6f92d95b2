//! The file system of pins: finds out whether it is there, and mounts it where that is possible.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::error::{Error, Result};

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Makes sure that `path` is in a BPF file system; mounts one there if it is not. Says whether it mounted.
///
/// The folder is made when it is absent.
///
/// # Errors
///
/// [`Error::NoBpffs`] when it is not one and none can be mounted, for instance for want of CAP_SYS_ADMIN.
pub fn mount_bpffs_if_missing(path: &Path) -> Result<bool> {
    let missing = |source: io::Error| Error::NoBpffs { path: path.display().to_string(), source };
    make_folder(path).map_err(missing)?;
    if is_bpffs(path).map_err(missing)? {
        return Ok(false);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", path, "bpf", flags, Some(c"mode=0700")).map_err(|error| missing(error.into()))?;
    Ok(true)
}

/// Whether a path is in a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    // The magic is 32 bits wide, and its highest bit is set: some architectures sign-extend it.
    Ok(rustix::fs::statfs(path)?.f_type & 0xffff_ffff == BPF_FS_MAGIC)
}

/// Makes a folder that only its owner can read, unless it is there.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a folder of pins and what is in it; that it is absent is success.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::kernel("remove", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}
