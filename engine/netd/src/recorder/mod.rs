//! Captures of what the load balancer gets and sends: begun by clients of the daemon and by the file, written as they
//! happen.
//!
//! While there is a capture, the links run a program that records, and a thread takes out of its ring what there is. Who
//! does not read fast enough, or not at all, is not waited for: what does not fit is counted as lost.

pub mod file;
mod files;
mod grammar;
mod named;
pub(crate) mod names;
mod turn;
mod under_way;

use crate::balancer::Balancer;
use crate::clock;
use bytes::Bytes;
use file::{File, Format};
use files::Log;
pub use grammar::FilterError;
use named::OfFile;
pub use named::{Named, NamedState, Remembered, Wanted, forget, recall};
use netd_bpf::recorder::{Capture, CaptureError, Filter, Size};
pub use netd_schema::FILTER_FORM as FORM;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use turn::{REST, State};
use under_way::{Beginning, UnderWay, Why};

/// Bytes of a frame that a record can have.
pub const SNAPLEN_MAX: u32 = netd_bpf::recorder::abi::RECORD_BYTES_MAX;

const _: () = assert!(SNAPLEN_MAX == netd_schema::CAPTURE_SNAPLEN_MAX);

/// A capture may have so much of the ring, so that one alone does not leave the others without.
const SHARE: u32 = 4 << 20;

/// Pieces between the recorder and who takes them.
const PIECES_MAX: usize = 16;

/// For the ends of files when the daemon stops.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// Characters of a reason that a client gives for the end of its capture.
const WHY_MAX: usize = 200;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Filters, one of which a packet has to match; see [`FORM`].
    pub filters: Vec<String>,
    /// Bytes of each frame at most; absent: all that a record can have.
    #[serde(default)]
    pub snaplen: Option<u32>,
    /// Frames after which it ends.
    #[serde(default)]
    pub packets: Option<u64>,
    /// Bytes of frames after which it ends.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Milliseconds after which it ends.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// The format of the file.
    #[serde(default)]
    pub format: Format,
}

/// Who wants a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", content = "name", rename_all = "lowercase")]
pub enum Origin {
    /// A client of the daemon.
    Client,
    /// The file, by this name.
    File(String),
}

/// How a capture stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its number among those of this daemon.
    pub id: u64,
    /// Who wants it.
    #[serde(flatten)]
    pub origin: Origin,
    /// The file that is written, or was last, if netd writes it.
    pub output: Option<PathBuf>,
    /// Its filters.
    pub filters: Vec<String>,
    /// Frames written.
    pub packets: u64,
    /// Bytes of these frames, as long as they were on the wire.
    pub bytes: u64,
    /// Frames that there was no room for.
    pub lost_packets: u64,
    /// Bytes of those.
    pub lost_bytes: u64,
    /// Why it is over; absent while it is under way.
    pub ended: Option<String>,
}

/// So many frames, and the bytes that they had on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Frames {
    fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

/// What a capture gives to who takes it.
#[derive(Debug)]
pub enum Piece {
    /// Whole blocks of the file, and the frames that are in them.
    Bytes(Bytes, Frames),
    /// The file is whole, and what follows is of the next one.
    Next,
    /// The file is whole, and nothing follows.
    End,
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes, _) => bytes.len(),
            Self::Next | Self::End => 0,
        }
    }
}

/// The captures of a daemon.
pub struct Captures {
    balancer: Arc<Balancer>,
    /// Where those of the file are.
    folder: PathBuf,
    state: Mutex<State>,
}

/// Where a capture goes.
struct Sink {
    file_bytes_max: Option<u64>,
    /// For one of the file: its name, what is wanted, how far it is.
    of_file: Option<(String, Wanted, Arc<Log>)>,
}

/// What is wrong with an order, or what it means.
fn read(order: &Order) -> Result<(Vec<Filter>, u32), String> {
    let mut filters = Vec::new();
    for text in &order.filters {
        filters.extend(grammar::parse(text).map_err(|error| error.to_string())?);
    }
    if filters.is_empty() {
        return Err(format!("a filter is missing: {FORM}; \"any 0 any 0 ANY\" has everything"));
    }
    match order.snaplen.unwrap_or(SNAPLEN_MAX) {
        0 => Err("a snap length of 0 bytes records nothing".into()),
        wanted => Ok((filters, wanted.min(SNAPLEN_MAX))),
    }
}

