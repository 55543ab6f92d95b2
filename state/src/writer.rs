//! The thread that lets the disk follow the mirror, and what happens when the disk cannot.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::guard;
use crate::mirror::{Mirror, Rows};
use crate::open::Ready;
use crate::row::Changes;

/// Changes wait so long for others, so that a burst costs one sync.
const GATHER: Duration = Duration::from_millis(50);
/// A disk that failed is tried again so often.
const RETRY_EVERY: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 30_000 });
/// A write that takes longer is reported as not durable until it ends.
const STALL_MAX: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5_000 });
/// The end of a store waits so long for its last rows: they are a cache, and a service has to stop within seconds.
const CLOSE_WAIT_MAX: Duration = Duration::from_millis(700);

/// Opens the database again after a failure, or says why not.
pub(crate) type Reopen = Box<dyn Fn() -> Result<Ready, String> + Send>;

/// What a store writes to.
pub(crate) enum Follow {
    /// A database, which first needs these changes.
    Disk { disk: Arc<dyn Disk>, changes: Changes, reopen: Reopen },
    /// Nothing, for this reason, until `reopen` succeeds.
    Memory { reason: String, reopen: Option<Reopen> },
}

pub(crate) struct State {
    pub(crate) mirror: Mirror,
    pub(crate) disk: Option<Arc<dyn Disk>>,
    /// Why the disk does not follow.
    trouble: Option<String>,
    /// Whether the mirror began with what the database held.
    is_loaded: bool,
    is_recovering: bool,
    dirty: Changes,
    /// Counts changes made, and those that are on disk.
    made: u64,
    saved: u64,
    is_hurried: bool,
    is_closing: bool,
    is_closed: bool,
    writing_since: Option<Instant>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    settled: Condvar,
}

/// What came of waiting for the disk.
pub(crate) enum Settled {
    Saved,
    NotDurable(String),
    StillWriting,
}

