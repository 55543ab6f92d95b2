//! Puts another text in the place of the desired file: at once, with its owner and mode, and only if it still says what was
//! read.

use crate::source::{self, Reading};
use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// The permissions where there is no file yet.
const MODE_OF_NEW: u32 = 0o644;

/// A symlink is how somebody else manages the file (a mounted ConfigMap, a checkout): replacing it would cut that off.
///
/// # Errors
///
/// Where it leads; `what` is what has to be done there.
pub(super) fn refuse_link(config: &Path, what: &str) -> anyhow::Result<()> {
    match fs::symlink_metadata(config) {
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(config).unwrap_or_default();
            bail!("{} is a symlink to {}: {what} where that file is kept", config.display(), target.display())
        }
        _ => Ok(()),
    }
}

/// The new text in the directory of the file; removed again unless it is put in place.
pub(super) struct Beside {
    path: PathBuf,
}

impl Beside {
    /// Writes the text, on disk when this returns. `what` tells the temporary file from those of other commands.
    pub(super) fn write(config: &Path, text: &str, what: &str) -> anyhow::Result<Self> {
        let name = config.file_name().context("the path of the file has no name")?.to_string_lossy();
        let path = config.with_file_name(format!(".{name}.{what}-{}", std::process::id()));
        let now = fs::metadata(config).ok();
        let write = || -> io::Result<Self> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            let beside = Self { path: path.clone() };
            if let Some(meta) = &now {
                fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
            }
            // Not when it is made: that would be less what the umask takes away.
            let mode = now.as_ref().map_or(MODE_OF_NEW, |meta| meta.mode() & 0o7777);
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            Ok(beside)
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Replaces the file, whatever it says.
    pub(super) fn put_in_place(self, config: &Path) -> anyhow::Result<()> {
        fs::rename(&self.path, config).with_context(|| format!("replace {}", config.display()))?;
        sync_directory(config)
    }

    /// Replaces the file if it has the content of this digest still.
    ///
    /// The two are exchanged in one step and what came out is looked at: nobody can write between a look and a rename. If
    /// it is something else they are exchanged back.
    ///
    /// # Errors
    ///
    /// That the file was changed meanwhile; then it is as somebody else left it.
    pub(super) fn put_in_place_of(self, config: &Path, sha256: &str) -> anyhow::Result<()> {
        if digest(config).as_deref() != Some(sha256) {
            return Err(changed(config));
        }
        let exchange = || renameat_with(CWD, &self.path, CWD, config, RenameFlags::EXCHANGE);
        match exchange() {
            Ok(()) => {}
            // Some network file systems cannot; there the look before has to do.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => return self.put_in_place(config),
            Err(error) => {
                return Err(io::Error::from(error)).with_context(|| format!("replace {}", config.display()));
            }
        }
        if digest(&self.path).as_deref() != Some(sha256) {
            exchange()
                .map_err(io::Error::from)
                .with_context(|| format!("put {} back, which somebody changed", config.display()))?;
            return Err(changed(config));
        }
        sync_directory(config)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Gone already when it was renamed; what was exchanged for it otherwise.
        let _ = fs::remove_file(&self.path);
    }
}

fn changed(config: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} was changed by somebody else meanwhile; nothing was written: try again",
        config.display()
    )
}

/// The SHA-256 of a file's content; `None` if there is no content, whatever is there instead.
fn digest(path: &Path) -> Option<String> {
    match source::read(path) {
        Reading::Text(text) => Some(text.sha256),
        Reading::Missing(_) | Reading::Refused(_) | Reading::Unreadable(_) | Reading::Unstable(_) => None,
    }
}

fn sync_directory(config: &Path) -> anyhow::Result<()> {
    let dir = config.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("sync {}", dir.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tempfile::TempDir;

    fn file(dir: &TempDir, text: &str) -> PathBuf {
        let path = dir.path().join("desired.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn names(dir: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_mode_stays_and_nothing_is_left_beside() {
        let dir = TempDir::new().unwrap();
        let path = file(&dir, "old");
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        let sha256 = digest(&path).unwrap();
        Beside::write(&path, "new", "test").unwrap().put_in_place_of(&path, &sha256).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o664);
        assert_eq!(names(&dir), ["desired.toml"]);
    }

    #[test]
    fn c23_a_file_that_somebody_changed_meanwhile_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let path = file(&dir, "read");
        let sha256 = digest(&path).unwrap();
        let beside = Beside::write(&path, "ours", "test").unwrap();
        fs::write(&path, "theirs").unwrap();
        let why = beside.put_in_place_of(&path, &sha256).unwrap_err().to_string();
        assert!(why.contains("changed by somebody else"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        assert_eq!(names(&dir), ["desired.toml"]);
    }

    #[test]
    fn a_symlink_is_refused() {
        let dir = TempDir::new().unwrap();
        let (path, link) = (file(&dir, ""), dir.path().join("link.toml"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refuse_link(&link, "drain").unwrap_err().to_string().contains("drain where"));
        refuse_link(&path, "drain").unwrap();
    }
}