impl Captures {
    /// Those at this load balancer; the files of those that the file names are below this folder.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>, folder: PathBuf) -> Self {
        Self { balancer, folder, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a capture for a client: its id, and the file as it is written. It ends when the receiver is dropped.
    ///
    /// # Errors
    ///
    /// A sentence: what is wrong with the filters, or why nothing can be recorded.
    pub fn begin(self: &Arc<Self>, order: Order) -> Result<(u64, mpsc::Receiver<Piece>), String> {
        self.begin_for(order, Sink { file_bytes_max: None, of_file: None })
    }

    fn begin_for(self: &Arc<Self>, order: Order, sink: Sink) -> Result<(u64, mpsc::Receiver<Piece>), String> {
        let (filters, snaplen) = read(&order)?;
        let file = File::begin(order.format, snaplen, &order.filters).map_err(|error| error.to_string())?;
        let mut guard = self.lock();
        let state = &mut *guard;
        let was_idle = state.recorder.is_none();
        let recorder = match &mut state.recorder {
            Some(recorder) => recorder,
            none => none.insert(self.balancer.start_recording(Size::default())?),
        };
        let number = match recorder.begin(&Capture { filters, snaplen, share: SHARE }) {
            Ok(number) => number,
            Err(error) => {
                if was_idle {
                    self.close(state);
                }
                return Err(sentence(&error));
            }
        };
        let id = state.next_id();
        let (to, pieces) = mpsc::channel(PIECES_MAX);
        let Sink { file_bytes_max, of_file } = sink;
        let origin = of_file.as_ref().map_or(Origin::Client, |(name, ..)| Origin::File(name.clone()));
        let log = of_file.as_ref().map(|(.., log)| Arc::clone(log));
        if let Some((name, wanted, _)) = of_file {
            state.of_file.insert(name, OfFile { wanted, over: None });
        }
        let beginning = Beginning { number, origin, order, snaplen, file, file_bytes_max, to, log };
        state.under_way.insert(id, UnderWay::new(beginning));
        drop(guard);
        if was_idle {
            let captures = Arc::clone(self);
            let thread =
                std::thread::Builder::new().name("recorder".into()).spawn(move || captures.write_all());
            if let Err(error) = thread {
                let mut state = self.lock();
                state.under_way.clear();
                self.close(&mut state);
                return Err(format!("no thread to record with: {error}"));
            }
        }
        Ok((id, pieces))
    }

    /// Ends a client's capture, for the reason that it gives if it gives one; its file ends as it should. False if there is
    /// none of this id under way.
    pub fn stop(&self, id: u64, why: Option<&str>) -> bool {
        let why: String = why.unwrap_or("stopped").chars().take(WHY_MAX).collect();
        let mut state = self.lock();
        state.under_way.get_mut(&id).is_some_and(|capture| capture.ask_to_end(Why::over(why)))
    }

    /// Ends all captures, their files with what they need, and has the other program run again: netd stops. Those of the
    /// file go on with the next one.
    pub fn end_all(&self) {
        let until = clock::now() + ENDING_MAX;
        loop {
            let mut state = self.lock();
            state.ask_all_to_end(&Why::interrupted("netd stopped"));
            if state.under_way.is_empty() || clock::now() > until {
                state.under_way.clear();
                if state.recorder.is_some() {
                    self.close(&mut state);
                }
                return;
            }
            drop(state);
            std::thread::sleep(REST);
        }
    }

    /// All that are under way, and the last that were.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        // Those of the file that were over before this daemon are found on the way.
        if let Err(why) = self.named() {
            tracing::debug!(why, "not all captures of the file are known");
        }
        self.lock().standing()
    }
}

fn sentence(error: &CaptureError) -> String {
    match error {
        CaptureError::Kernel(error) => crate::kinds::service::sentence(error),
        other => other.to_string(),
    }
}