impl Shared {
    /// Starts the thread where there is something to follow.
    pub(crate) fn start(mirror: Mirror, follow: Follow) -> Arc<Self> {
        let (disk, dirty, trouble, reopen) = match follow {
            Follow::Disk { disk, changes, reopen } => (Some(disk), changes, None, Some(reopen)),
            Follow::Memory { reason, reopen } => (None, Changes::new(), Some(reason), reopen),
        };
        let state = State {
            mirror,
            is_loaded: disk.is_some(),
            disk,
            trouble,
            is_recovering: false,
            made: u64::from(!dirty.is_empty()),
            dirty,
            saved: 0,
            is_hurried: false,
            is_closing: false,
            is_closed: reopen.is_none(),
            writing_since: None,
        };
        let shared =
            Arc::new(Self { state: Mutex::new(state), wake: Condvar::new(), settled: Condvar::new() });
        if let Some(reopen) = reopen {
            let writer = Arc::clone(&shared);
            let started = thread::Builder::new().name("netd-state".into()).spawn(move || writer.run(&reopen));
            if let Err(e) = started {
                let mut state = shared.lock();
                state.is_closed = true;
                state.give_up(format!("cannot start the thread that writes: {e}"));
            }
        }
        shared
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands rows to the thread.
    pub(crate) fn send(&self, state: &mut State, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        state.made += 1;
        // Without a disk to follow, recovery compares all of it anyway.
        if state.trouble.is_none() || state.is_recovering {
            state.dirty.extend(changes);
            self.wake.notify_all();
        }
    }

    /// Waits until all that was sent is durable.
    pub(crate) fn settle(&self, limit: Duration) -> Settled {
        let mut state = self.lock();
        let wanted = state.made;
        state.is_hurried = true;
        self.wake.notify_all();
        let (state, _) = self
            .settled
            .wait_timeout_while(state, limit, |state| state.trouble.is_none() && state.saved < wanted)
            .unwrap_or_else(PoisonError::into_inner);
        match &state.trouble {
            Some(reason) => Settled::NotDurable(reason.clone()),
            None if state.saved >= wanted => Settled::Saved,
            None => Settled::StillWriting,
        }
    }

    /// Lets the thread write what is left and close the database.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        self.wake.notify_all();
        let (state, _) = self
            .settled
            .wait_timeout_while(state, CLOSE_WAIT_MAX, |state| !state.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.is_closed {
            tracing::warn!("the store is still writing; left to itself");
        }
    }

    fn run(&self, reopen: &Reopen) {
        loop {
            let state = self.gather();
            if state.is_closing && (state.dirty.is_empty() || state.trouble.is_some()) {
                break;
            }
            if state.trouble.is_some() {
                self.recover(state, reopen);
            } else {
                self.write(state);
            }
        }
        let disk = self.lock().disk.take();
        if let Err(failure) = guard::caught(|| drop(disk)) {
            tracing::warn!(why = %failure, "the database did not close well");
        }
        self.lock().is_closed = true;
        self.settled.notify_all();
    }

    /// Waits for work: for changes and a moment more, or for the time to try the disk again.
    fn gather(&self) -> MutexGuard<'_, State> {
        let state = self.lock();
        if state.trouble.is_some() {
            let waited = self.wake.wait_timeout_while(state, RETRY_EVERY, |state| !state.is_closing);
            return waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let waited = self.wake.wait_while(state, |state| state.dirty.is_empty() && !state.is_closing);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        let waited =
            self.wake.wait_timeout_while(state, GATHER, |state| !state.is_hurried && !state.is_closing);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn write(&self, mut state: MutexGuard<'_, State>) {
        let changes = std::mem::take(&mut state.dirty);
        let (made, disk) = (state.made, state.disk.clone());
        state.is_hurried = false;
        state.writing_since = Some(Instant::now());
        drop(state);
        let written = attempt(disk.as_ref(), &changes);
        drop(disk);
        let mut state = self.lock();
        state.writing_since = None;
        match written {
            Ok(()) => state.note_saved(made),
            Err(reason) => state.give_up(reason),
        }
        self.settled.notify_all();
    }

    /// Opens the database again and brings it in line with the mirror.
    fn recover(&self, mut state: MutexGuard<'_, State>, reopen: &Reopen) {
        let old = state.disk.take();
        drop(state);
        if let Err(failure) = guard::caught(|| drop(old)) {
            tracing::warn!(why = %failure, "the database did not close well");
        }
        let Ready { disk, rows, set_aside } = match reopen() {
            Ok(ready) => ready,
            Err(reason) => {
                return self.lock().trouble = Some(reason);
            }
        };
        if let Some(set_aside) = set_aside {
            tracing::warn!(path = %set_aside.path.display(), why = set_aside.why, "database set aside");
        }
        let mut state = self.lock();
        let changes = state.rejoin(&rows);
        let made = state.made;
        state.is_recovering = true;
        drop(state);
        let written = attempt(Some(&disk), &changes);
        let mut state = self.lock();
        state.disk = Some(disk);
        state.is_recovering = false;
        match written {
            Ok(()) => {
                tracing::info!("the state is durable again");
                state.trouble = None;
                state.note_saved(made);
            }
            Err(reason) => state.give_up(reason),
        }
    }
}

fn attempt(disk: Option<&Arc<dyn Disk>>, changes: &Changes) -> Result<(), String> {
    let disk = disk.ok_or("the database is closed")?;
    guard::caught(|| disk.write(changes)).unwrap_or_else(|failure| Err(failure.to_string()))
}

impl State {
    /// Why the disk does not follow, if it does not.
    pub(crate) fn not_durable(&self) -> Option<String> {
        let stalled = self.writing_since.map(|since| since.elapsed()).filter(|time| *time > STALL_MAX);
        let stalled = stalled.map(|time| format!("a write has not ended for {} s", time.as_secs()));
        self.trouble.clone().or(stalled)
    }

    fn note_saved(&mut self, made: u64) {
        self.saved = made;
        if self.made == made {
            self.mirror.texts.clear();
        }
    }

    fn give_up(&mut self, reason: String) {
        tracing::error!(reason, "the state is not durable");
        self.trouble = Some(reason);
        self.dirty.clear();
    }

    /// Brings mirror and database together again, and returns what the database lacks.
    fn rejoin(&mut self, rows: &Rows) -> Changes {
        if !self.is_loaded {
            self.mirror.join(Mirror::load(rows, None).0);
            self.is_loaded = true;
        }
        self.mirror.forget_lost_texts(&rows.texts);
        self.mirror.changes_from(rows)
    }
}

#[cfg(test)]
mod tests;
