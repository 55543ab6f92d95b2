//! Captures of what the load balancer gets and sends: begun by clients of the daemon, written as they happen.
//!
//! While there is a capture, the links run a program that records, and a thread takes out of its ring what there is. A
//! client that does not read fast enough, or not at all, is not waited for: what does not fit is counted as lost.

pub mod file;
mod grammar;
mod names;

use crate::balancer::Balancer;
use crate::clock;
use bytes::{Bytes, BytesMut};
use file::{File, Format, Point, Seen};
pub use grammar::{FORM, FilterError};
use names::Names;
use netd_bpf::recorder::{Capture, CaptureError, Counts, Header, Recorder, Size};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Bytes of a frame that a record can have.
pub const SNAPLEN_MAX: u32 = netd_bpf::recorder::abi::RECORD_BYTES_MAX;

/// A capture may have so much of the ring, so that one alone does not leave the others without.
const SHARE: u32 = 4 << 20;

/// Bytes that wait for a client that reads slowly; beyond them frames are lost.
const BACKLOG_MAX: usize = 32 << 20;

/// Chunks between the recorder and the client's connection.
const CHUNKS_MAX: usize = 16;

/// Bytes of a chunk at most.
const CHUNK_BYTES: usize = 256 << 10;

/// Records that are taken out of the ring in one go.
const ROUND: usize = 8192;

/// How long the thread rests when there was nothing: the ring holds what comes meanwhile.
const REST: Duration = Duration::from_millis(5);

/// Between two rounds, so that others get at the captures.
const BREATH: Duration = Duration::from_micros(200);

/// What came in is written without a comment if it is not known by then what became of it.
const WAITING_MAX: Duration = Duration::from_millis(100);

/// A client that has read nothing for so long does not get the end of a capture that is over.
const STALLED_MAX: Duration = Duration::from_secs(10);

/// For the ends of files when the daemon stops.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// Captures that are over and are remembered.
const ENDED_MAX: usize = 32;

/// What a client asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// How a capture stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its number among those of this daemon.
    pub id: u64,
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

/// The captures of a daemon.
pub struct Captures {
    balancer: Arc<Balancer>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    recorder: Option<Recorder>,
    under_way: BTreeMap<u64, UnderWay>,
    ended: VecDeque<Standing>,
    names: Names,
    /// What came in and has not left yet, by CPU: comments say what became of it.
    waiting: BTreeMap<u64, (Header, Vec<u8>)>,
    next: u64,
    /// When the monotonic clock began, since 1970.
    boot: Duration,
}

struct UnderWay {
    number: u8,
    order: Order,
    snaplen: u32,
    begun: Instant,
    file: File,
    to: mpsc::Sender<Bytes>,
    backlog: BytesMut,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
    packets: u64,
    bytes: u64,
    /// Frames that came faster than the client read.
    late: Counts,
    /// Why it is over, and what the kernel counted for it by then.
    ended: Option<(String, Counts)>,
    /// Whether the file has its end.
    is_whole: bool,
}

