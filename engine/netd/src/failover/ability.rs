//! Whether this gateway can do what egress needs, as its passes find it. Pure: the time is an argument.
//!
//! What is wrong for a moment only is put right by the next pass, and moving to another gateway would end all flows: it
//! has to last. What may be wrong only while the gateway is in force cannot be seen to be right before it is in force
//! again, so that it waits longer after each time.

use std::time::Duration;

/// After it was found unable, a gateway has to be without fault for this time before it counts as able again.
const RECOVERY_FIRST: Duration = Duration::from_secs(10);

/// It waits no longer than this, however often it was found unable.
const RECOVERY_MAX: Duration = Duration::from_secs(3_600);

/// After so long a time in which it was able, what was before does not count any more.
const FORGETTING: Duration = Duration::from_secs(600);

/// Everything is looked at again after this time at the latest (`engine::Pace`), if passes are made at all.
const RESYNC: Duration = Duration::from_secs(30);

/// A pass of the largest file takes a few seconds; one that takes longer than this hangs.
const PASS_MAX: Duration = Duration::from_secs(15);

/// What is wrong when it does.
const HANGS: &str = "its passes do not come to an end";

/// Whether passes end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passes {
    ended: Duration,
    asked: Option<Duration>,
}

impl Passes {
    pub(super) fn begin(now: Duration) -> Self {
        Self { ended: now, asked: None }
    }

    /// One was asked for.
    pub(super) fn ask(&mut self, now: Duration) {
        self.asked.get_or_insert(now);
    }

    /// One has ended.
    pub(super) fn end(&mut self, now: Duration) {
        *self = Self::begin(now);
    }

    /// What is wrong, if the next one should have ended by now.
    pub(super) fn late(&self, now: Duration) -> Option<&'static str> {
        let resync = self.ended.saturating_add(RESYNC);
        let due = self.asked.map_or(resync, |asked| asked.min(resync));
        (due.saturating_add(PASS_MAX) <= now).then_some(HANGS)
    }
}

/// Whether a gateway counts as able.
#[derive(Clone, Debug, Default)]
pub(super) struct Ability {
    /// What is wrong now, and since when something is.
    wrong: Option<(String, Duration)>,
    /// Why it counts as unable.
    unable: Option<String>,
    /// Since when nothing is wrong, or it counts as able.
    since: Duration,
    /// How often it was found unable.
    times: u32,
}

impl Ability {
    /// Is told what is wrong now, if anything is.
    pub(super) fn tell(&mut self, wrong: Option<&str>, now: Duration) {
        self.wrong = match (wrong, self.wrong.take()) {
            (Some(why), Some((_, since))) => Some((why.to_owned(), since)),
            (Some(why), None) => Some((why.to_owned(), now)),
            (None, Some(_)) => {
                self.since = if self.unable.is_some() { now } else { self.since };
                None
            }
            (None, None) => None,
        };
    }

    /// Counts from now on what is wrong: until now it did not matter, and may have been so for that reason.
    pub(super) fn begin(&mut self, now: Duration) {
        if let Some((_, since)) = &mut self.wrong {
            *since = now;
        }
    }

    /// Lets the time pass; `lasting` is for how long something has to be wrong. Whether it has become able again.
    pub(super) fn look(&mut self, lasting: Duration, now: Duration) -> bool {
        match (&self.wrong, &self.unable) {
            (Some((why, since)), None) if now.saturating_sub(*since) >= lasting => {
                if now.saturating_sub(self.since) >= FORGETTING {
                    self.times = 0;
                }
                self.unable = Some(why.clone());
                self.times = self.times.saturating_add(1);
            }
            (Some((why, _)), Some(before)) if why != before => self.unable = Some(why.clone()),
            (None, Some(_)) if now.saturating_sub(self.since) >= self.recovery() => {
                (self.unable, self.since) = (None, now);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Why it counts as unable.
    pub(super) fn unable(&self) -> Option<&str> {
        self.unable.as_deref()
    }

    fn recovery(&self) -> Duration {
        let doublings = self.times.saturating_sub(1).min(u32::BITS - 1);
        RECOVERY_FIRST.saturating_mul(1 << doublings).min(RECOVERY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTING: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(10_000 + seconds)
    }

    #[test]
    fn what_the_next_pass_puts_right_is_no_inability() {
        let mut ability = Ability::default();
        ability.tell(Some("no programs"), at(0));
        ability.look(LASTING, at(0));
        ability.tell(None, at(1));
        ability.look(LASTING, at(2));
        assert_eq!(ability.unable(), None);
        ability.tell(Some("no programs"), at(3));
        ability.tell(Some("no rules"), at(4));
        ability.look(LASTING, at(4));
        assert_eq!(ability.unable(), Some("no rules"));
    }

    #[test]
    fn one_that_is_found_unable_again_and_again_waits_longer_each_time_and_an_hour_at_most() {
        let (mut ability, mut now) = (Ability::default(), at(0));
        let mut waits = Vec::new();
        for _ in 0..12 {
            ability.tell(Some("no address"), now);
            now += LASTING;
            ability.look(LASTING, now);
            ability.tell(None, now);
            let began = now;
            while ability.unable().is_some() {
                now += LASTING;
                ability.look(LASTING, now);
            }
            waits.push((now - began).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
        now += FORGETTING;
        ability.tell(Some("no address"), now);
        ability.look(LASTING, now + LASTING);
        assert_eq!(ability.recovery(), RECOVERY_FIRST);
    }

    #[test]
    fn passes_are_late_when_one_that_was_asked_for_does_not_end_or_none_is_made_at_all() {
        let mut passes = Passes::begin(at(0));
        assert_eq!((passes.late(at(44)), passes.late(at(45))), (None, Some(HANGS)));
        passes.ask(at(5));
        passes.ask(at(9));
        assert_eq!((passes.late(at(19)), passes.late(at(20))), (None, Some(HANGS)));
        passes.end(at(21));
        assert_eq!(passes.late(at(60)), None);
    }
}
