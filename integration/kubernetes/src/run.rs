//! The watch: objects of a live cluster in, the file out, for as long as nobody stops it.
//!
//! Events only say what to put into the index; the file is made from all of it, after the cluster has been quiet for a
//! moment. Nothing is written before every kind has been listed once, and what cannot be reached keeps what was known.

mod known;
mod metrics;
mod serve;
mod watch;

use crate::back::{self, Back, Said};
use crate::{Base, BaseError, Note, Options, Written, render, write};
use known::Known;
pub(crate) use metrics::Metrics;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::time::{Instant, sleep_until};
use watch::Pace;

/// So many events may wait; who sends more waits himself.
const EVENTS_MAX: usize = 1024;

/// When a file that could not be written is tried again, if nothing happens before.
const RETRY: Duration = Duration::from_secs(10);

/// How often the base file is looked at.
const BASE_EVERY: Duration = Duration::from_secs(2);

/// What is watched, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What is taken.
    pub options: Options,
    /// The file that people own; read again when it changes.
    pub base: Option<PathBuf>,
    /// The file that netd reads.
    pub output: PathBuf,
    /// After a change nothing is written until it was quiet for so long, or for ten times as long if it is never quiet.
    pub settle: Duration,
    /// How long a server may be silent before it is asked again; whole seconds.
    pub idle: Duration,
    /// How often a kind of objects is looked for that the cluster does not have.
    pub absent: Duration,
    /// Where health and numbers are served; `None` is nowhere.
    pub listen: Option<SocketAddr>,
    /// Whether it ends when the file was written once.
    pub once: bool,
    /// What is written to the cluster.
    pub back: Back,
}

/// As many times the settle time a change waits at most.
const SETTLES_MAX: u32 = 10;

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Health and numbers cannot be served.
    #[error("listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Watches until the process ends, or with `once` until the file was written.
///
/// # Errors
///
/// What was asked for cannot begin. Whatever happens later is logged and tried again.
pub async fn run(run: Run, client: kube::Client) -> Result<(), RunError> {
    let metrics = Arc::new(Metrics::new());
    if let Some(address) = run.listen {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|source| RunError::Listen { address, source })?;
        tokio::spawn(serve::serve(listener, Arc::clone(&metrics)));
    }
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let kinds = watch::start(&client, &run.options, Pace { idle: run.idle, absent: run.absent }, &sender);
    drop(sender);
    let (said, heard) = watch_channel::channel(None);
    back::start(run.back.clone(), &client, heard, &metrics);
    let known = Known::new(kinds);
    Author { known, metrics, told: BTreeSet::new(), base: None, said, run }.work(events).await;
    Ok(())
}

/// Who writes the file.
struct Author {
    run: Run,
    known: Known,
    metrics: Arc<Metrics>,
    /// What was logged already.
    told: BTreeSet<Note>,
    /// The text of the base file when it was read last; `None` before, and where it could not be read.
    base: Option<String>,
    /// To who speaks to the cluster.
    said: watch_channel::Sender<Option<Arc<Said>>>,
}

/// From when on the file may be written, if something has changed.
#[derive(Clone, Copy)]
struct Due {
    quiet: Instant,
    latest: Instant,
}

impl Author {
    async fn work(mut self, mut events: mpsc::Receiver<watch::Event>) {
        let mut due: Option<Due> = None;
        let mut look = tokio::time::interval(BASE_EVERY);
        loop {
            let at = due.map(|due| due.quiet.min(due.latest));
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    if self.take(event) {
                        due = Some(self.put_off(due));
                    }
                }
                () = async { sleep_until(at.unwrap_or_else(Instant::now)).await }, if at.is_some() => {
                    due = None;
                    let is_written = tokio::task::block_in_place(|| self.write());
                    if is_written && self.run.once {
                        return;
                    }
                    if !is_written {
                        let again = Instant::now() + RETRY;
                        due = Some(Due { quiet: again, latest: again });
                    }
                }
                _ = look.tick() => {
                    if self.known.is_synced() && self.base_has_changed() {
                        due = Some(self.put_off(due));
                    }
                }
            }
        }
    }

    /// A change came: the file waits for the next, but not for ever.
    fn put_off(&self, due: Option<Due>) -> Due {
        let now = Instant::now();
        let latest = due.map_or(now + self.run.settle * SETTLES_MAX, |due| due.latest);
        Due { quiet: now + self.run.settle, latest }
    }

    /// Whether the file may have to change.
    fn take(&mut self, event: watch::Event) -> bool {
        if let watch::Event::Failed { kind, why } = &event {
            tracing::warn!(kind = kind.name(), %why, "the cluster cannot be watched; what was known of it stays");
            self.metrics.watch_failed(*kind);
            return false;
        }
        let has_changed = self.known.take(event);
        self.metrics.objects(self.known.index().len(), self.known.is_synced());
        has_changed && self.known.is_synced()
    }

    fn base_has_changed(&self) -> bool {
        let now = self.run.base.as_ref().map(|path| fs::read_to_string(path).ok());
        now.is_some_and(|now| now != self.base)
    }

    /// Whether the file is as it has to be now.
    fn write(&mut self) -> bool {
        let started = std::time::Instant::now();
        let done = self.try_write();
        self.metrics.written(done.as_ref().ok().copied(), started.elapsed());
        match done {
            Ok(Written::Changed) => {
                tracing::info!(path = %self.run.output.display(), objects = self.known.index().len(), "written");
                true
            }
            Ok(Written::Same) => true,
            Err(why) => {
                tracing::error!(path = %self.run.output.display(), %why, "not written; the last file stays");
                false
            }
        }
    }

    fn try_write(&mut self) -> Result<Written, String> {
        let base = match &self.run.base {
            None => Base::none(),
            Some(path) => {
                let (text, base) = read_base(path)?;
                self.base = Some(text);
                base.map_err(|error| error.to_string())?
            }
        };
        let rendered =
            render(self.known.index(), &base, &self.run.options).map_err(|error| error.to_string())?;
        let written = write(&self.run.output, &rendered.text);
        let written = written.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
        if written.is_ok() && !self.said.is_closed() {
            let said = Said::of(self.known.index(), &rendered, &self.run.options);
            self.said.send_replace(Some(Arc::new(said)));
        }
        self.tell(rendered.notes.into_iter().chain(self.known.notes()).collect());
        written
    }

    /// Each note is logged when it is new.
    fn tell(&mut self, notes: BTreeSet<Note>) {
        for note in notes.difference(&self.told) {
            tracing::warn!(object = %note.object, "{}", note.text);
        }
        self.metrics.notes(notes.len());
        self.told = notes;
    }
}

fn read_base(path: &Path) -> Result<(String, Result<Base, BaseError>), String> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| format!("read {name}: {error}"))?;
    let base = Base::read(&name, &text);
    Ok((text, base))
}