impl Captures {
    /// Those at this load balancer.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>) -> Self {
        Self { balancer, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a capture: its id, and the file as it is written. It ends when the receiver is dropped.
    ///
    /// # Errors
    ///
    /// A sentence: what is wrong with the filters, or why nothing can be recorded.
    pub fn begin(self: &Arc<Self>, order: Order) -> Result<(u64, mpsc::Receiver<Bytes>), String> {
        let mut filters = Vec::new();
        for text in &order.filters {
            filters.extend(grammar::parse(text).map_err(|error| error.to_string())?);
        }
        if filters.is_empty() {
            return Err(format!("a filter is missing: {FORM}; \"any 0 any 0 ANY\" has everything"));
        }
        let snaplen = match order.snaplen.unwrap_or(SNAPLEN_MAX) {
            0 => return Err("a snap length of 0 bytes records nothing".into()),
            wanted => wanted.min(SNAPLEN_MAX),
        };
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
        state.next += 1;
        let id = state.next;
        let (to, chunks) = mpsc::channel(CHUNKS_MAX);
        let under_way = UnderWay {
            number,
            order,
            snaplen,
            begun: clock::now(),
            file,
            to,
            backlog: BytesMut::new(),
            stalled: None,
            packets: 0,
            bytes: 0,
            late: Counts::default(),
            ended: None,
            is_whole: false,
        };
        state.under_way.insert(id, under_way);
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
        Ok((id, chunks))
    }

    /// Ends a capture; its file ends as it should. False if there is none of this id under way.
    pub fn stop(&self, id: u64) -> bool {
        self.lock().end(id, "stopped")
    }

    /// Ends all captures, their files with what they need, and has the other program run again: netd stops.
    pub fn end_all(&self) {
        let until = clock::now() + ENDING_MAX;
        loop {
            let mut state = self.lock();
            state.end_all("netd stopped");
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
        let state = self.lock();
        let under_way =
            state.under_way.iter().map(|(id, capture)| capture.standing(*id, state.recorder.as_ref()));
        state.ended.iter().cloned().chain(under_way).collect()
    }

    /// Takes out of the ring what there is, until the last capture is over.
    fn write_all(&self) {
        loop {
            let polled = {
                let mut state = self.lock();
                if self.balancer.is_recording() == Some(false) {
                    state.end_all("the load balancer is gone");
                }
                let polled = state.turn(&self.balancer);
                if state.under_way.is_empty() {
                    if state.recorder.is_some() {
                        self.close(&mut state);
                    }
                    return;
                }
                polled
            };
            std::thread::sleep(if polled == 0 { REST } else { BREATH });
        }
    }

    fn close(&self, state: &mut State) {
        state.recorder = None;
        state.waiting.clear();
        // Another time numbers may stand for something else.
        state.names = Names::default();
        if let Err(why) = self.balancer.stop_recording() {
            tracing::warn!(why, "the program that records stays until the next pass");
        }
    }
}

impl State {
    /// One round: how many records there were.
    fn turn(&mut self, balancer: &Balancer) -> usize {
        let now = clock::now();
        self.boot = clock::unix().saturating_sub(clock::awake());
        let over: Vec<(u64, &'static str)> =
            self.under_way.iter().filter_map(|(id, capture)| Some((*id, capture.is_over(now)?))).collect();
        for (id, why) in over {
            self.end(id, why);
        }
        let polled = self.poll(balancer);
        let awake = clock::awake();
        let waited = |header: &Header| awake.saturating_sub(Duration::from_nanos(header.ns));
        let is_late = |header: &Header| polled == 0 && waited(header) > WAITING_MAX;
        for (_, (header, frame)) in
            self.waiting.extract_if(.., |_, (header, _)| is_late(header)).collect::<Vec<_>>()
        {
            self.write(&header, &frame, None);
        }
        for capture in self.under_way.values_mut() {
            capture.flush(now);
        }
        self.finish(now);
        polled
    }

    fn poll(&mut self, balancer: &Balancer) -> usize {
        let Some(mut recorder) = self.recorder.take() else { return 0 };
        let polled = recorder.poll(ROUND, |header, frame| self.take(header, frame, balancer));
        self.recorder = Some(recorder);
        polled
    }

    /// What came in waits for what becomes of it: the next record of the same CPU.
    fn take(&mut self, header: &Header, frame: &[u8], balancer: &Balancer) {
        let cpu = header.id >> 48;
        let before = self.waiting.remove(&cpu);
        if header.point == 0 {
            if let Some((came, frame)) = before {
                self.write(&came, &frame, None);
            }
            self.waiting.insert(cpu, (*header, frame.to_vec()));
            return;
        }
        let comment = self.names.comment(header, balancer);
        if let Some((came, frame)) = before {
            self.write(&came, &frame, (came.id == header.id).then_some(&*comment));
        }
        if header.point == 1 {
            self.write(header, frame, Some(&comment));
        }
    }

    fn write(&mut self, header: &Header, frame: &[u8], comment: Option<&str>) {
        let at = self.boot + Duration::from_nanos(header.ns);
        for capture in self.under_way.values_mut() {
            if header.captures >> capture.number & 1 == 1 {
                capture.add(header, frame, at, comment);
            }
        }
    }

    /// Ends a capture; what is in the ring for it is still written.
    fn end(&mut self, id: u64, why: &str) -> bool {
        let Some(capture) = self.under_way.get_mut(&id).filter(|capture| capture.ended.is_none()) else {
            return false;
        };
        let mut counts = Counts::default();
        if let Some(recorder) = &mut self.recorder {
            if let Err(error) = recorder.end(capture.number) {
                tracing::warn!(%error, "a capture did not end as it should");
            }
            counts = recorder.counts(capture.number);
        }
        capture.ended = Some((why.to_owned(), counts));
        true
    }

    fn end_all(&mut self, why: &str) {
        for id in self.under_way.keys().copied().collect::<Vec<_>>() {
            self.end(id, why);
        }
    }

    /// The files of those end that are over and have all that was in the ring for them.
    fn finish(&mut self, now: Instant) {
        let Self { under_way, recorder, waiting, ended, .. } = self;
        under_way.retain(|id, capture| {
            let waits = waiting.values().any(|(header, _)| header.captures >> capture.number & 1 == 1);
            let is_drained = recorder.as_ref().is_none_or(|recorder| recorder.is_drained(capture.number));
            if capture.ended.is_none() || waits || !is_drained || !capture.is_finished(now) {
                return true;
            }
            if let Some(recorder) = recorder {
                recorder.forget(capture.number);
            }
            let standing = capture.standing(*id, None);
            tracing::info!(id, packets = standing.packets, lost = standing.lost_packets, "a capture is over");
            ended.push_back(standing);
            if ended.len() > ENDED_MAX {
                ended.pop_front();
            }
            false
        });
    }
}

impl UnderWay {
    fn is_over(&self, now: Instant) -> Option<&'static str> {
        let elapsed =
            u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX);
        if self.ended.is_some() {
            return None;
        }
        if self.to.is_closed() {
            return Some("the client went away");
        }
        let is_late = is_reached(self.order.duration_ms, elapsed);
        self.has_enough().or(is_late.then_some("its time is over"))
    }

    /// What it has all of that was wanted.
    fn has_enough(&self) -> Option<&'static str> {
        match &self.order {
            order if is_reached(order.packets, self.packets) => Some("it has all packets that were wanted"),
            order if is_reached(order.bytes, self.bytes) => Some("it has all bytes that were wanted"),
            _ => None,
        }
    }

