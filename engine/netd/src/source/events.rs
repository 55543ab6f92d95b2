//! Turns what notify reports about directories into hints about one file, and keeps the right directories watched.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventHandler, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::chain::Chain;
use super::settle::Hint;

/// How often the directories are resolved anew when they change while they are being watched.
const RESOLVES_MAX: usize = 4;

/// Hints kept until the watching thread takes them. Equal ones in a row are folded, so more means a storm.
const HINTS_MAX: usize = 64;

/// What the watching thread sleeps on: filled by notify's thread and by the callers.
#[derive(Default)]
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    bell: Condvar,
    /// What matters of all that happens in the watched directories. Apart from the letters, because it is held for
    /// every event of a directory.
    interest: Mutex<Chain>,
}

/// What happened since the last look.
#[derive(Default)]
pub(super) struct Letters {
    /// The watch is to end.
    pub stop: bool,
    /// The file is to be read and delivered whatever it says.
    pub asked: bool,
    /// The way to the file may have changed.
    pub route: Route,
    /// What happened to the file, oldest first.
    pub hints: Vec<(Instant, Hint)>,
    /// Events of any kind that mattered, and how often the kernel dropped some.
    pub events: u64,
    /// See `events`.
    pub overflows: u64,
}

/// What is known of the watched directories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    /// Nothing happened to them.
    #[default]
    Kept,
    /// A name on the way changed.
    Changed,
    /// A watched directory itself went or moved: its watch is worth nothing, even if the same inode comes back.
    Broken,
}

/// Watches on directories, and nothing below them.
pub(super) trait DirectoryEvents: Send {
    fn watch(&mut self, directory: &Path) -> notify::Result<()>;
    fn unwatch(&mut self, directory: &Path);
}

/// Opens the source of events; a test puts another in its place.
pub(super) type Opener = Box<dyn FnMut(Arc<Mailbox>) -> notify::Result<Box<dyn DirectoryEvents>> + Send>;

/// The real one.
pub(super) fn inotify() -> Opener {
    Box::new(|mailbox| {
        let watcher = unwinding(|| RecommendedWatcher::new(Postman(mailbox), notify::Config::default()))?;
        Ok(Box::new(Inotify(Some(watcher))))
    })
}

impl Mailbox {
    pub fn ask(&self) {
        lock(&self.letters).asked = true;
        self.bell.notify_one();
    }

    pub fn stop(&self) {
        lock(&self.letters).stop = true;
        self.bell.notify_one();
    }

    /// What is there now, without waiting.
    pub fn take(&self) -> Letters {
        std::mem::take(&mut *lock(&self.letters))
    }

    /// What is there, or comes before the time is over.
    pub fn wait(&self, at_most: Duration) -> Letters {
        let letters = lock(&self.letters);
        let is_empty = |letters: &mut Letters| !letters.stop && !letters.asked && letters.events == 0;
        let woken = self.bell.wait_timeout_while(letters, at_most, is_empty);
        std::mem::take(&mut *woken.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Takes one report of notify's.
    pub fn report(&self, report: &notify::Result<Event>) {
        let Some((hint, route)) = classify(report, &lock(&self.interest)) else { return };
        let now = Instant::now();
        let mut letters = lock(&self.letters);
        letters.events += 1;
        letters.overflows += u64::from(hint == Hint::Lost);
        letters.route = letters.route.max(route);
        let is_full = letters.hints.len() >= HINTS_MAX;
        match letters.hints.as_mut_slice() {
            // The first of a kind is kept, because its age counts, and the last, because the silence after it does.
            [.., (_, before), (at, last)] if *before == hint && *last == hint => *at = now,
            [.., (at, last)] if is_full => (*at, *last) = (now, Hint::Lost),
            _ => letters.hints.push((now, hint)),
        }
        drop(letters);
        self.bell.notify_one();
    }
}

/// What a report means for the file, if anything.
pub(super) fn classify(report: &notify::Result<Event>, interest: &Chain) -> Option<(Hint, Route)> {
    let Ok(event) = report else { return Some((Hint::Lost, Route::Broken)) };
    if event.need_rescan() {
        return Some((Hint::Lost, Route::Broken));
    }
    let is_named = event.paths.iter().any(|path| interest.names.contains(path));
    let is_directory = event.paths.iter().any(|path| interest.directories.contains_key(path));
    match event.kind {
        // Opened, by ourselves too; and a rename's second report, which repeats the first.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) if is_named => {
            Some((Hint::Complete, Route::Kept))
        }
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Modify(ModifyKind::Data(_)) if is_named => Some((Hint::Writing, Route::Kept)),
        EventKind::Modify(ModifyKind::Metadata(_)) if is_named || is_directory => {
            Some((Hint::Touched, Route::Changed))
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) if is_named => {
            Some((Hint::Complete, Route::Changed))
        }
        // A name may be a watched directory as well, when a directory stands where the file should be.
        EventKind::Modify(_) | EventKind::Remove(_) if is_directory => Some((Hint::Touched, Route::Broken)),
        EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Create(_) if is_named => {
            Some((Hint::Unclear, Route::Changed))
        }
        EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Create(_) => None,
        EventKind::Any | EventKind::Other => Some((Hint::Lost, Route::Broken)),
    }
}

/// The watches that are in force.
pub(super) struct Armed {
    path: PathBuf,
    mailbox: Arc<Mailbox>,
    opener: Opener,
    retry_every: Duration,
    source: Option<Box<dyn DirectoryEvents>>,
    chain: Chain,
    refused: Option<(Instant, String)>,
}

impl Armed {
    pub fn new(path: &Path, mailbox: Arc<Mailbox>, opener: Opener, retry_every: Duration) -> Armed {
        Armed {
            path: path.to_owned(),
            mailbox,
            opener,
            retry_every,
            source: None,
            chain: Chain::default(),
            refused: None,
        }
    }

