//! Opens the database whatever state it is in, sets it aside where it is no good, and works without one if need be.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, OpenError, SledDisk};
use crate::guard::{self, Failure};
use crate::mirror::{Mirror, Rows};
use crate::owner::Owner;
use crate::quarantine::{self, SetAside};
use crate::writer::{Follow, Reopen};
use crate::{LastGood, Store};

/// Opening and reading takes well under a second; this is for a slow disk on a starved processor.
const OPEN_TIME_MAX: Duration = Duration::from_secs(20);
/// So many starts in a row may die while they open the database before it is set aside unopened.
const ATTEMPTS_MAX: u32 = 3;
/// Counts the starts that are opening the database.
pub(crate) const ATTEMPTS_NAME: &str = "db.opening";
/// With less free space a failure is put down to the full disk: sled grows by segments of 512 KiB.
const FREE_BYTES_MIN: u64 = 2 << 20;

/// A store, and what happened on the way to it.
#[derive(Debug)]
pub struct Opened {
    /// The store; see [`Store::durable`] for whether it is on disk.
    pub store: Store,
    /// The database that could not be used, if there was one.
    pub set_aside: Option<SetAside>,
    /// Rows that were dropped because they did not decode; the next pass writes them again.
    pub rows_dropped: usize,
}

/// A database that is open.
pub(crate) struct Ready {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) rows: Rows,
    pub(crate) set_aside: Option<SetAside>,
}

/// A database that is not open.
struct Closed {
    reason: String,
    set_aside: Option<SetAside>,
    /// A thread that hangs in the old database may still write by its path: this process must not make another.
    hangs: bool,
}

/// Opens the store of the state directory `dir`, which belongs to `owner`; never fails.
pub(crate) fn open(dir: &Path, owner: Owner, last_good: Option<&LastGood>) -> Opened {
    let places = Places::below(dir, owner);
    match places.open_or_set_aside() {
        Ok(Ready { disk, rows, set_aside }) => {
            let (mirror, changes, rows_dropped) = Mirror::load(&rows, last_good);
            let follow = Follow::Disk { disk, changes, reopen: places.reopen() };
            Opened { store: Store::start(mirror, follow), set_aside, rows_dropped }
        }
        Err(Closed { reason, set_aside, hangs }) => {
            let (mirror, _, _) = Mirror::load(&Rows::default(), last_good);
            let reopen = (!hangs).then(|| places.reopen());
            Opened {
                store: Store::start(mirror, Follow::Memory { reason, reopen }),
                set_aside,
                rows_dropped: 0,
            }
        }
    }
}

/// A store that works from memory, for this reason.
pub(crate) fn none(reason: String, last_good: Option<&LastGood>) -> Opened {
    let (mirror, _, _) = Mirror::load(&Rows::default(), last_good);
    let store = Store::start(mirror, Follow::Memory { reason, reopen: None });
    Opened { store, set_aside: None, rows_dropped: 0 }
}

#[derive(Clone)]
struct Places {
    owner: Owner,
    db: PathBuf,
    quarantine: PathBuf,
    attempts: PathBuf,
}

impl Places {
    fn below(dir: &Path, owner: Owner) -> Self {
        Self {
            owner,
            db: dir.join("db"),
            quarantine: dir.join("quarantine"),
            attempts: dir.join(ATTEMPTS_NAME),
        }
    }

    fn reopen(&self) -> Reopen {
        let places = self.clone();
        Box::new(move || places.open_or_set_aside().map_err(|closed| closed.reason))
    }

    fn open_or_set_aside(&self) -> Result<Ready, Closed> {
        let why = match self.open_once() {
            Ok((disk, rows)) => return Ok(Ready { disk: Arc::new(disk), rows, set_aside: None }),
            Err(Trouble::Environment(reason)) => {
                return Err(Closed { reason, set_aside: None, hangs: false });
            }
            Err(Trouble::Hangs(reason)) => {
                let set_aside = quarantine::set_aside(&self.db, &self.quarantine, reason.clone()).ok();
                return Err(Closed { reason, set_aside, hangs: true });
            }
            Err(Trouble::Bad(why)) => why,
        };
        let set_aside = match quarantine::set_aside(&self.db, &self.quarantine, why.clone()) {
            Ok(set_aside) => Some(set_aside),
            Err(e) => {
                let reason = format!("the database is no good ({why}) and cannot be set aside: {e}");
                return Err(Closed { reason, set_aside: None, hangs: false });
            }
        };
        match self.open_once() {
            Ok((disk, rows)) => Ok(Ready { disk: Arc::new(disk), rows, set_aside }),
            Err(Trouble::Environment(reason) | Trouble::Bad(reason)) => Err(Closed {
                reason: format!("a new database cannot be made: {reason}"),
                set_aside,
                hangs: false,
            }),
            Err(Trouble::Hangs(reason)) => Err(Closed { reason, set_aside, hangs: true }),
        }
    }

