//! Which gobgpds this instance speaks through, remembered beside its socket: what netd put into one it can find again
//! after the file has stopped naming it.

use netd_gobgp::{Endpoint, Tls};
use netd_schema::{BgpTls, Gobgpd, TlsIdentity};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the file.
const FILE: &str = "gobgpds.json";

/// The list, the one in use last.
#[derive(Debug)]
pub struct Places {
    file: PathBuf,
    list: Vec<Gobgpd>,
}

/// A gobgpd in the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Managed,
    Unix(PathBuf),
    Http(std::net::SocketAddr),
    Https { authority: String, ca: PathBuf, identity: Option<(PathBuf, PathBuf)> },
}

impl Places {
    /// The list of the instance that has this folder.
    ///
    /// # Errors
    ///
    /// Why it cannot be read: what there is, is not known then.
    pub fn of(folder: &Path) -> Result<Self, String> {
        let file = folder.join(FILE);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "[]".to_owned(),
            Err(error) => return Err(format!("read {}: {error}", file.display())),
        };
        let stored: Vec<Stored> = serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "the list of gobgpds is of no use, and is made anew");
            Vec::new()
        });
        Ok(Self { file, list: stored.into_iter().map(Gobgpd::from).collect() })
    }

    /// All of them, the one in use last.
    #[must_use]
    pub fn all(&self) -> &[Gobgpd] {
        &self.list
    }

    /// Notes that this one is in use from now on.
    ///
    /// # Errors
    ///
    /// Why it cannot be written.
    pub fn use_from_now(&mut self, gobgpd: &Gobgpd) -> Result<(), String> {
        if self.list.last() == Some(gobgpd) {
            return Ok(());
        }
        self.list.retain(|other| !is_same(other, gobgpd));
        self.list.push(gobgpd.clone());
        self.write()
    }

    /// Notes that netd will not look after this one any more.
    ///
    /// # Errors
    ///
    /// Why it cannot be written.
    pub fn forget(&mut self, gobgpd: &Gobgpd) -> Result<(), String> {
        let before = self.list.len();
        self.list.retain(|other| !is_same(other, gobgpd));
        match self.list.len() == before {
            true => Ok(()),
            false => self.write(),
        }
    }

    fn write(&self) -> Result<(), String> {
        let failed = |error: io::Error| format!("write {}: {error}", self.file.display());
        if self.list.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let stored: Vec<Stored> = self.list.iter().map(Stored::from).collect();
        let text = serde_json::to_string(&stored).map_err(|error| failed(error.into()))?;
        // Lost in a crash of the machine, it is not missed: gobgpd ends with the machine.
        let beside = self.file.with_extension("json.new");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.file)).map_err(failed)
    }
}

impl From<Stored> for Gobgpd {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Managed => Self::Managed,
            Stored::Unix(path) => Self::Unix(path),
            Stored::Http(address) => Self::Http(address),
            Stored::Https { authority, ca, identity } => {
                let identity = identity.map(|(certificate, key)| TlsIdentity { certificate, key });
                Self::Https { authority, tls: BgpTls { ca, identity } }
            }
        }
    }
}

impl From<&Gobgpd> for Stored {
    fn from(gobgpd: &Gobgpd) -> Self {
        match gobgpd.clone() {
            Gobgpd::Managed => Self::Managed,
            Gobgpd::Unix(path) => Self::Unix(path),
            Gobgpd::Http(address) => Self::Http(address),
            Gobgpd::Https { authority, tls: BgpTls { ca, identity } } => {
                let identity = identity.map(|TlsIdentity { certificate, key }| (certificate, key));
                Self::Https { authority, ca, identity }
            }
        }
    }
}

/// Whether these are one gobgpd, however it is spoken to.
fn is_same(one: &Gobgpd, other: &Gobgpd) -> bool {
    match (one, other) {
        (Gobgpd::Https { authority: one, tls: _ }, Gobgpd::Https { authority: other, tls: _ }) => {
            one == other
        }
        _ => one == other,
    }
}

/// Where a gobgpd that netd did not start listens; `None` for the managed one.
#[must_use]
pub fn endpoint(gobgpd: &Gobgpd) -> Option<Endpoint> {
    Some(match gobgpd.clone() {
        Gobgpd::Managed => return None,
        Gobgpd::Unix(path) => Endpoint::Unix(path),
        Gobgpd::Http(address) => Endpoint::Loopback(address),
        Gobgpd::Https { authority, tls: BgpTls { ca, identity } } => {
            let identity = identity.map(|TlsIdentity { certificate, key }| (certificate, key));
            Endpoint::Https { authority, tls: Tls { ca, identity } }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_list_is_found_again_and_its_file_goes_with_its_last_entry() {
        let folder = tempfile::TempDir::new().unwrap();
        let tls = BgpTls {
            ca: "/ca".into(),
            identity: Some(TlsIdentity { certificate: "/c".into(), key: "/k".into() }),
        };
        let all = [
            Gobgpd::Managed,
            Gobgpd::Unix("/run/x".into()),
            Gobgpd::Http("127.0.0.1:1".parse().unwrap()),
            Gobgpd::Https { authority: "a:1".into(), tls },
        ];
        let mut places = Places::of(folder.path()).unwrap();
        for gobgpd in &all {
            places.use_from_now(gobgpd).unwrap();
        }
        places.use_from_now(&all[0]).unwrap();
        let mut again = Places::of(folder.path()).unwrap();
        assert_eq!(again.all(), [&all[1..], &all[..1]].concat());
        for gobgpd in &all {
            again.forget(gobgpd).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_gobgpd_whose_certificates_change_is_the_same_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let with = |ca: &str| {
            let tls = BgpTls { ca: ca.into(), identity: None };
            Gobgpd::Https { authority: "a:1".into(), tls }
        };
        let mut places = Places::of(folder.path()).unwrap();
        places.use_from_now(&with("/old")).unwrap();
        places.use_from_now(&with("/new")).unwrap();
        assert_eq!(places.all(), [with("/new")]);
        places.forget(&with("/old")).unwrap();
        assert!(places.all().is_empty());
    }

    #[test]
    fn a_broken_list_is_an_empty_one_and_an_unreadable_one_is_unknown() {
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join(FILE), "nonsense").unwrap();
        assert!(Places::of(folder.path()).unwrap().all().is_empty());
        fs::remove_file(folder.path().join(FILE)).unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        assert!(Places::of(folder.path()).is_err());
    }
}