    /// Watches the directories that the path leads through now. Says why there are no events if there are none.
    pub fn arm(&mut self, route: Route) -> Result<(), String> {
        if let Some((since, why)) = &self.refused
            && since.elapsed() < self.retry_every
        {
            return Err(why.clone());
        }
        let armed = self.try_arm(route).map_err(|error| describe(&error));
        self.refused = armed.as_ref().err().map(|why| (Instant::now(), why.clone()));
        if armed.is_err() {
            self.source = None;
            self.chain = Chain::default();
        }
        armed
    }

    /// Asks the kernel again for every watch: one that an unmount took is back then, the others stay as they are.
    pub fn renew(&mut self) -> Result<(), String> {
        let is_kept = self.source.as_mut().is_none_or(|source| {
            self.chain.directories.keys().all(|directory| source.watch(directory).is_ok())
        });
        self.arm(if is_kept { Route::Changed } else { Route::Broken })
    }

    fn try_arm(&mut self, route: Route) -> notify::Result<()> {
        let source = match &mut self.source {
            Some(source) => source,
            None => self.source.insert((self.opener)(Arc::clone(&self.mailbox))?),
        };
        let mut watched =
            if route == Route::Broken { BTreeMap::new() } else { self.chain.directories.clone() };
        if route == Route::Broken {
            self.chain.directories.keys().for_each(|directory| source.unwatch(directory));
            self.chain = Chain::default();
        }
        for _ in 0..RESOLVES_MAX {
            let chain = Chain::resolve(&self.path);
            if chain == self.chain {
                break;
            }
            lock(&self.mailbox.interest).clone_from(&chain);
            self.chain = chain;
            let wanted = &self.chain.directories;
            for (directory, _) in watched.iter().filter(|(path, inode)| wanted.get(*path) != Some(*inode)) {
                source.unwatch(directory);
            }
            for (directory, _) in wanted.iter().filter(|(path, inode)| watched.get(*path) != Some(*inode)) {
                match source.watch(directory) {
                    Ok(()) => {}
                    // It went between the two looks: the next one sees that.
                    Err(notify::Error { kind: notify::ErrorKind::PathNotFound, .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            watched.clone_from(wanted);
        }
        Ok(())
    }
}

/// The sentence for a status line; notify's own hide which limit was met.
fn describe(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "no file events: the limit of inotify watches is reached (fs.inotify.max_user_watches)".to_owned()
        }
        notify::ErrorKind::Io(cause)
            if cause.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) =>
        {
            "no file events: the limit of inotify instances or open files is reached \
             (fs.inotify.max_user_instances, RLIMIT_NOFILE)"
                .to_owned()
        }
        _ => format!("no file events: {error}"),
    }
}

struct Postman(Arc<Mailbox>);

impl EventHandler for Postman {
    fn handle_event(&mut self, report: notify::Result<Event>) {
        self.0.report(&report);
    }
}

/// notify's watcher; `None` only while it is dropped.
struct Inotify(Option<RecommendedWatcher>);

impl DirectoryEvents for Inotify {
    fn watch(&mut self, directory: &Path) -> notify::Result<()> {
        let Some(watcher) = &mut self.0 else { return Ok(()) };
        unwinding(|| watcher.watch(directory, RecursiveMode::NonRecursive))
    }

    fn unwatch(&mut self, directory: &Path) {
        if let Some(watcher) = &mut self.0 {
            // A watch whose directory is gone is gone with it.
            let _ = unwinding(|| watcher.unwatch(directory));
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watcher = self.0.take();
        let _ = unwinding(|| {
            drop(watcher);
            Ok(())
        });
    }
}

/// notify panics in its caller when its own thread is gone or could not be started; here that is an error like others.
fn unwinding<T>(call: impl FnOnce() -> notify::Result<T>) -> notify::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(notify::Error::generic("its thread has ended")))
}

/// A thread that panicked while it held the lock left nothing half-done behind: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
