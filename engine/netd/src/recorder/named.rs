//! The captures that the desired file names: what is wanted of each, what is remembered, and how they begin and end.

use super::files::{self, Folder, Log};
use super::under_way::Why;
use super::{Captures, Order, Origin, Sink, Standing};
use crate::clock;
use netd_bpf::recorder::Counts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the end of a capture's last file is waited for; then its key is not free yet, and is asked for again.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// Between two looks whether it is written.
const REST: Duration = Duration::from_millis(5);

/// What the file says of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// What is recorded, and until when.
    pub order: Order,
    /// Bytes of a file after which the next one is begun.
    pub file_bytes: Option<u64>,
    /// Files that are kept.
    pub files: u32,
}

/// What is on disk of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// What was wanted of it.
    pub wanted: Wanted,
    /// When it began, in milliseconds of Unix time.
    pub begun_ms: u64,
    /// Frames in its files.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Frames that there was no room for.
    pub lost_packets: u64,
    /// Bytes of those.
    pub lost_bytes: u64,
    /// Why it is over; absent while it is under way, or is to go on.
    pub ended: Option<String>,
}

impl Remembered {
    fn begins(wanted: Wanted) -> Self {
        let begun_ms = clock::unix_ms();
        Self { wanted, begun_ms, packets: 0, bytes: 0, lost_packets: 0, lost_bytes: 0, ended: None }
    }

    pub(super) fn counts(&self) -> Counts {
        let &Self { packets, bytes, lost_packets, lost_bytes, .. } = self;
        Counts { packets, bytes, lost_packets, lost_bytes }
    }

    pub(super) fn set_counts(&mut self, counts: Counts) {
        let Counts { packets, bytes, lost_packets, lost_bytes } = counts;
        *self = Self {
            packets,
            bytes,
            lost_packets,
            lost_bytes,
            wanted: self.wanted.clone(),
            ended: self.ended.take(),
            ..*self
        };
    }
}

/// A capture of the file, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What was wanted of it.
    pub wanted: Wanted,
    /// How far it is.
    pub state: NamedState,
}

/// How far a capture of the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedState {
    /// Packets are recorded.
    UnderWay,
    /// It is not begun again by itself, for this reason.
    Over(String),
    /// It was cut off, and is to go on.
    Interrupted,
}

/// What is remembered of the captures in a folder, by name.
///
/// # Errors
///
/// The system's, if they cannot be read whole.
pub fn recall(folder: &Path) -> io::Result<BTreeMap<String, Remembered>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let (Ok(name), true) = (name, entry.file_type()?.is_dir()) else { continue };
        if let Some(remembered) = Folder::of(folder, &name).recall()? {
            found.insert(name, remembered);
        }
    }
    Ok(found)
}

/// Forgets a capture that nobody records; its files stay.
///
/// # Errors
///
/// The system's.
pub fn forget(folder: &Path, name: &str) -> io::Result<()> {
    Folder::of(folder, name).forget()
}

impl Captures {
    /// The captures of the file, those that are over too.
    ///
    /// # Errors
    ///
    /// A sentence, if they cannot be read whole.
    pub fn named(&self) -> Result<BTreeMap<String, Named>, String> {
        let remembered = recall(&self.folder).map_err(|error| self.unread(&error))?;
        let mut state = self.lock();
        let mut found = BTreeMap::new();
        for (name, remembered) in remembered {
            let is_new = !state.of_file.contains_key(&name);
            if is_new && let Some(why) = remembered.ended.clone() {
                let id = state.next_id();
                let standing = self.standing_of(id, &name, &remembered);
                let known =
                    OfFile { wanted: remembered.wanted.clone(), over: Some((Why::over(why), standing)) };
                state.of_file.insert(name.clone(), known);
            }
            let now = match state.of_file.get(&name) {
                None => Named { wanted: remembered.wanted, state: NamedState::Interrupted },
                Some(known) => Named { wanted: known.wanted.clone(), state: known.state() },
            };
            found.insert(name, now);
        }
        // Of what could not be remembered this process knows.
        for (name, known) in &state.of_file {
            let now = || Named { wanted: known.wanted.clone(), state: known.state() };
            found.entry(name.clone()).or_insert_with(now);
        }
        Ok(found)
    }

    /// Begins a capture of the file; one that was interrupted goes on.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn begin_named(self: &Arc<Self>, name: &str, wanted: &Wanted) -> Result<(), String> {
        let folder = Folder::of(&self.folder, name);
        folder.make().map_err(|error| self.unread(&error))?;
        let before = folder.recall().map_err(|error| self.unread(&error))?;
        let goes_on = before.filter(|before| before.wanted == *wanted && before.ended.is_none());
        let remembered = goes_on.unwrap_or_else(|| Remembered::begins(wanted.clone()));
        let log = Arc::new(Log::new(remembered.clone()));
        let sink = Sink {
            file_bytes_max: wanted.file_bytes,
            of_file: Some((name.to_owned(), wanted.clone(), Arc::clone(&log))),
        };
        let (_, pieces) = self.begin_for(wanted.order.clone(), sink)?;
        let wanted = wanted.clone();
        // Before a packet is: what is killed at once is known to be netd's.
        let told = folder.remember(&remembered).map_err(|error| self.unread(&error));
        let writes = move || files::write(&folder, &wanted, &log, pieces);
        let thread = std::thread::Builder::new().name("capture".into()).spawn(writes);
        thread.map(drop).map_err(|error| format!("no thread to write with: {error}")).and(told)
    }

    /// Ends a capture of the file, and forgets it; its files stay.
    ///
    /// # Errors
    ///
    /// A sentence, in particular if its last file is still being written.
    pub fn end_named(&self, name: &str) -> Result<(), String> {
        let until = clock::now() + ENDING_MAX;
        let origin = Origin::File(name.to_owned());
        loop {
            let mut state = self.lock();
            let Some(capture) = state.under_way.values_mut().find(|capture| capture.origin == origin) else {
                state.of_file.remove(name);
                break;
            };
            capture.ask_to_end(Why::over("it is not in the file any more"));
            drop(state);
            if clock::now() > until {
                return Err("its last file is still being written".into());
            }
            std::thread::sleep(REST);
        }
        forget(&self.folder, name).map_err(|error| self.unread(&error))
    }

    fn unread(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.folder.display())
    }

    fn standing_of(&self, id: u64, name: &str, remembered: &Remembered) -> Standing {
        Standing {
            id,
            origin: Origin::File(name.to_owned()),
            output: Folder::of(&self.folder, name).last(),
            filters: remembered.wanted.order.filters.clone(),
            packets: remembered.packets,
            bytes: remembered.bytes,
            lost_packets: remembered.lost_packets,
            lost_bytes: remembered.lost_bytes,
            ended: remembered.ended.clone(),
        }
    }
}

/// What this process knows of a capture of the file.
pub(super) struct OfFile {
    pub(super) wanted: Wanted,
    /// Why it is over, and how it stood then; absent while it is under way.
    pub(super) over: Option<(Why, Standing)>,
}

impl OfFile {
    fn state(&self) -> NamedState {
        match &self.over {
            None => NamedState::UnderWay,
            Some((why, _)) if why.is_interrupted => NamedState::Interrupted,
            Some((why, _)) => NamedState::Over(why.sentence.clone()),
        }
    }
}