    fn open_once(&self) -> Result<(SledDisk, Rows), Trouble> {
        let attempts =
            self.count_attempt().map_err(|e| Trouble::Environment(format!("cannot write: {e}")))?;
        let result = if attempts > ATTEMPTS_MAX {
            Err(Trouble::Bad(format!("{ATTEMPTS_MAX} starts in a row died while opening it")))
        } else {
            self.open_guarded()
        };
        // Left behind, it would count this attempt as one that died; too many of those only cost a cache.
        if let Err(e) = fs::remove_file(&self.attempts) {
            tracing::warn!(path = %self.attempts.display(), error = %e, "cannot remove the count of attempts");
        }
        match result {
            Err(Trouble::Bad(why)) if self.is_disk_full() => {
                Err(Trouble::Environment(format!("the disk is full ({why})")))
            }
            result => result,
        }
    }

    fn open_guarded(&self) -> Result<(SledDisk, Rows), Trouble> {
        // sled would make its directories as the umask allows.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(self.db.join("blobs"));
        match made {
            Err(e)
                if e.kind() == io::ErrorKind::AlreadyExists || e.kind() == io::ErrorKind::NotADirectory =>
            {
                return Err(Trouble::Bad("it is not a directory".into()));
            }
            made => {
                made.map_err(|e| Trouble::Environment(format!("cannot make the database's directory: {e}")))?
            }
        }
        let (db, owner) = (self.db.clone(), self.owner);
        match guard::within(OPEN_TIME_MAX, move || SledDisk::open(&db, owner)) {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(OpenError::Environment(reason))) => Err(Trouble::Environment(reason)),
            Ok(Err(OpenError::Bad(why))) => Err(Trouble::Bad(why)),
            Err(failure @ Failure::Panicked(_)) => Err(Trouble::Bad(failure.to_string())),
            Err(failure @ Failure::TimedOut) => Err(Trouble::Hangs(failure.to_string())),
            Err(failure @ Failure::NotStarted(_)) => Err(Trouble::Environment(failure.to_string())),
        }
    }

    /// Counts this attempt on disk, for the case that opening kills the process: a damaged length can make sled
    /// ask for more memory than there is, which no guard in the process survives.
    fn count_attempt(&self) -> io::Result<u32> {
        let before = match fs::read_to_string(&self.attempts) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => 0,
            Err(e) => return Err(e),
        };
        let count: u32 = u32::saturating_add(before, 1);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.attempts)?;
        writeln!(file, "{count}")?;
        Ok(count)
    }

    fn is_disk_full(&self) -> bool {
        self.db.parent().and_then(|dir| rustix::fs::statvfs(dir).ok()).is_some_and(|fs| {
            fs.f_bavail.saturating_mul(fs.f_frsize) < FREE_BYTES_MIN
                || fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)
        })
    }
}

enum Trouble {
    Environment(String),
    Bad(String),
    Hangs(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Instant;

    use super::*;
    use crate::Durability;

    #[test]
    fn p11_a_database_that_another_lets_go_of_is_followed_then() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), Owner::default(), None).store;
        first.meta_set("from", Some("first"));
        let second = open(dir.path(), Owner::default(), None).store;
        assert!(matches!(second.durable(), Durability::NotDurable(_)));
        second.meta_set("and", Some("second"));
        drop(first);
        let start = Instant::now();
        while second.durable() != Durability::Durable {
            assert!(start.elapsed() < Duration::from_secs(20), "{second:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(second);
        let third = open(dir.path(), Owner::default(), None).store;
        assert_eq!(
            (third.meta_get("from").as_deref(), third.meta_get("and").as_deref()),
            (Some("first"), Some("second"))
        );
    }
}
