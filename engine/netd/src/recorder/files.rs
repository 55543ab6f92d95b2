//! The files of captures that the desired file names: written by a thread of their own, so that no slow disk holds up the
//! others, and what is remembered beside them.
//!
//! A capture's folder has its files and `capture.json`: what was wanted, and how far it is. The files stay when the capture
//! goes; only rotation deletes any.

use super::named::{Remembered, Wanted};
use super::under_way::Why;
use super::{Frames, Piece};
use crate::clock;
use netd_bpf::recorder::Counts;
use rustix::fs::fstatvfs;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// What is remembered lies beside the files under this name.
const REMEMBERED: &str = "capture.json";

/// Between two times that it is written how far a capture is.
const REMEMBER_EVERY: Duration = Duration::from_secs(1);

/// A twentieth of the disk, and at most so many bytes, is left for the node: netd's own state may be on it.
const LEFT_BYTES_MAX: u64 = 64 << 20;
const LEFT_SHARE: u64 = 20;

/// Digits of a file's number, so that names are in the order of time.
const DIGITS: usize = 6;

/// How far a capture is, between the thread that records and the one that writes.
pub(super) struct Log(Mutex<State>);

struct State {
    remembered: Remembered,
    /// What is in the files.
    written: Frames,
    path: Option<PathBuf>,
    failure: Option<String>,
}

impl Log {
    pub(super) fn new(remembered: Remembered) -> Self {
        let Counts { packets, bytes, .. } = remembered.counts();
        let written = Frames { packets, bytes };
        Self(Mutex::new(State { remembered, written, path: None, failure: None }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago it began, and what it has.
    pub(super) fn so_far(&self) -> (Duration, Counts) {
        let state = self.lock();
        let elapsed = clock::unix_ms().saturating_sub(state.remembered.begun_ms);
        (Duration::from_millis(elapsed), state.remembered.counts())
    }

    pub(super) fn count(&self, counts: Counts) {
        self.lock().remembered.set_counts(counts);
    }

    /// Says why it is over, unless it is to go on.
    pub(super) fn end(&self, why: &Why) {
        if !why.is_interrupted {
            self.lock().remembered.ended = Some(why.sentence.clone());
        }
    }

    /// Why its files could not be written.
    pub(super) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// The file that is written, or was last.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.lock().path.clone()
    }

    /// What was counted, where what could not be written any more is lost.
    pub(super) fn as_written(&self, counted: Counts) -> Counts {
        self.lock().as_written(counted)
    }

    fn remembered(&self) -> Remembered {
        let state = self.lock();
        let mut remembered = state.remembered.clone();
        remembered.set_counts(state.as_written(remembered.counts()));
        remembered
    }
}

impl State {
    fn as_written(&self, counted: Counts) -> Counts {
        if self.failure.is_none() {
            return counted;
        }
        let Frames { packets, bytes } = self.written;
        Counts {
            packets,
            bytes,
            lost_packets: counted.lost_packets + counted.packets.saturating_sub(packets),
            lost_bytes: counted.lost_bytes + counted.bytes.saturating_sub(bytes),
        }
    }
}

/// The folder of a capture, which may not be there yet.
pub(super) struct Folder {
    name: String,
    path: PathBuf,
}

impl Folder {
    /// Of a capture in the folder of all.
    pub(super) fn of(captures: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), path: captures.join(name) }
    }