    fn add(&mut self, header: &Header, frame: &[u8], at: Duration, comment: Option<&str>) {
        if self.has_enough().is_some() {
            return;
        }
        if self.backlog.len() > BACKLOG_MAX {
            self.late.lost_packets += 1;
            self.late.lost_bytes += u64::from(header.bytes);
            return;
        }
        let seen = Seen {
            point: if header.point == 0 { Point::In } else { Point::Out },
            at,
            id: header.id,
            bytes: header.bytes,
            frame: frame.get(..self.snaplen as usize).unwrap_or(frame),
            comment,
        };
        if let Err(error) = self.file.add(&seen) {
            tracing::debug!(%error, "a frame could not be written");
            return;
        }
        self.packets += 1;
        self.bytes += u64::from(header.bytes);
    }

    /// Hands the client what it has room for.
    fn flush(&mut self, now: Instant) {
        self.backlog.extend_from_slice(&self.file.take());
        while !self.backlog.is_empty() {
            let Ok(room) = self.to.try_reserve() else {
                self.stalled.get_or_insert(now);
                return;
            };
            let chunk = self.backlog.split_to(self.backlog.len().min(CHUNK_BYTES));
            room.send(chunk.freeze());
            self.stalled = None;
        }
    }

    /// Ends the file, once: whether the client has all of it, or takes no more.
    fn is_finished(&mut self, now: Instant) -> bool {
        if !std::mem::replace(&mut self.is_whole, true)
            && let Err(error) = self.file.end(clock::unix(), self.packets, self.lost(None))
        {
            tracing::debug!(%error, "a capture's file has no statistics");
        }
        self.flush(now);
        let is_stalled = self.stalled.is_some_and(|since| now.saturating_duration_since(since) > STALLED_MAX);
        self.backlog.is_empty() || self.to.is_closed() || is_stalled
    }

    /// What there was no room for, in the ring and behind it.
    fn lost(&self, recorder: Option<&Recorder>) -> Counts {
        let counts = match (&self.ended, recorder) {
            (Some((_, counts)), _) => *counts,
            (None, Some(recorder)) => recorder.counts(self.number),
            (None, None) => Counts::default(),
        };
        Counts {
            lost_packets: counts.lost_packets + self.late.lost_packets,
            lost_bytes: counts.lost_bytes + self.late.lost_bytes,
            ..Counts::default()
        }
    }

    fn standing(&self, id: u64, recorder: Option<&Recorder>) -> Standing {
        let lost = self.lost(recorder);
        Standing {
            id,
            filters: self.order.filters.clone(),
            packets: self.packets,
            bytes: self.bytes,
            lost_packets: lost.lost_packets,
            lost_bytes: lost.lost_bytes,
            ended: self.ended.as_ref().map(|(why, _)| why.clone()),
        }
    }
}

fn is_reached(limit: Option<u64>, so_far: u64) -> bool {
    limit.is_some_and(|limit| so_far >= limit)
}

fn sentence(error: &CaptureError) -> String {
    match error {
        CaptureError::Kernel(error) => crate::kinds::service::sentence(error),
        other => other.to_string(),
    }
}
