//! The files that keys are in: made so that nobody else can read them, and refused otherwise.

use crate::key::decode;
use crate::{PresharedKey, PrivateKey};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a file gives no key, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error("there is no key file {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("the key file {path} cannot be {what}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `made`.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a secret, or not a key.
    #[error("the key file {path} {why}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A key in base64 and a line break of two bytes, and one byte that is too many.
const FILE_BYTES_MAX: u64 = 47;

/// The private key in a file.
///
/// # Errors
///
/// [`KeyFileError`]; a file that is a link, that others can read, or that is somebody else's is refused.
pub fn read(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let key = bytes(path)?;
    if *key == [0; 32] {
        return Err(KeyFileError::Refused {
            path: path.into(),
            why: "holds a key of zeros, which is nobody's",
        });
    }
    Ok(PrivateKey::from_bytes(*key))
}

/// The shared secret in a file.
///
/// # Errors
///
/// As [`read`].
pub fn read_preshared(path: &Path) -> Result<PresharedKey, KeyFileError> {
    PresharedKey::from_bytes(*bytes(path)?)
        .ok_or(KeyFileError::Refused { path: path.into(), why: "holds zeros, which is no secret" })
}

fn bytes(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let refused = |why| KeyFileError::Refused { path: path.into(), why };
    let unreadable = |source| KeyFileError::Io { path: path.into(), what: "read", source };
    // Without blocking: opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Err(KeyFileError::Missing { path: path.into() }),
        Err(Errno::LOOP) => {
            return Err(refused("is a symbolic link: whoever can change it could give another key"));
        }
        Err(errno) => return Err(unreadable(errno.into())),
    };
    let about = rustix::fs::fstat(&file).map_err(|errno| unreadable(errno.into()))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(refused("is not a regular file"));
    }
    // Whoever owns the folder could put another file there.
    let of_folder = std::fs::metadata(folder(path)).map(|folder| folder.uid()).unwrap_or_default();
    let owners = [0, rustix::process::geteuid().as_raw(), of_folder];
    if !owners.contains(&about.st_uid) {
        return Err(refused("belongs to another user: whoever owns it has the key"));
    }
    if Mode::from_raw_mode(about.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
        return Err(refused("can be read or changed by others than its owner: `chmod 600` it"));
    }
    let mut text = Zeroizing::new(String::with_capacity(64));
    match File::from(file).take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(refused("is not text")),
        Err(error) => return Err(unreadable(error)),
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    decode(line).map_err(|_| refused("holds no key: 32 bytes in base64, 44 characters"))
}

/// Makes a new private key and its file, which nobody but its owner can read. It is there as a whole or not at all.
///
/// # Errors
///
/// [`KeyFileError::Io`]; a file that is there already is never overwritten.
pub fn create(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.into(), what: "made", source };
    let key = PrivateKey::generate();
    let folder = folder(path);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(key.to_base64().as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    let about = std::fs::metadata(folder).map_err(failed)?;
    if about.uid() != rustix::process::geteuid().as_raw() {
        // A command of root's makes it for the user that netd runs as.
        fchown(file.as_file(), Some(about.uid()), Some(about.gid())).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(key)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    fn said(path: &Path) -> String {
        let error = read(path).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "FILE")
    }

    #[test]
    fn w2_a_new_key_is_its_owners_alone_and_is_read_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("wireguard.key");
        let made = create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read(&path).unwrap().public(), made.public());
        assert!(create(&path).is_err(), "a key is never overwritten");
        assert_eq!(read(&path).unwrap().public(), made.public());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn w2_a_key_file_that_others_could_have_a_hand_in_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("wireguard.key");
        assert_eq!(said(&path), "there is no key file FILE");
        create(&path).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                said(&path),
                "the key file FILE can be read or changed by others than its owner: `chmod 600` it"
            );
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link.key");
        symlink(&path, &link).unwrap();
        assert!(said(&link).starts_with("the key file FILE is a symbolic link"));
        assert!(said(dir.path()).ends_with("is not a regular file"));
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(4_242), None).unwrap();
            assert!(said(&path).starts_with("the key file FILE belongs to another user"));
        }
    }

    #[test]
    fn w2_a_file_without_a_key_is_refused_and_not_shown() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("wireguard.key");
        let zeros = format!("{}=\n", "A".repeat(43));
        for content in ["", "\n", "secret", &"x".repeat(100), &zeros] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let said = said(&path);
            assert!(said.starts_with("the key file FILE holds") && !said.contains("secret"), "{said}");
        }
    }
}
