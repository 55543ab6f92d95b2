//! Which private key is this node's: that of its file, or, once the file of nodes has moved on to it, the next one.

use netd_wireguard::{KeyFileError, PrivateKey, PublicKey, create, read};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The name of the file of the private key, among what netd remembers.
pub const KEY_FILE: &str = "wireguard.key";

/// The file of the key that comes after the one in `key_file`.
#[must_use]
pub fn next_file(key_file: &Path) -> PathBuf {
    let mut name = OsString::from(key_file);
    name.push(".next");
    name.into()
}

/// The private key whose public key is `listed`, and whether it is the next one. Where none is listed, it is that of the
/// file, which is made if it is not there.
///
/// # Errors
///
/// A sentence: what is wrong with the files.
pub fn own_key(key_file: &Path, listed: Option<PublicKey>) -> Result<(PrivateKey, bool), String> {
    let present = read(key_file);
    let Some(listed) = listed else {
        return match present {
            Err(KeyFileError::Missing { .. }) => create(key_file),
            other => other,
        }
        .map(|key| (key, false))
        .map_err(|error| super::said(&error));
    };
    if let Ok(key) = &present
        && key.public() == listed
    {
        return Ok((key.clone(), false));
    }
    match read(&next_file(key_file)) {
        Ok(next) if next.public() == listed => return Ok((next, true)),
        Err(error @ (KeyFileError::Refused { .. } | KeyFileError::Io { .. })) => {
            return Err(super::said(&error));
        }
        Ok(_) | Err(KeyFileError::Missing { .. }) => {}
    }
    let lists = format!("the file of nodes lists the public key {} for this node", listed.fingerprint());
    match present {
        Ok(other) => Err(format!(
            "{lists}, and {} holds the private one of {}: `netd wireguard pubkey --write` lists that",
            key_file.display(),
            other.public().fingerprint(),
        )),
        Err(error) => Err(format!("{}; {lists}", super::said(&error))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_key_is_made_where_none_is_listed_and_never_where_one_is() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join(KEY_FILE);
        let listed = PrivateKey::generate().public();
        assert!(own_key(&file, Some(listed)).unwrap_err().starts_with("there is no key file"));
        assert!(!file.exists());
        let (made, is_next) = own_key(&file, None).unwrap();
        assert!(file.exists() && !is_next);
        assert_eq!(own_key(&file, Some(made.public())).unwrap().0.public(), made.public());
        assert!(own_key(&file, Some(listed)).unwrap_err().contains("lists that"));
    }

    #[test]
    fn w7_the_next_key_is_the_nodes_once_it_is_listed() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join(KEY_FILE);
        let (present, _) = own_key(&file, None).unwrap();
        let next = create(&next_file(&file)).unwrap();
        assert_eq!(own_key(&file, None).unwrap().0.public(), present.public());
        let (key, is_next) = own_key(&file, Some(next.public())).unwrap();
        assert_eq!((key.public(), is_next), (next.public(), true));
    }
}
