//! Decides when the file is worth a reading and which reading is worth a pass. Knows no clock and no file system:
//! time comes in as a duration since the start, observations come in as values.
//!
//! | evidence that the content is whole | waits before reading | delivered although events go on, after |
//! |---|---|---|
//! | renamed into place, or its writer closed it | nothing | `quiet_max` |
//! | being written, no close seen | `writer_quiet` without a write | `writer_max` |
//! | created, removed, touched | `quiet` without an event | `quiet_max` |
//! | events were lost; or a poll saw other content | the same content still there after `confirm` | `changed_max` |
//!
//! A reading that an accident produces easily (missing, empty, unreadable) is believed after it held for `doubt`.
//! So a file that is rewritten for ever is still delivered, at most every `deliver_gap`, and the last content wins.

use std::time::Duration;

use Hint::{Complete, Lost, Touched, Unclear, Writing};

/// Something happened to the file or on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Whole content is in place: renamed there, a link on the way replaced, or its writer closed it.
    Complete,
    /// It is being written and was not closed since.
    Writing,
    /// A name on the way appeared or went.
    Unclear,
    /// Events were dropped: anything may have happened.
    Lost,
    /// Permissions, times, or a directory on the way: the content was not touched.
    Touched,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Least time between two deliveries: 100 ms, so at most ten passes per second.
    pub deliver_gap: Duration,
    /// Least time between two readings; also four times what the last one took, so that reading costs at most a
    /// fifth of a core.
    pub read_gap: Duration,
    /// Silence after events that do not say whether the content is whole.
    pub quiet: Duration,
    /// The most that such events, or a file replaced again and again, put a reading off.
    pub quiet_max: Duration,
    /// Silence after a write that no close followed: its writer may only be slow.
    pub writer_quiet: Duration,
    /// The most that a writer which never closes puts a reading off.
    pub writer_max: Duration,
    /// How long the same content must stay when no event vouches for it.
    pub confirm: Duration,
    /// The most that content which differs at each look puts a delivery off.
    pub changed_max: Duration,
    /// How long the file must be missing, empty or unreadable before that is believed.
    pub doubt: Duration,
    /// How long no two readings may agree before that itself is delivered.
    pub unstable_max: Duration,
    /// Between two looks at the content while events are on. With `confirm` it stays under 5 s.
    pub poll: Duration,
    /// Between two looks while there are no events.
    pub poll_without_events: Duration,
    /// Between two attempts to get events after the kernel refused them.
    pub retry_events: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            deliver_gap: Duration::from_millis(100),
            read_gap: Duration::from_millis(10),
            quiet: Duration::from_millis(50),
            quiet_max: Duration::from_millis(200),
            writer_quiet: Duration::from_millis(500),
            writer_max: Duration::from_secs(10),
            confirm: Duration::from_millis(200),
            changed_max: Duration::from_secs(2),
            doubt: Duration::from_millis(500),
            unstable_max: Duration::from_secs(2),
            poll: Duration::from_millis(4_700),
            poll_without_events: Duration::from_secs(1),
            retry_events: Duration::from_secs(30),
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the file now, then say what was [`observed`](Settle::observed).
    Read(Reason),
    /// Nothing to do before this time unless something happens.
    WaitUntil(Duration),
}

/// Why a reading is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The first one, or somebody asked: whatever it gives is delivered.
    Asked,
    /// Something happened.
    Stirred(Hint),
    /// To see whether what was found before is still there.
    Confirming,
    /// Nothing happened that was seen.
    Poll,
}

/// What a reading gave. `identity` is equal for what needs no second pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation<I> {
    /// Content, or a state that no accident produces.
    Solid(I),
    /// What a careless editor also produces for a moment.
    Doubtful(I),
    /// Two passes over the file differed.
    Unstable(I),
    /// Not read: its stamp is the one of the last reading.
    Unchanged,
}

/// What to do with a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is news.
    Deliver,
    /// It is known already, or not to be trusted yet.
    Keep,
}

