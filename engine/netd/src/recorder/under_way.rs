//! One capture that is under way: its limits, its file as it is written, and what waits for whoever takes it.

use super::file::{File, Point, Seen};
use super::files::Log;
use super::{Frames, Order, Origin, Piece, Standing};
use crate::clock;
use netd_bpf::recorder::{Counts, Header, Recorder};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Bytes that wait for a client that reads slowly, or for a slow disk; beyond them frames are lost.
const BACKLOG_MAX: usize = 32 << 20;

/// Bytes of a piece: the block that reaches them is its last.
const PIECE_BYTES: usize = 256 << 10;

/// Who has taken nothing for so long does not get the end of a capture that is over.
const STALLED_MAX: Duration = Duration::from_secs(10);

pub(super) struct UnderWay {
    pub(super) number: u8,
    pub(super) origin: Origin,
    order: Order,
    snaplen: u32,
    begun: Instant,
    /// How long ago it began before that.
    lasted: Duration,
    file: File,
    /// Bytes of frames in the file, and of those that were not handed on yet.
    file_bytes: u64,
    unsent_bytes: usize,
    unsent: Frames,
    /// After so many bytes the next file is begun.
    file_bytes_max: Option<u64>,
    to: mpsc::Sender<Piece>,
    backlog: VecDeque<Piece>,
    backlog_bytes: usize,
    /// Since when nobody takes anything.
    stalled: Option<Instant>,
    tally: Tally,
    pub(super) stage: Stage,
    /// Whether the last file has its end.
    is_whole: bool,
    /// For those whose files netd writes itself.
    log: Option<Arc<Log>>,
}

/// What was written of a capture, and what was lost.
#[derive(Default)]
struct Tally {
    /// Before netd was interrupted, and altogether.
    before: Counts,
    packets: u64,
    bytes: u64,
    /// Frames that came faster than they were taken.
    late: Counts,
    /// What the last look at the kernel's counts said.
    lost: Counts,
    /// What the files say that are whole.
    told: Told,
}

#[derive(Clone, Copy, Default)]
struct Told {
    packets: u64,
    lost_packets: u64,
    lost_bytes: u64,
}

/// How far a capture is.
pub(super) enum Stage {
    /// Packets are recorded.
    Recording,
    /// It is to end.
    Asked(Why),
    /// No packet that comes is found for it; those that are under way may be.
    Withdrawn(Why),
    /// It has all that it gets, and lost so much.
    Ended(Why, Counts),
}

/// Why a capture is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) sentence: String,
    /// It goes on when it can: it is not over for its own sake.
    pub(super) is_interrupted: bool,
}

impl Why {
    pub(super) fn over(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_interrupted: false }
    }

    pub(super) fn interrupted(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_interrupted: true }
    }
}

/// What a capture begins with.
pub(super) struct Beginning {
    pub(super) number: u8,
    pub(super) origin: Origin,
    pub(super) order: Order,
    pub(super) snaplen: u32,
    pub(super) file: File,
    pub(super) file_bytes_max: Option<u64>,
    pub(super) to: mpsc::Sender<Piece>,
    pub(super) log: Option<Arc<Log>>,
}

impl UnderWay {
    pub(super) fn new(beginning: Beginning) -> Self {
        let Beginning { number, origin, order, snaplen, file, file_bytes_max, to, log } = beginning;
        let (lasted, before) = log.as_ref().map(|log| log.so_far()).unwrap_or_default();
        let Counts { packets, bytes, lost_packets, lost_bytes } = before;
        let told = Told { packets, lost_packets, lost_bytes };
        Self {
            number,
            origin,
            order,
            snaplen,
            begun: clock::now(),
            lasted,
            file,
            file_bytes: 0,
            unsent_bytes: 0,
            unsent: Frames::default(),
            file_bytes_max,
            to,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            stalled: None,
            tally: Tally { before, packets, bytes, told, ..Tally::default() },
            stage: Stage::Recording,
            is_whole: false,
            log,
        }
    }

    /// Has it end, if it has not been told before; whether it had not.
    pub(super) fn ask_to_end(&mut self, why: Why) -> bool {
        let is_recording = matches!(self.stage, Stage::Recording);
        if is_recording {
            self.stage = Stage::Asked(why);
        }
        is_recording
    }

    /// Why it should end now.
    pub(super) fn is_over(&self, now: Instant) -> Option<Why> {
        if !matches!(self.stage, Stage::Recording) {
            return None;
        }
        if self.to.is_closed() {
            let why = self.log.as_ref().and_then(|log| log.failure());
            return Some(Why::over(why.unwrap_or_else(|| "the client went away".into())));
        }
        let elapsed = self.lasted.saturating_add(now.saturating_duration_since(self.begun));
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let is_late = is_reached(self.order.duration_ms, elapsed);
        self.has_enough().or(is_late.then_some("its time is over")).map(Why::over)
    }

