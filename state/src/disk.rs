//! The database: rows in sled, with its version, checked and split so that it stays within what sled does well.
//!
//! Every call may panic or hang; the callers guard it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Digest;
use crate::mirror::Rows;
use crate::owner::Owner;
use crate::row::{self, Changes, Key, Value};

/// The version of all that is written below; a change of meaning raises it.
pub(crate) const FORMAT: u32 = 1;
/// Holds the version in decimal; the one row whose meaning never changes.
const FORMAT_KEY: &[u8] = b"format";

/// Values are split into pieces of this size: sled keeps up to 16 of them in a page, and moves pages above 128 KiB
/// into files of their own, which it neither checks nor cleans as well as its log.
const PIECE_BYTES: usize = 4096;
/// Changes are written in batches of about this size, each whole or not at all after a crash. sled frees what it
/// replaced a little with each batch: at 256 KiB it kept more than a kilobyte for each row ever written, and at one
/// row each batch costs as much as a hundred rows.
const BATCH_BYTES: usize = 16 << 10;
/// What sled may keep in memory: all is in the mirror already.
const CACHE_BYTES: u64 = 8 << 20;
/// sled's threads let go of the file a moment after its handle is dropped.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Where rows are kept.
pub(crate) trait Disk: Send + Sync {
    /// Writes the rows in the order of their keys and returns when they are durable.
    fn write(&self, changes: &Changes) -> Result<(), String>;
    /// Reads one row. The calling thread does nothing else afterwards.
    fn read(&self, key: &Key) -> Result<Option<Value>, String>;
}

/// Why a database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The system refuses; the database may be good.
    Environment(String),
    /// The database is no good, or not for this version.
    Bad(String),
}

pub(crate) struct SledDisk {
    db: sled::Db,
    owner: Owner,
    /// How many pieces the rows have that have more than one.
    pieces: Mutex<BTreeMap<Key, u32>>,
}

impl SledDisk {
    /// Opens the database in `path`, makes it where there is none, and reads all of it. The calling thread acts as
    /// `owner` already.
    pub(crate) fn open(path: &Path, owner: Owner) -> Result<(Self, Rows), OpenError> {
        remove_leftovers(path)
            .map_err(|e| OpenError::Environment(format!("cannot clean the database: {e}")))?;
        let db = open_unlocked(path)?;
        check_format(&db)?;
        keep_private(path).map_err(|e| OpenError::Environment(format!("cannot set modes: {e}")))?;
        let disk = Self { db, owner, pieces: Mutex::default() };
        let rows = disk.read_all()?;
        Ok((disk, rows))
    }

    fn read_all(&self) -> Result<Rows, OpenError> {
        let mut rows = Rows::default();
        let mut pieces = BTreeMap::new();
        let mut unfinished: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        for item in self.db.iter() {
            let (piece_key, value) = item.map_err(|e| classify(&e))?;
            if *piece_key == *FORMAT_KEY {
                continue;
            }
            let Some((key, index)) = piece_key.split_last_chunk::<4>() else {
                rows.dropped += 1;
                continue;
            };
            let index = u32::from_be_bytes(*index);
            if index > 0 {
                pieces.insert(Key::from(key), index.saturating_add(1));
            }
            match row::name_in(row::TEXT, key) {
                // Texts are read one by one when asked for, and checked then.
                Some(name) => rows.texts.extend(<[u8; 32]>::try_from(name).ok().map(Digest)),
                None => unfinished.entry(Key::from(key)).or_default().extend_from_slice(&value),
            }
        }
        rows.rows = unfinished.into_iter().map(|(key, value)| (key, value.into())).collect();
        *self.pieces.lock().unwrap_or_else(PoisonError::into_inner) = pieces;
        Ok(rows)
    }
}

impl Disk for SledDisk {
    fn write(&self, changes: &Changes) -> Result<(), String> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, mut batch_bytes) = (sled::Batch::default(), 0);
        for (key, value) in changes {
            let before = pieces.remove(key).unwrap_or(1);
            let mut after = 0;
            for piece in value.iter().flat_map(|value| value.chunks(PIECE_BYTES)) {
                batch.insert(piece_key(key, after), piece);
                after += 1;
            }
            for index in after..before {
                batch.remove(piece_key(key, index));
            }
            if after > 1 {
                pieces.insert(key.clone(), after);
            }
            batch_bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            if batch_bytes >= BATCH_BYTES {
                self.db.apply_batch(std::mem::take(&mut batch)).map_err(|e| e.to_string())?;
                batch_bytes = 0;
            }
        }
        self.db.apply_batch(batch).map_err(|e| e.to_string())?;
        self.db.flush().map(drop).map_err(|e| e.to_string())
    }

    fn read(&self, key: &Key) -> Result<Option<Value>, String> {
        // On a thread of its own; sled may start one that writes.
        self.owner.become_it().map_err(|e| e.to_string())?;
        let count = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or(1);
        let mut value = Vec::new();
        for index in 0..count {
            match self.db.get(piece_key(key, index)).map_err(|e| e.to_string())? {
                Some(piece) => value.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
        Ok(Some(value.into()))
    }
}

fn piece_key(key: &Key, index: u32) -> Vec<u8> {
    [key, &index.to_be_bytes()[..]].concat()
}

fn open_unlocked(path: &Path) -> Result<sled::Db, OpenError> {
    // netd's writer thread flushes, so that it learns of every error; sled's own would hide them.
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let start = Instant::now();
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            Err(e) if is_locked(&e) && start.elapsed() < LOCK_WAIT_MAX => {
                thread::sleep(Duration::from_millis(20))
            }
            Err(e) => return Err(classify(&e)),
        }
    }
}

fn is_locked(error: &sled::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Errors of the system say nothing against the database; all others do.
fn classify(error: &sled::Error) -> OpenError {
    let environment = is_locked(error)
        || matches!(error, sled::Error::Io(e) if {
            use io::ErrorKind::{NotFound, OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
            const TABLES_FULL: [i32; 2] = [23, 24]; // ENFILE, EMFILE
            matches!(e.kind(), NotFound | OutOfMemory | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
                || e.raw_os_error().is_some_and(|code| TABLES_FULL.contains(&code))
        });
    let text = error.to_string();
    if environment { OpenError::Environment(text) } else { OpenError::Bad(text) }
}

fn check_format(db: &sled::Db) -> Result<(), OpenError> {
    let Some(bytes) = db.get(FORMAT_KEY).map_err(|e| classify(&e))? else {
        if !db.is_empty() {
            return Err(OpenError::Bad("it does not say its format".into()));
        }
        db.insert(FORMAT_KEY, FORMAT.to_string().as_bytes()).map_err(|e| classify(&e))?;
        return db.flush().map(drop).map_err(|e| classify(&e));
    };
    match str::from_utf8(&bytes).ok().and_then(|text| text.parse::<u32>().ok()) {
        Some(FORMAT) => Ok(()),
        Some(newer @ FORMAT..) => {
            Err(OpenError::Bad(format!("a newer netd wrote it: format {newer}, this one knows {FORMAT}")))
        }
        Some(older) => Err(OpenError::Bad(format!("its format {older} is not supported"))),
        None => Err(OpenError::Bad("it does not say its format".into())),
    }
}

/// A snapshot that was being written when the process died keeps sled from opening.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled makes its files as the umask allows.
fn keep_private(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let mode = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
    }
    Ok(())
}