/// The decision's memory.
#[derive(Debug)]
pub struct Settle<I> {
    pace: Pace,
    poll_every: Duration,
    asked: bool,
    stir: Option<Stir>,
    under_way: Option<UnderWay>,
    held: Option<Held<I>>,
    delivered: Option<I>,
    changed_since: Option<Duration>,
    unstable_since: Option<Duration>,
    deliver_from: Duration,
    read_from: Duration,
    poll_at: Duration,
}

/// Events since the last reading that answered them.
#[derive(Clone, Copy, Debug)]
struct Stir {
    first: Duration,
    last: Duration,
    hint: Hint,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    reason: Reason,
    began: Duration,
    stir: Option<Stir>,
}

/// A reading that must be found again before it is believed.
#[derive(Debug)]
struct Held<I> {
    identity: I,
    doubtful: bool,
    since: Duration,
    hold: Duration,
}

impl<I: PartialEq> Settle<I> {
    /// Nothing is known yet: the first step is to read.
    pub fn new(pace: Pace) -> Settle<I> {
        Settle {
            pace,
            poll_every: pace.poll,
            asked: true,
            stir: None,
            under_way: None,
            held: None,
            delivered: None,
            changed_since: None,
            unstable_since: None,
            deliver_from: Duration::ZERO,
            read_from: Duration::ZERO,
            poll_at: Duration::ZERO,
        }
    }

    /// How often to look without being told, from now on.
    pub fn poll_every(&mut self, now: Duration, interval: Duration) {
        self.poll_every = interval;
        self.poll_at = self.poll_at.min(now + interval);
    }

    /// The next reading is delivered even if it is what was delivered last.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// Something happened at `now`, or at an earlier time that is only now known.
    pub fn stirred(&mut self, now: Duration, hint: Hint) {
        let Some(stir) = &mut self.stir else {
            self.stir = Some(Stir { first: now, last: now, hint });
            return;
        };
        stir.last = stir.last.max(now);
        stir.hint = match (stir.hint, hint) {
            // Whole content stays worth an immediate reading until somebody writes into it.
            (Complete, Unclear | Lost | Touched) => Complete,
            (before, Touched) => before,
            (_, after @ (Complete | Writing | Unclear | Lost)) => after,
        };
    }

    /// What to do at `now`. [`Step::Read`] must be answered by [`Settle::observed`].
    pub fn next(&mut self, now: Duration) -> Step {
        let floor = self.deliver_from.max(self.read_from);
        // A timer must not read what an event says is half done, so it does not count while one is unanswered.
        let (due, reason) = if self.asked {
            (self.read_from, Reason::Asked)
        } else if let Some(stir) = self.stir {
            (self.due(stir).max(floor), Reason::Stirred(stir.hint))
        } else if let Some(held) = &self.held {
            ((held.since + held.hold).max(floor), Reason::Confirming)
        } else {
            (self.poll_at.max(floor), Reason::Poll)
        };
        if due > now {
            return Step::WaitUntil(due);
        }
        let stir = match reason {
            Reason::Stirred(_) => self.stir.take(),
            Reason::Asked | Reason::Confirming | Reason::Poll => None,
        };
        self.asked = false;
        self.under_way = Some(UnderWay { reason, began: now, stir });
        Step::Read(reason)
    }

    /// What the reading that [`Settle::next`] asked for gave, at its end. Events that came meanwhile were said before.
    pub fn observed(&mut self, now: Duration, observation: Observation<I>) -> Verdict {
        let Some(under_way) = self.under_way.take() else { return Verdict::Keep };
        self.read_from = now + self.pace.read_gap.max(now.saturating_sub(under_way.began) * 4);
        self.poll_at = now + self.poll_every;
        let asked = under_way.reason == Reason::Asked;
        let (identity, doubtful) = match observation {
            Observation::Solid(identity) => (identity, false),
            Observation::Doubtful(identity) => (identity, true),
            Observation::Unstable(identity) => return self.unstable(now, under_way, identity),
            Observation::Unchanged => return Verdict::Keep,
        };
        self.unstable_since = None;
        if !asked && self.is_disturbed(now, under_way) {
            self.put_back(under_way);
            return Verdict::Keep;
        }
        if !asked && self.delivered.as_ref() == Some(&identity) {
            self.held = None;
            self.changed_since = None;
            return Verdict::Keep;
        }
        if !asked && self.must_hold(now, under_way.reason, &identity, doubtful) {
            self.hold(now, identity, doubtful);
            return Verdict::Keep;
        }
        self.deliver(now, identity)
    }

