//! Reads the password of a session from its file, and refuses one that is not a secret.

use rustix::fs::{FileType, Mode, OFlags};
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The kernel's TCP_MD5SIG_MAXKEYLEN.
const PASSWORD_BYTES_MAX: usize = 80;

/// A password: shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password itself, for whoever sets up the session.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Why a file gives no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be read.
    #[error("the password file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read it, so it is not a secret.
    #[error("the password file {path} can be read by others than its owner: `chmod 600` it")]
    NotSecret {
        /// The file.
        path: PathBuf,
    },
    /// What it holds is no password.
    #[error("the password file {path} {why}")]
    NotAPassword {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads the password in a file; a line break at its end is not part of it.
///
/// # Errors
///
/// [`PasswordError`]; a file that is missing is never an empty password.
pub fn read(path: &Path) -> Result<Password, PasswordError> {
    let unreadable = |source| PasswordError::Unreadable { path: path.into(), source };
    let no = |why| PasswordError::NotAPassword { path: path.into(), why };
    // Without blocking: opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| unreadable(errno.into()))?;
    let about = rustix::fs::fstat(&file).map_err(|errno| unreadable(errno.into()))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(no("is not a regular file"));
    }
    if Mode::from_raw_mode(about.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
        return Err(PasswordError::NotSecret { path: path.into() });
    }
    let mut bytes = Vec::new();
    // A line break of two bytes, and one byte that is too many.
    let most = u64::try_from(PASSWORD_BYTES_MAX + 3).unwrap_or(u64::MAX);
    std::fs::File::from(file).take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| no("is not text"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let password = line.strip_suffix('\r').unwrap_or(line);
    match password {
        "" => Err(no("is empty")),
        long if long.len() > PASSWORD_BYTES_MAX => Err(no("holds more than 80 bytes")),
        other if other.contains(char::is_control) => Err(no("holds control characters, or more than a line")),
        password => Ok(Password(password.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn said(content: &[u8], mode: u32) -> Result<String, String> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let said = read(&path).map(|password| password.reveal().to_owned());
        said.map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn a_password_is_the_line_of_its_file() {
        for content in ["secret", "secret\n", "secret\r\n"] {
            assert_eq!(said(content.as_bytes(), 0o600), Ok("secret".into()));
        }
        assert_eq!(said(b" s p \n", 0o400), Ok(" s p ".into()));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o666] {
            let why = said(b"secret", mode).unwrap_err();
            assert_eq!(why, "the password file FILE can be read by others than its owner: `chmod 600` it");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_and_never_an_empty_password() {
        let error = read(Path::new("/nowhere/password")).unwrap_err();
        assert_eq!(error.to_string(), "the password file /nowhere/password cannot be read");
    }

    #[test]
    fn what_is_no_password_is_said() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "is empty"),
            (b"\n", "is empty"),
            (b"two\nlines\n", "holds control characters, or more than a line"),
            (&[b'x'; 81], "holds more than 80 bytes"),
            (&[0xff, 0xfe], "is not text"),
        ];
        for (content, why) in cases {
            assert_eq!(said(content, 0o600), Err(format!("the password file FILE {why}")));
        }
        assert!(said(&[b'x'; 80], 0o600).is_ok());
        let dir = tempfile::TempDir::new().unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("is not a regular file"));
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(format!("{:?}", Password("secret".into())), "Password(…)");
    }
}
