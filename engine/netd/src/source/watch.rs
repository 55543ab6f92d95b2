//! The thread that watches the desired file: waits, reads when `settle` says so, hands on what is news.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::events::{Armed, Letters, Mailbox, Opener, Route, inotify};
use super::read::{Reading, Stamp, read_unless_known};
use super::settle::{Observation, Pace, Reason, Settle, Step, Verdict};

/// Beyond this many bytes a poll believes an unchanged stamp, because hashing would be felt...
const LARGE_BYTES: u64 = 4 * 1024 * 1024;

/// ...but not for longer than this, because a stamp can lie.
const LARGE_HASH_EVERY: Duration = Duration::from_secs(30);

/// Reads the file; a test puts another in its place. The text is the hash of the content delivered last.
pub(super) type Reader = Box<dyn FnMut(&Path, Option<&str>) -> Reading + Send>;

/// A reading that is news.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What the file says, or why it says nothing. The last good text is the receiver's to keep.
    pub reading: Reading,
    /// Counts up from 1 with every delivery of this watch.
    pub serial: u64,
    /// When the reading was made.
    pub at: Instant,
}

/// How changes are noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// By events, with a look at the content every few seconds besides.
    Events,
    /// By looking at the content every second; the text says why there are no events.
    Polling(String),
}

/// What a watch did since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that concerned the file or the way to it.
    pub events: u64,
    /// How often the kernel dropped events.
    pub overflows: u64,
    /// Readings that were made, polls included.
    pub reads: u64,
    /// Readings that were news.
    pub deliveries: u64,
}

/// A file that is being watched, until this is dropped.
pub struct Watch {
    shared: Arc<Shared>,
    latest: watch::Receiver<Option<Arc<Delivery>>>,
}

impl Watch {
    /// Starts the watching thread; the first delivery, whatever it says, follows at once. The path may not exist.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(path: &Path, pace: Pace) -> io::Result<Watch> {
        Watch::start_with(path, pace, inotify(), Box::new(read_unless_known))
    }

    /// The next delivery that was not returned yet; only the latest, if there were several. `None` when watching ended.
    /// May be dropped at any await without losing one.
    pub async fn next(&mut self) -> Option<Arc<Delivery>> {
        self.latest.changed().await.ok()?;
        self.latest.borrow_and_update().clone()
    }

    /// A receiver of its own, for a second reader. Holds `None` before the first delivery.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Delivery>>> {
        self.latest.clone()
    }

    /// Reads the file now and delivers it even if it says the same.
    pub fn reread(&self) {
        self.shared.mailbox.ask();
    }

    /// How changes are noticed at present.
    pub fn mode(&self) -> WatchMode {
        self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        let Shared { events, overflows, reads, deliveries, mailbox: _, mode: _ } = &*self.shared;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            events: get(events),
            overflows: get(overflows),
            reads: get(reads),
            deliveries: get(deliveries),
        }
    }

    pub(super) fn start_with(path: &Path, pace: Pace, opener: Opener, reader: Reader) -> io::Result<Watch> {
        let (sender, latest) = watch::channel(None);
        let shared = Arc::new(Shared::default());
        let mailbox = Arc::clone(&shared.mailbox);
        let watcher = Watcher {
            path: path.to_owned(),
            started: Instant::now(),
            armed: Armed::new(path, mailbox, opener, pace.retry_events),
            settle: Settle::new(pace),
            pace,
            reader,
            shared: Arc::clone(&shared),
            sender,
            known: None,
        };
        // Not joined: a reading that hangs in a network file system must not hang whoever drops the watch.
        thread::Builder::new().name("netd-source".to_owned()).spawn(move || watcher.run())?;
        Ok(Watch { shared, latest })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.mailbox.stop();
    }
}

/// What the thread and the handle both see.
struct Shared {
    mailbox: Arc<Mailbox>,
    mode: Mutex<WatchMode>,
    events: AtomicU64,
    overflows: AtomicU64,
    reads: AtomicU64,
    deliveries: AtomicU64,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared {
            mailbox: Arc::default(),
            mode: Mutex::new(WatchMode::Events),
            events: AtomicU64::default(),
            overflows: AtomicU64::default(),
            reads: AtomicU64::default(),
            deliveries: AtomicU64::default(),
        }
    }
}

struct Watcher {
    path: PathBuf,
    started: Instant,
    armed: Armed,
    settle: Settle<Identity>,
    pace: Pace,
    reader: Reader,
    shared: Arc<Shared>,
    sender: watch::Sender<Option<Arc<Delivery>>>,
    known: Option<Known>,
}

/// The text that was delivered last, as long as nothing else was delivered since.
struct Known {
    sha256: String,
    stamp: Stamp,
    hashed_at: Instant,
}

/// Two readings with equal identities need no second pass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    state: &'static str,
    content: String,
    warnings: Vec<String>,
}

