//! The thread that takes packets out of the ring and hands them to their captures, and ends those that are over.

use super::named::OfFile;
use super::names::Names;
use super::under_way::{Stage, UnderWay, Why};
use super::{Captures, Origin, Standing};
use crate::balancer::Balancer;
use crate::clock;
use netd_bpf::recorder::{Header, Recorder};
use std::collections::{BTreeMap, VecDeque};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Records that are taken out of the ring in one go.
const ROUND: usize = 8192;

/// How long the thread rests when there was nothing: the ring holds what comes meanwhile.
pub(super) const REST: Duration = Duration::from_millis(5);

/// Between two rounds, so that others get at the captures.
const BREATH: Duration = Duration::from_micros(200);

/// What came in is written without a comment if it is not known by then what became of it.
const WAITING_MAX: Duration = Duration::from_millis(100);

/// Captures of clients that are over and are remembered.
const ENDED_MAX: usize = 32;

#[derive(Default)]
pub(super) struct State {
    pub(super) recorder: Option<Recorder>,
    pub(super) under_way: BTreeMap<u64, UnderWay>,
    /// Those of clients that are over.
    ended: VecDeque<Standing>,
    /// Those of the file, by name.
    pub(super) of_file: BTreeMap<String, OfFile>,
    /// What came in and has not left yet, by CPU: comments say what became of it.
    waiting: BTreeMap<u64, (Header, Vec<u8>)>,
    next: u64,
    /// When the monotonic clock began, since 1970.
    boot: Duration,
    /// Waits for the programs that may still give something to those that were withdrawn, beside the captures that go on.
    grace: Option<JoinHandle<netd_bpf::Result<()>>>,
}

impl Captures {
    /// Takes out of the ring what there is, until the last capture is over.
    pub(super) fn write_all(&self) {
        loop {
            let polled = {
                let mut state = self.lock();
                if self.balancer.is_recording() == Some(false) {
                    state.ask_all_to_end(&Why::interrupted("the load balancer is gone"));
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

    pub(super) fn close(&self, state: &mut State) {
        state.recorder = None;
        state.waiting.clear();
        if let Err(why) = self.balancer.stop_recording() {
            tracing::warn!(why, "the program that records stays until the next pass");
        }
    }
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn ask_all_to_end(&mut self, why: &Why) {
        for capture in self.under_way.values_mut() {
            capture.ask_to_end(why.clone());
        }
    }

    pub(super) fn standing(&self) -> Vec<Standing> {
        let under_way =
            self.under_way.iter().map(|(id, capture)| capture.standing(*id, self.recorder.as_ref()));
        let of_file = self.of_file.values().filter_map(|known| Some(known.over.as_ref()?.1.clone()));
        let mut all: Vec<Standing> = self.ended.iter().cloned().chain(of_file).chain(under_way).collect();
        all.sort_by_key(|standing| standing.id);
        all
    }

    /// One round: how many records there were.
    fn turn(&mut self, balancer: &Balancer) -> usize {
        let now = clock::now();
        self.boot = clock::unix().saturating_sub(clock::awake());
        for capture in self.under_way.values_mut() {
            if let Some(why) = capture.is_over(now) {
                capture.ask_to_end(why);
            }
        }
        self.end();
        let polled = self.poll(balancer);
        let awake = clock::awake();
        let waited = |header: &Header| awake.saturating_sub(Duration::from_nanos(header.ns));
        // What was in the ring is out of it: the other half of such a packet does not come any more.
        let is_late = |header: &Header| polled < ROUND && waited(header) > WAITING_MAX;
        for (_, (header, frame)) in
            self.waiting.extract_if(.., |_, (header, _)| is_late(header)).collect::<Vec<_>>()
        {
            self.write(&header, &frame, None);
        }
        for capture in self.under_way.values_mut() {
            capture.flush(now, self.recorder.as_ref());
        }
        self.finish(now);
        polled
    }

    fn poll(&mut self, balancer: &Balancer) -> usize {
        let Some(mut recorder) = self.recorder.take() else { return 0 };
        let polled = recorder.poll(ROUND, |header, frame| self.take(header, frame, balancer.names()));
        self.recorder = Some(recorder);
        polled
    }

    /// What came in waits for what becomes of it: the next record of the same CPU.
    fn take(&mut self, header: &Header, frame: &[u8], names: &Names) {
        let cpu = header.id >> 48;
        let before = self.waiting.remove(&cpu);
        if header.point == 0 {
            if let Some((came, frame)) = before {
                self.write(&came, &frame, None);
            }
            self.waiting.insert(cpu, (*header, frame.to_vec()));
            return;
        }
        let comment = names.comment(header);
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

    /// Ends those that are to end: one grace period for all of them, which nobody waits for. What is in the ring for them
    /// is still written.
    fn end(&mut self) {
        if self.grace.as_ref().is_some_and(|grace| !grace.is_finished()) {
            return;
        }
        if let Some(grace) = self.grace.take() {
            if !matches!(grace.join(), Ok(Ok(()))) {
                tracing::warn!("captures did not end as they should");
            }
            for capture in self.under_way.values_mut() {
                let counts = || self.recorder.as_ref().map(|recorder| recorder.counts(capture.number));
                if let Stage::Withdrawn(why) = &capture.stage {
                    capture.stage = Stage::Ended(why.clone(), counts().unwrap_or_default());
                }
            }
        }
        let mut numbers = Vec::new();
        for capture in self.under_way.values_mut() {
            if let Stage::Asked(why) = &capture.stage {
                capture.stage = Stage::Withdrawn(why.clone());
                numbers.push(capture.number);
            }
        }
        let Some(recorder) = self.recorder.as_mut().filter(|_| !numbers.is_empty()) else { return };
        if let Err(error) = recorder.withdraw(&numbers) {
            tracing::warn!(%error, "captures did not end as they should");
        }
        let waiting = std::thread::Builder::new().name("grace".into()).spawn(netd_bpf::grace);
        // Without a thread for it the next turn tries again.
        match waiting {
            Ok(waiting) => self.grace = Some(waiting),
            Err(error) => {
                tracing::warn!(%error, "captures end later");
                for capture in self.under_way.values_mut() {
                    if let Stage::Withdrawn(why) = &capture.stage {
                        capture.stage = Stage::Asked(why.clone());
                    }
                }
            }
        }
    }

    /// The files of those end that are over and have all that was in the ring for them.
    fn finish(&mut self, now: Instant) {
        let Self { under_way, recorder, waiting, ended, of_file, .. } = self;
        under_way.retain(|id, capture| {
            let Stage::Ended(why, _) = &capture.stage else { return true };
            let why = why.clone();
            let waits = waiting.values().any(|(header, _)| header.captures >> capture.number & 1 == 1);
            let is_drained = recorder.as_ref().is_none_or(|recorder| recorder.is_drained(capture.number));
            if waits || !is_drained || !capture.is_finished(now) {
                return true;
            }
            if let Some(recorder) = recorder {
                recorder.forget(capture.number);
            }
            let standing = capture.standing(*id, None);
            tracing::info!(id, packets = standing.packets, lost = standing.lost_packets, "a capture is over");
            match &capture.origin {
                Origin::File(name) => {
                    if let Some(known) = of_file.get_mut(name) {
                        known.over = Some((why, standing));
                    }
                }
                Origin::Client => ended.push_back(standing),
            }
            if ended.len() > ENDED_MAX {
                ended.pop_front();
            }
            false
        });
    }
}
