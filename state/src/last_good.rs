//! The last accepted file, kept whole in one checksummed file that survives alone.
//!
//! The file is the text with one comment line before it, so that it still reads as what it is:
//!
//! ```text
//! #netd-last-good 1 {"number":7,"sha256":"…","source":"/etc/netd/desired.toml","accepted_at_unix_ms":0} 9f8e7d6c5b4a3921
//! version = 1
//! …
//! ```
//!
//! The last word is the XXH3 of the JSON; the JSON holds the SHA-256 of the text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;
use xxhash_rust::xxh3::xxh3_64;

use crate::StateError;

pub(crate) const FILE_NAME: &str = "last-good.toml";
/// Written first and then renamed; a leftover of a crash is overwritten by the next write.
pub(crate) const TEMPORARY_NAME: &str = "last-good.toml.new";
const MAGIC: &str = "#netd-last-good 1 ";
/// No accepted file comes near this; a larger one on disk is not ours and is not read into memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The SHA-256 of a text; shown and stored in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// The last accepted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    /// The file, whole.
    pub text: String,
    /// [`Digest::of`] the text.
    pub sha256: Digest,
    /// Its number in the history.
    pub number: u64,
    /// The path it was read from, for people to read.
    pub source: String,
    /// When it was accepted, in milliseconds of Unix time.
    pub accepted_at_unix_ms: u64,
    /// Not everything that it deletes was known, and judged, when it was accepted.
    pub is_unjudged: bool,
    /// The addresses that services were given, by the service's name: what the text asks for and does not say itself.
    pub addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    number: u64,
    sha256: Digest,
    source: String,
    accepted_at_unix_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_unjudged: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// Reads the last good file of the state directory; `None` when there is none yet.
pub(crate) fn read(dir: &Path) -> Result<Option<LastGood>, StateError> {
    let path = dir.join(FILE_NAME);
    let damaged = |why| StateError::Damaged { path: path.clone(), why };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StateError::io("open", &path)(e)),
    };
    if !file.metadata().map_err(StateError::io("read", &path))?.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(StateError::io("read", &path))?;
    parse(bytes).map(Some).map_err(damaged)
}

/// Replaces the last good file: after a crash or a power cut either the old or the new one is there, whole.
pub(crate) fn write(dir: &Path, last_good: &LastGood) -> Result<(), StateError> {
    let (temporary, path) = (dir.join(TEMPORARY_NAME), dir.join(FILE_NAME));
    for place in [&temporary, &path] {
        clear(place).map_err(StateError::io("clear", place))?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&temporary)
        .map_err(StateError::io("create", &temporary))?;
    file.write_all(header_line(last_good).as_bytes())
        .and_then(|()| file.write_all(last_good.text.as_bytes()))
        .map_err(StateError::io("write", &temporary))?;
    file.sync_all().map_err(StateError::io("sync", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(StateError::io("replace", &path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StateError::io("sync", dir))
}

/// Removes what is no regular file: nothing can be written into it or renamed over it, and a FIFO would block.
fn clear(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(found) if !found.is_file() => std::fs::remove_file(path),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn header_line(last_good: &LastGood) -> String {
    let LastGood { text: _, sha256, number, source, accepted_at_unix_ms, is_unjudged, addresses } = last_good;
    let header = Header {
        number: *number,
        sha256: *sha256,
        source: source.clone(),
        accepted_at_unix_ms: *accepted_at_unix_ms,
        is_unjudged: *is_unjudged,
        addresses: addresses.clone(),
    };
    let json = serde_json::to_string(&header).expect("plain fields are JSON");
    format!("{MAGIC}{json} {:016x}\n", xxh3_64(json.as_bytes()))
}

fn parse(bytes: Vec<u8>) -> Result<LastGood, &'static str> {
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not text")?;
    let (first, _) = text.split_once('\n').ok_or("it has no header line")?;
    let header_bytes = first.len() + 1;
    let header = first.strip_prefix(MAGIC).ok_or("its header line is not netd's")?;
    let (json, sum) = header.rsplit_once(' ').ok_or("its header line is cut")?;
    if format!("{:016x}", xxh3_64(json.as_bytes())) != sum {
        return Err("the checksum of its header does not fit");
    }
    let header: Header = serde_json::from_str(json).map_err(|_| "its header line is not netd's")?;
    text.drain(..header_bytes);
    if Digest::of(&text) != header.sha256 {
        return Err("the checksum of its text does not fit");
    }
    let Header { number, sha256, source, accepted_at_unix_ms, is_unjudged, addresses } = header;
    Ok(LastGood { text, sha256, number, source, accepted_at_unix_ms, is_unjudged, addresses })
}

impl Digest {
    /// The digest of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(sha2::Sha256::digest(text.as_bytes()).into())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a digest is 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(WRONG);
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(index * 2..index * 2 + 2).ok_or(WRONG)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| WRONG)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