impl Watcher {
    fn run(mut self) {
        self.arm(Route::Broken);
        loop {
            match self.settle.next(self.started.elapsed()) {
                Step::Read(reason) => {
                    if self.read(reason) == Life::Over {
                        return;
                    }
                }
                Step::WaitUntil(due) => {
                    let letters = self.shared.mailbox.wait(due.saturating_sub(self.started.elapsed()));
                    if self.take_in(letters) == Life::Over {
                        return;
                    }
                }
            }
        }
    }

    /// Passes on what happened, and follows the way to the file before anything is read.
    fn take_in(&mut self, letters: Letters) -> Life {
        let Letters { stop, asked, route, hints, events, overflows } = letters;
        if stop {
            return Life::Over;
        }
        self.shared.events.fetch_add(events, Ordering::Relaxed);
        self.shared.overflows.fetch_add(overflows, Ordering::Relaxed);
        for (at, hint) in hints {
            self.settle.stirred(at.saturating_duration_since(self.started), hint);
        }
        if asked {
            self.settle.ask();
        }
        if route != Route::Kept {
            self.arm(route);
        }
        Life::GoesOn
    }

    fn read(&mut self, reason: Reason) -> Life {
        if reason == Reason::Poll || reason == Reason::Asked {
            let renewed = self.armed.renew();
            self.note_mode(renewed);
        }
        if reason == Reason::Poll && self.is_large_and_unchanged() {
            self.settle.observed(self.started.elapsed(), Observation::Unchanged);
            return Life::GoesOn;
        }
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        let reading = (self.reader)(&self.path, self.known.as_ref().map(|known| known.sha256.as_str()));
        let at = Instant::now();
        // What came during the reading counts against it, so it is taken in first.
        let letters = self.shared.mailbox.take();
        if self.take_in(letters) == Life::Over {
            return Life::Over;
        }
        if let (Reading::Text(text), Some(known)) = (&reading, &mut self.known)
            && text.sha256 == known.sha256
        {
            (known.stamp, known.hashed_at) = (text.stamp, at);
        }
        match self.settle.observed(self.started.elapsed(), observation(&reading)) {
            Verdict::Deliver => self.deliver(reading, at),
            Verdict::Keep => debug!(?reason, "kept"),
        }
        Life::GoesOn
    }

    fn deliver(&mut self, reading: Reading, at: Instant) {
        self.known = match &reading {
            Reading::Text(text) => {
                Some(Known { sha256: text.sha256.clone(), stamp: text.stamp, hashed_at: at })
            }
            Reading::Missing(_) | Reading::Refused(_) | Reading::Unreadable(_) | Reading::Unstable(_) => None,
        };
        let serial = self.shared.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        self.sender.send_replace(Some(Arc::new(Delivery { reading, serial, at })));
    }

    fn is_large_and_unchanged(&self) -> bool {
        self.known.as_ref().is_some_and(|known| {
            known.stamp.size > LARGE_BYTES
                && known.hashed_at.elapsed() < LARGE_HASH_EVERY
                && Stamp::at(&self.path).is_ok_and(|stamp| stamp == known.stamp)
        })
    }

    fn arm(&mut self, route: Route) {
        let armed = self.armed.arm(route);
        self.note_mode(armed);
    }

    fn note_mode(&mut self, armed: Result<(), String>) {
        let (mode, poll_every) = match armed {
            Ok(()) => (WatchMode::Events, self.pace.poll),
            Err(why) => (WatchMode::Polling(why), self.pace.poll_without_events),
        };
        self.settle.poll_every(self.started.elapsed(), poll_every);
        let mut shown = self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != mode {
            match &mode {
                WatchMode::Events => info!(path = %self.path.display(), "file events are back"),
                WatchMode::Polling(why) => warn!(path = %self.path.display(), why, "polling the file"),
            }
            *shown = mode;
        }
    }
}

/// Whether the thread has more to do.
#[derive(PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

/// How far a reading is to be trusted: an editor leaves a file missing, empty or unreadable for a moment.
fn observation(reading: &Reading) -> Observation<Identity> {
    let plain = |state, content: &String| Identity { state, content: content.clone(), warnings: Vec::new() };
    match reading {
        Reading::Text(text) => {
            let identity =
                Identity { state: "text", content: text.sha256.clone(), warnings: text.warnings.clone() };
            if text.bytes.is_empty() { Observation::Doubtful(identity) } else { Observation::Solid(identity) }
        }
        Reading::Refused(why) => Observation::Solid(plain("refused", why)),
        Reading::Missing(why) => Observation::Doubtful(plain("missing", why)),
        Reading::Unreadable(why) => Observation::Doubtful(plain("unreadable", why)),
        Reading::Unstable(why) => Observation::Unstable(plain("unstable", why)),
    }
}
