//! The file on the disk: the old one or the new one, never half of it, whatever happens in between.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a file gets that was not there: nothing in it is secret, and netd runs as somebody else.
const MODE: u32 = 0o644;

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It has the text now.
    Changed,
    /// It had the text already, and was not touched.
    Same,
}

/// The file is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", path.display())]
pub struct WriteError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Gives the file the text, if it has another one: by a temporary file in the same directory, which is on the disk before
/// it takes the name. A symlink is replaced, not followed.
///
/// # Errors
///
/// The system refused. The file is as it was.
pub fn write(path: &Path, text: &str) -> Result<Written, WriteError> {
    let failed = |step: &'static str| move |source| WriteError { step, path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) if bytes == text.as_bytes() => return Ok(Written::Same),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = fs::metadata(path).map_or(MODE, |meta| meta.permissions().mode() & 0o777);
    let mut file = tempfile::Builder::new()
        .prefix(".netd-kubernetes-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(failed("make a temporary file beside"))?;
    file.write_all(text.as_bytes()).map_err(failed("write a temporary file beside"))?;
    // The process's mask takes bits away where a file is made.
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed("give its mode to"))?;
    file.as_file().sync_all().map_err(failed("bring to the disk the new text of"))?;
    file.persist(path).map_err(|error| error.error).map_err(failed("replace"))?;
    // Without this a power cut may bring the old name back, which is the old file, whole: no reason to fail.
    if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::warn!(directory = %directory.display(), %error, "the directory could not be synced");
    }
    Ok(Written::Changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_file_that_has_the_text_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desired.toml");
        assert_eq!(write(&path, "version = 1\n").unwrap(), Written::Changed);
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(write(&path, "version = 1\n").unwrap(), Written::Same);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_mode_that_a_person_gave_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desired.toml");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write(&path, "one").unwrap();
        assert_eq!(mode(), MODE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, "two").unwrap();
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn a_directory_that_cannot_be_written_leaves_everything_as_it_was() {
        let error = write(Path::new("/proc/netd/desired.toml"), "text").unwrap_err();
        assert_eq!(error.to_string(), "make a temporary file beside /proc/netd/desired.toml");
    }

    #[test]
    fn a11_a_reader_sees_the_old_file_or_the_new_one_and_never_half() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("desired.toml");
        let texts = ["a".repeat(300_000), "b".repeat(500_000)];
        write(&path, &texts[0]).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let found = fs::read_to_string(&path).unwrap();
                    assert!(texts.contains(&found), "{} bytes", found.len());
                }
            });
            for at in 0..100 {
                write(&path, &texts[at % 2]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }
}