    /// What it has all of that was wanted.
    fn has_enough(&self) -> Option<&'static str> {
        match &self.order {
            order if is_reached(order.packets, self.tally.packets) => {
                Some("it has all packets that were wanted")
            }
            order if is_reached(order.bytes, self.tally.bytes) => Some("it has all bytes that were wanted"),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, header: &Header, frame: &[u8], at: Duration, comment: Option<&str>) {
        if self.has_enough().is_some() {
            return;
        }
        if self.backlog_bytes + self.unsent_bytes > BACKLOG_MAX {
            self.tally.late.lost_packets += 1;
            self.tally.late.lost_bytes += u64::from(header.bytes);
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
        match self.file.add(&seen) {
            Ok(longer) => {
                self.unsent_bytes += longer;
                self.file_bytes += longer as u64;
            }
            Err(error) => {
                tracing::debug!(%error, "a frame could not be written");
                return;
            }
        }
        self.tally.packets += 1;
        self.tally.bytes += u64::from(header.bytes);
        self.unsent.add(Frames { packets: 1, bytes: header.bytes.into() });
        if is_reached(self.file_bytes_max, self.file_bytes) && self.has_enough().is_none() {
            self.turn_over();
        } else if self.unsent_bytes >= PIECE_BYTES {
            self.stash();
        }
    }

    /// Ends the file and begins the next one.
    fn turn_over(&mut self) {
        self.end_file();
        match File::begin(self.order.format, self.snaplen, &self.order.filters) {
            Ok(next) => {
                self.stash();
                self.backlog.push_back(Piece::Next);
                self.file = next;
                self.file_bytes = 0;
            }
            Err(error) => tracing::debug!(%error, "a capture stays in its file"),
        }
    }

    /// Says in the file what is in it, and what was lost since the one before.
    fn end_file(&mut self) {
        let lost = self.lost(None);
        let told = self.tally.told;
        let since = Counts {
            lost_packets: lost.lost_packets.saturating_sub(told.lost_packets),
            lost_bytes: lost.lost_bytes.saturating_sub(told.lost_bytes),
            ..Counts::default()
        };
        let packets = self.tally.packets;
        if let Err(error) = self.file.end(clock::unix(), packets.saturating_sub(told.packets), since) {
            tracing::debug!(%error, "a capture's file has no statistics");
        }
        self.tally.told = Told { packets, lost_packets: lost.lost_packets, lost_bytes: lost.lost_bytes };
    }

    /// Puts whole blocks where they wait.
    fn stash(&mut self) {
        let bytes = self.file.take();
        let frames = std::mem::take(&mut self.unsent);
        self.unsent_bytes = 0;
        if !bytes.is_empty() {
            self.backlog_bytes += bytes.len();
            self.backlog.push_back(Piece::Bytes(bytes.into(), frames));
        }
    }

    /// Hands on what there is room for.
    pub(super) fn flush(&mut self, now: Instant, recorder: Option<&Recorder>) {
        if let Some(recorder) = recorder {
            self.tally.lost = recorder.counts(self.number);
        }
        if self.backlog.is_empty() {
            self.stash();
        }
        while let Some(piece) = self.backlog.pop_front() {
            let length = piece.len();
            match self.to.try_send(piece) {
                Ok(()) => {
                    self.backlog_bytes -= length;
                    self.stalled = None;
                }
                Err(TrySendError::Full(piece)) => {
                    self.backlog.push_front(piece);
                    self.stalled.get_or_insert(now);
                    break;
                }
                Err(TrySendError::Closed(_)) => {
                    self.backlog.clear();
                    self.backlog_bytes = 0;
                }
            }
        }
        if let Some(log) = &self.log {
            let lost = self.lost(None);
            let (packets, bytes) = (self.tally.packets, self.tally.bytes);
            log.count(Counts { packets, bytes, ..lost });
        }
    }

    /// Ends the file, once: whether all of it was taken, or nobody takes any more.
    pub(super) fn is_finished(&mut self, now: Instant) -> bool {
        if !std::mem::replace(&mut self.is_whole, true) {
            self.end_file();
            self.stash();
            if let (Some(log), Stage::Ended(why, _)) = (&self.log, &self.stage) {
                log.end(why);
            }
            self.backlog.push_back(Piece::End);
            self.stalled = Some(now);
        }
        self.flush(now, None);
        if self.backlog.is_empty() {
            // From the last that was taken on.
            self.stalled.get_or_insert(now);
        }
        let is_stalled = self.stalled.is_some_and(|since| now.saturating_duration_since(since) > STALLED_MAX);
        self.to.is_closed() || is_stalled
    }

    /// What there was no room for, in the ring and behind it, and before netd was interrupted.
    fn lost(&self, recorder: Option<&Recorder>) -> Counts {
        let counts = match (&self.stage, recorder) {
            (Stage::Ended(_, counts), _) => *counts,
            (_, Some(recorder)) => recorder.counts(self.number),
            (_, None) => self.tally.lost,
        };
        let (late, before) = (self.tally.late, self.tally.before);
        Counts {
            lost_packets: counts.lost_packets + late.lost_packets + before.lost_packets,
            lost_bytes: counts.lost_bytes + late.lost_bytes + before.lost_bytes,
            ..Counts::default()
        }
    }

    pub(super) fn standing(&self, id: u64, recorder: Option<&Recorder>) -> Standing {
        let (packets, bytes) = (self.tally.packets, self.tally.bytes);
        let counted = Counts { packets, bytes, ..self.lost(recorder) };
        let counts = self.log.as_ref().map_or(counted, |log| log.as_written(counted));
        let ended = match &self.stage {
            Stage::Recording => None,
            Stage::Asked(why) | Stage::Withdrawn(why) | Stage::Ended(why, _) => Some(why.sentence.clone()),
        };
        Standing {
            id,
            origin: self.origin.clone(),
            output: self.log.as_ref().and_then(|log| log.path()),
            filters: self.order.filters.clone(),
            packets: counts.packets,
            bytes: counts.bytes,
            lost_packets: counts.lost_packets,
            lost_bytes: counts.lost_bytes,
            ended,
        }
    }
}

fn is_reached(limit: Option<u64>, so_far: u64) -> bool {
    limit.is_some_and(|limit| so_far >= limit)
}
