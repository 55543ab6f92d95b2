//! One attempt at reading the desired file: the whole of it, read twice with the same result, or why not.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// The largest desired file that is read, in bytes. The schema has the same limit for texts from elsewhere.
pub const FILE_BYTES_MAX: u64 = netd_schema::FILE_BYTES_MAX as u64;

/// How often one call starts over when the file changes under its eyes, before it says [`Reading::Unstable`].
const ATTEMPTS_MAX: usize = 3;

/// Bytes compared at a time in the second pass.
const COMPARE_BYTES: usize = 64 * 1024;

/// What one attempt at reading the file found. The sentences name the path and fit a status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The whole content, read twice with the same result. It may be empty.
    Text(SourceText),
    /// There is no file: no such name, or a symlink that dangles or loops.
    Missing(String),
    /// There is something that will not be read: a directory, a pipe, a device, a socket, a file over
    /// [`FILE_BYTES_MAX`]. It stays so until somebody changes it.
    Refused(String),
    /// The system refused to open or read it (EACCES, EIO, ESTALE). It may pass.
    Unreadable(String),
    /// It changed while it was being read, each time: try again shortly.
    Unstable(String),
}

/// The content of the desired file at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The content as it is, not checked to be UTF-8.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes` in lower-case hexadecimal: the identity of what is planned and applied.
    pub sha256: String,
    /// The path that was asked for.
    pub path: PathBuf,
    /// Where the symlinks led.
    pub real_path: PathBuf,
    /// What the kernel said of the file that was read.
    pub stamp: Stamp,
    /// What is worrying about the file though it was read: who may change it, who owns it.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for SourceText {
    /// Leaves the bytes out: a configuration of many megabytes has no place in a log line.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SourceText { bytes, sha256, path, real_path, stamp, warnings } = self;
        out.debug_struct("SourceText")
            .field("bytes", &bytes.len())
            .field("sha256", sha256)
            .field("path", path)
            .field("real_path", real_path)
            .field("stamp", stamp)
            .field("warnings", warnings)
            .finish()
    }
}

/// What identifies a state of a file without reading it. Equal stamps do not prove equal content: timestamps
/// have the kernel's tick as resolution and can be set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The device that holds the file.
    pub device: u64,
    /// The inode on that device.
    pub inode: u64,
    /// Its size in bytes, as the file system reports it.
    pub size: u64,
    /// Last change of the content: seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// Last change of the inode: seconds and nanoseconds since 1970.
    pub changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The stamp of what the path leads to now.
    pub fn at(path: &Path) -> io::Result<Stamp> {
        fs::metadata(path).map(|meta| Stamp::of(&meta))
    }
}

/// Reads the file once. Never waits for a writer, a reader or a device; a network file system may take its time.
pub fn read(path: &Path) -> Reading {
    read_unless_known(path, None)
}

/// As [`read`], but content whose hash is `known` is believed at the first pass: it was confirmed before.
pub fn read_unless_known(path: &Path, known: Option<&str>) -> Reading {
    read_interrupted(path, known, &mut || {})
}

/// As [`read_unless_known`], with something that happens after each first pass: the moment that tests need.
pub(super) fn read_interrupted(path: &Path, known: Option<&str>, between: &mut dyn FnMut()) -> Reading {
    for _ in 0..ATTEMPTS_MAX {
        match attempt(path, known, between) {
            Ok(Some(reading)) => return reading,
            Ok(None) => {}
            Err(error) => return from_error(path, &error),
        }
    }
    Reading::Unstable(format!("{} changes while it is being read", path.display()))
}