    /// Makes it where it is missing, for nobody but netd.
    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        match fs::symlink_metadata(&self.path)?.is_dir() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder")),
        }
    }

    /// What is remembered of the capture; `None`: nothing that could be read.
    pub(super) fn recall(&self) -> io::Result<Option<Remembered>> {
        let text = match fs::read(self.path.join(REMEMBERED)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let remembered = serde_json::from_slice(&text);
        Ok(remembered
            .inspect_err(|error| tracing::warn!(name = self.name, %error, "nothing is known of a capture"))
            .ok())
    }

    /// Remembers, whole or not at all.
    pub(super) fn remember(&self, remembered: &Remembered) -> io::Result<()> {
        let next = self.path.join(format!("{REMEMBERED}.next"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(remembered)?)?;
        fs::rename(&next, self.path.join(REMEMBERED))
    }

    /// Forgets the capture; its files stay, and an empty folder goes.
    pub(super) fn forget(&self) -> io::Result<()> {
        for name in [REMEMBERED.to_owned(), format!("{REMEMBERED}.next")] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// The last of its files.
    pub(super) fn last(&self) -> Option<PathBuf> {
        let (_, name) = self.files().ok()?.pop()?;
        Some(self.path.join(name))
    }

    /// Its files, the oldest first, by number.
    fn files(&self) -> io::Result<Vec<(u64, String)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = name.strip_prefix(&*self.name).and_then(|rest| rest.strip_prefix('-'));
            let number =
                number.and_then(|rest| rest.split_once('-')).and_then(|(number, _)| number.parse().ok());
            files.extend(number.map(|number| (number, name.to_owned())));
        }
        files.sort();
        Ok(files)
    }

    /// Begins the next file, and deletes the oldest beyond those that are kept.
    fn next(&self, wanted: &Wanted) -> io::Result<(PathBuf, File)> {
        let mut files = self.files()?;
        let number = files.last().map_or(1, |(last, _)| last + 1);
        let keep = usize::try_from(wanted.files.max(1)).unwrap_or(usize::MAX) - 1;
        while files.len() > keep {
            fs::remove_file(self.path.join(files.remove(0).1))?;
        }
        let time = clock::in_a_name(clock::unix_ms());
        let ending = wanted.order.format.ending();
        let path = self.path.join(format!("{}-{number:0DIGITS$}-{time}.{ending}", self.name));
        // What is there already is nobody's to write to, and no link is followed.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((path, file))
    }
}

/// Writes what comes until the end does, or until it cannot: then the receiver goes, and the log says why.
pub(super) fn write(folder: &Folder, wanted: &Wanted, log: &Arc<Log>, mut pieces: mpsc::Receiver<Piece>) {
    if let Err(why) = write_all(folder, wanted, log, &mut pieces) {
        let mut state = log.lock();
        state.remembered.ended = Some(why.clone());
        state.failure = Some(why);
    }
    if let Err(error) = folder.remember(&log.remembered()) {
        tracing::warn!(name = folder.name, %error, "what became of a capture is not remembered");
    }
}

fn write_all(
    folder: &Folder,
    wanted: &Wanted,
    log: &Log,
    pieces: &mut mpsc::Receiver<Piece>,
) -> Result<(), String> {
    let begin = || {
        let (path, file) = folder.next(wanted).map_err(|error| unwritten(&error))?;
        log.lock().path = Some(path);
        Ok::<_, String>(Output { file, whole: 0 })
    };
    let mut output = begin()?;
    let mut remembered_at = clock::now();
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes, frames) => {
                output.write(&bytes)?;
                log.lock().written.add(frames);
            }
            Piece::Next => output = begin()?,
            Piece::End => return Ok(()),
        }
        let now = clock::now();
        if now.saturating_duration_since(remembered_at) >= REMEMBER_EVERY {
            remembered_at = now;
            folder.remember(&log.remembered()).map_err(|error| unwritten(&error))?;
        }
    }
    Ok(())
}

/// A file of a capture.
struct Output {
    file: File,
    /// Bytes of blocks that are whole.
    whole: u64,
}

impl Output {
    /// Adds whole blocks, or nothing.
    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let left = left(&self.file).map_err(|error| unwritten(&error))?;
        if left < bytes.len() as u64 {
            return Err("the disk is full: what is left of it is for the node".into());
        }
        if let Err(error) = self.file.write_all(bytes) {
            // A block that was cut off is no block; what cannot be taken back is the end of the file for who reads it.
            let _ = self.file.set_len(self.whole);
            return Err(unwritten(&error));
        }
        self.whole += bytes.len() as u64;
        Ok(())
    }
}

/// Bytes of the disk that captures may still have.
fn left(file: &File) -> io::Result<u64> {
    let disk = fstatvfs(file)?;
    let all = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(free.saturating_sub((all / LEFT_SHARE).min(LEFT_BYTES_MAX)))
}

fn unwritten(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => format!("its files cannot be written: {error}"),
    }
}