    fn due(&self, stir: Stir) -> Duration {
        let Pace { quiet, quiet_max, writer_quiet, writer_max, .. } = self.pace;
        match stir.hint {
            Complete => stir.last,
            Writing => (stir.last + writer_quiet).min(stir.first + writer_max),
            Unclear | Lost | Touched => (stir.last + quiet).min(stir.first + quiet_max),
        }
    }

    /// Whether the content was touched while it was read, and waiting for a calmer moment is still affordable.
    fn is_disturbed(&self, now: Duration, under_way: UnderWay) -> bool {
        let patience = match under_way.reason {
            Reason::Stirred(Writing) => self.pace.writer_max,
            Reason::Stirred(Complete | Unclear | Lost | Touched) => self.pace.quiet_max,
            // The event that came has its own reading, with its own patience.
            Reason::Asked | Reason::Confirming | Reason::Poll => Duration::MAX,
        };
        let waiting_since = under_way.stir.map_or(under_way.began, |stir| stir.first);
        self.stir.is_some_and(|stir| stir.hint != Touched) && now.saturating_sub(waiting_since) < patience
    }

    /// The events that this reading should have answered are still unanswered.
    fn put_back(&mut self, under_way: UnderWay) {
        self.stir = match (under_way.stir, self.stir) {
            (Some(before), Some(after)) => {
                let hint = if after.hint == Touched { before.hint } else { after.hint };
                Some(Stir { first: before.first, last: after.last, hint })
            }
            (before, after) => after.or(before),
        };
    }

    fn must_hold(&mut self, now: Duration, reason: Reason, identity: &I, doubtful: bool) -> bool {
        if self.delivered.is_none() {
            return false;
        }
        let held =
            self.held.as_ref().filter(|held| held.identity == *identity || (held.doubtful && doubtful));
        let held_for = held.map_or(Duration::ZERO, |held| now.saturating_sub(held.since));
        if doubtful {
            return held_for < self.pace.doubt;
        }
        let changed_since = *self.changed_since.get_or_insert(now);
        let vouched = match reason {
            Reason::Asked | Reason::Stirred(Complete | Writing | Unclear | Touched) => true,
            Reason::Stirred(Lost) | Reason::Confirming | Reason::Poll => false,
        };
        let waited_enough = now.saturating_sub(changed_since) >= self.pace.changed_max;
        !vouched && !waited_enough && held_for < self.pace.confirm
    }

    fn hold(&mut self, now: Duration, identity: I, doubtful: bool) {
        let hold = if doubtful { self.pace.doubt } else { self.pace.confirm };
        let since = match &self.held {
            Some(held) if held.identity == identity || (held.doubtful && doubtful) => held.since,
            Some(_) | None => now,
        };
        self.held = Some(Held { identity, doubtful, since, hold });
    }

    fn unstable(&mut self, now: Duration, under_way: UnderWay, identity: I) -> Verdict {
        let since = *self.unstable_since.get_or_insert(now);
        self.asked |= under_way.reason == Reason::Asked;
        self.put_back(under_way);
        if self.stir.is_none() {
            self.stirred(now, Unclear);
        }
        if now.saturating_sub(since) < self.pace.unstable_max || self.delivered.as_ref() == Some(&identity) {
            return Verdict::Keep;
        }
        self.deliver(now, identity)
    }

    fn deliver(&mut self, now: Duration, identity: I) -> Verdict {
        self.delivered = Some(identity);
        self.held = None;
        self.changed_since = None;
        self.deliver_from = now + self.pace.deliver_gap;
        Verdict::Deliver
    }
}