/// One open file, read to its end twice; `None` when it changed or was replaced meanwhile.
fn attempt(path: &Path, known: Option<&str>, between: &mut dyn FnMut()) -> io::Result<Option<Reading>> {
    // Asked before opening, because opening a device can already do something.
    if let Some(refusal) = refusal(path, &fs::metadata(path)?) {
        return Ok(Some(refusal));
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    // Asked again of the open file: the path may lead elsewhere by now.
    let meta = file.metadata()?;
    if let Some(refusal) = refusal(path, &meta) {
        return Ok(Some(refusal));
    }
    let Some(bytes) = read_to_cap(&mut file, meta.size())? else {
        return Ok(Some(too_large(path, "grows beyond")));
    };
    let sha256 = hex(&Sha256::digest(&bytes));
    between();
    if known != Some(sha256.as_str()) && !reads_the_same(&mut file, &bytes)? {
        return Ok(None);
    }
    let stamp = Stamp::of(&meta);
    let after = Stamp::of(&file.metadata()?);
    let at_path = Stamp::at(path)?;
    if stamp != after || (at_path.device, at_path.inode) != (stamp.device, stamp.inode) {
        return Ok(None);
    }
    let real_path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .or_else(|_| fs::canonicalize(path))
        .unwrap_or_else(|_| path.to_owned());
    let warnings = warnings(path, meta.mode(), meta.uid(), rustix::process::geteuid().as_raw());
    Ok(Some(Reading::Text(SourceText { bytes, sha256, path: path.to_owned(), real_path, stamp, warnings })))
}

/// Why something that exists is not read, if so.
fn refusal(path: &Path, meta: &Metadata) -> Option<Reading> {
    let kind = meta.file_type();
    let what = if kind.is_file() {
        return (meta.size() > FILE_BYTES_MAX).then(|| too_large(path, "is larger than"));
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "of an unknown type"
    };
    Some(Reading::Refused(format!("{} is {what}; a regular file is needed", path.display())))
}

fn too_large(path: &Path, how: &str) -> Reading {
    let mebibytes = FILE_BYTES_MAX / (1024 * 1024);
    Reading::Refused(format!("{} {how} {mebibytes} MiB, the most that is read", path.display()))
}

/// Reads to the end, or `None` beyond [`FILE_BYTES_MAX`]. The size is only a hint: some file systems report 0.
fn read_to_cap(file: &mut File, size_hint: u64) -> io::Result<Option<Vec<u8>>> {
    let capacity = usize::try_from(size_hint.min(FILE_BYTES_MAX)).unwrap_or(0).saturating_add(1);
    let mut bytes = Vec::with_capacity(capacity);
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}

/// Whether reading the file again from its start gives these bytes and no others, without a second copy of them.
fn reads_the_same(file: &mut File, bytes: &[u8]) -> io::Result<bool> {
    file.rewind()?;
    let mut rest = bytes;
    let mut chunk = vec![0; COMPARE_BYTES.min(bytes.len() + 1)];
    loop {
        let length = match file.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(rest.is_empty());
        }
        match (chunk.get(..length), rest.split_at_checked(length)) {
            (Some(again), Some((before, behind))) if again == before => rest = behind,
            _ => return Ok(false),
        }
    }
}

/// What a failed system call says of the file.
pub(super) fn from_error(path: &Path, error: &io::Error) -> Reading {
    let shown = path.display();
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Reading::Missing(match fs::read_link(path) {
            Ok(target) => format!("{shown} is a symlink to {}, which does not exist", target.display()),
            Err(_) => format!("{shown} does not exist"),
        }),
        Some(Errno::LOOP) => Reading::Missing(format!("{shown} is a symlink that leads back to itself")),
        Some(Errno::ISDIR) => Reading::Refused(format!("{shown} is a directory; a regular file is needed")),
        Some(Errno::NXIO | Errno::NODEV) => {
            Reading::Refused(format!("{shown} is a socket or a device; a regular file is needed"))
        }
        _ => Reading::Unreadable(format!("read {shown}: {error}")),
    }
}

/// What is worrying about who may change the file: netd does as root what it says.
pub(super) fn warnings(path: &Path, mode: u32, owner: u32, own_uid: u32) -> Vec<String> {
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    const PERMISSIONS: u32 = 0o7777;
    let mut found = Vec::new();
    if mode & WRITABLE_BY_OTHERS != 0 {
        found.push(format!(
            "{} can be changed by every user (mode {:04o})",
            path.display(),
            mode & PERMISSIONS
        ));
    }
    if owner != 0 && owner != own_uid {
        found.push(format!("{} belongs to user {owner}, neither root nor netd's own", path.display()));
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
