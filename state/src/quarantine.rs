//! Sets databases aside that cannot be used, and keeps the youngest few of them for whoever wants to know why.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Enough to see whether a fault comes back, and a bound on the space they take.
const KEPT_MAX: usize = 3;

/// A database that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub why: String,
}

/// Moves `db` into `quarantine` under a name with the time, and removes the oldest there beyond the limit.
pub(crate) fn set_aside(db: &Path, quarantine: &Path, why: String) -> io::Result<SetAside> {
    DirBuilder::new().recursive(true).mode(0o700).create(quarantine)?;
    // The clock may stand still or jump back; the names still have to differ.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let path =
        (0..).map(|more| quarantine.join(format!("db-{:014}", now + more))).find(|path| !path.exists());
    let path = path.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(db, &path)?;
    if let Err(e) = remove_oldest(quarantine, &path) {
        tracing::warn!(path = %quarantine.display(), error = %e, "cannot remove old databases that were set aside");
    }
    Ok(SetAside { path, why })
}

fn remove_oldest(quarantine: &Path, newest: &Path) -> io::Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(quarantine)? {
        others.push(entry?.path());
    }
    others.retain(|path| path != newest);
    others.sort();
    let surplus = (others.len() + 1).saturating_sub(KEPT_MAX);
    others.iter().take(surplus).try_for_each(fs::remove_dir_all)
}
