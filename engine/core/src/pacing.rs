//! Decides when each resource is tried again: one that fails, and one that somebody else keeps changing.

use crate::backoff::Backoff;
use crate::outcome::{Phase, Status};
use crate::resource::ResourceId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A resource that was found changed so often within [`FLIPS_WITHIN`] is fought over.
pub const FLIPS_MAX: usize = 5;

/// Fewer flips in this time are repaired at once; a fight that rests for as long is over.
pub const FLIPS_WITHIN: Duration = Duration::from_secs(60);

/// A resource that is fought over is left alone for this time first, then longer and longer.
const TRUCE_FIRST: Duration = Duration::from_secs(5);

/// A resource that is fought over is left alone for no longer than this.
const TRUCE_LONGEST: Duration = Duration::from_secs(300);

/// When which resource is tried again. Each waits for itself: one that keeps failing does not slow the others.
///
/// Times are those of any clock that does not go backwards.
#[derive(Clone, Debug, Default)]
pub struct Pacing {
    failing: BTreeMap<ResourceId, Failing>,
    fights: BTreeMap<ResourceId, Fight>,
}

/// A resource whose last try failed.
#[derive(Clone, Debug, Default)]
struct Failing {
    backoff: Backoff,
    status: Option<Status>,
    until: Duration,
}

/// A resource that was put right, and changed by somebody else again.
#[derive(Clone, Debug)]
struct Fight {
    /// When that was, as far as it counts.
    flips: Vec<Duration>,
    /// How often it was left alone.
    truces: Backoff,
    /// Until when it is, or was, left alone.
    until: Duration,
}

impl Pacing {
    /// How a resource stands whose time has not come; `None` when it may be changed now.
    #[must_use]
    pub fn waits(&self, id: &ResourceId, now: Duration) -> Option<Status> {
        if self.fights.get(id).is_some_and(|fight| now < fight.until) {
            let message = format!(
                "fought over: something else changed it {FLIPS_MAX} times within {} s; netd puts it right now and then",
                FLIPS_WITHIN.as_secs()
            );
            return Some(Status::new(Phase::Failed, message));
        }
        self.failing.get(id).filter(|failing| now < failing.until).and_then(|failing| failing.status.clone())
    }

    /// It was tried and is not as it should be, but stands like this. `spread` is any number that differs between
    /// nodes, resources and tries.
    pub fn failed(&mut self, id: &ResourceId, status: Status, now: Duration, spread: u64) {
        let failing = self.failing.entry(id.clone()).or_default();
        failing.until = now + failing.backoff.next(spread);
        failing.status = Some(status);
    }

    /// Somebody else changed what had been put right. `spread` as for [`Pacing::failed`].
    pub fn flipped(&mut self, id: &ResourceId, now: Duration, spread: u64) {
        self.fights.retain(|_, fight| !fight.is_over(now));
        let fight = self.fights.entry(id.clone()).or_insert_with(Fight::new);
        fight.flips.retain(|at| now.saturating_sub(*at) < FLIPS_WITHIN);
        fight.flips.push(now);
        if fight.truces.attempts() > 0 || fight.flips.len() >= FLIPS_MAX {
            fight.flips.clear();
            fight.until = now + fight.truces.next(spread);
        }
    }

    /// Only these still fail: of the others, the next failure is a first one.
    pub fn fail_still(&mut self, ids: &BTreeSet<&ResourceId>) {
        self.failing.retain(|id, _| ids.contains(id));
    }

    /// Something changed that may have been in the way: what failed is tried at once.
    pub fn hurry(&mut self) {
        self.failing.values_mut().for_each(|failing| failing.until = Duration::ZERO);
    }

    /// Everything is tried at once, and nothing is held against anyone.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// In how long the next resource's time comes, of those for which it had not come when [`Pacing::waits`] was asked.
    /// Zero for one for which it came since.
    #[must_use]
    pub fn next(&self, asked: Duration, now: Duration) -> Option<Duration> {
        let failing = self.failing.values().map(|failing| failing.until);
        let fights = self.fights.values().map(|fight| fight.until);
        failing.chain(fights).filter(|until| asked < *until).min().map(|until| until.saturating_sub(now))
    }
}

impl Fight {
    fn new() -> Self {
        let truces = Backoff::between(TRUCE_FIRST, TRUCE_LONGEST);
        Self { flips: Vec::new(), truces, until: Duration::ZERO }
    }

    fn is_over(&self, now: Duration) -> bool {
        let last = self.flips.last().copied().unwrap_or_default().max(self.until);
        now.saturating_sub(last) >= FLIPS_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Key;

    fn route(key: &str) -> ResourceId {
        ResourceId { kind: "route", key: Key::new(key) }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(1_000_000 + count)
    }

    fn failed() -> Status {
        Status::new(Phase::Failed, "create: no")
    }

    #[test]
    fn a_resource_that_keeps_failing_does_not_slow_another() {
        let (mut pacing, now) = (Pacing::default(), seconds(0));
        for _ in 0..20 {
            pacing.failed(&route("a"), failed(), now, 0);
        }
        pacing.failed(&route("b"), failed(), now, 0);
        assert_eq!(pacing.next(now, now), Some(Duration::from_millis(200)));
        let later = now + Duration::from_millis(200);
        assert_eq!(pacing.waits(&route("b"), later), None);
        assert_eq!(pacing.waits(&route("a"), later), Some(failed()));
        assert_eq!(pacing.next(later, later), Some(Duration::from_millis(29_800)));
        assert_eq!(pacing.waits(&route("c"), now), None);
    }

    #[test]
    fn a_time_that_comes_between_asking_and_looking_at_the_clock_is_not_missed() {
        let (mut pacing, asked) = (Pacing::default(), seconds(0));
        pacing.failed(&route("a"), failed(), asked, 0);
        assert_eq!(pacing.next(asked, asked + Duration::from_millis(150)), Some(Duration::from_millis(50)));
        assert_eq!(pacing.next(asked, asked + Duration::from_millis(250)), Some(Duration::ZERO));
    }

    #[test]
    fn what_works_again_fails_for_the_first_time_later() {
        let (mut pacing, now) = (Pacing::default(), seconds(0));
        for _ in 0..20 {
            pacing.failed(&route("a"), failed(), now, 0);
        }
        pacing.fail_still(&BTreeSet::new());
        pacing.failed(&route("a"), failed(), now, 0);
        assert_eq!(pacing.next(now, now), Some(Duration::from_millis(200)));
    }

    #[test]
    fn what_failed_is_tried_at_once_when_the_node_changed_but_a_fight_goes_on() {
        let (mut pacing, now) = (Pacing::default(), seconds(0));
        pacing.failed(&route("a"), failed(), now, 0);
        fight(&mut pacing, now);
        pacing.hurry();
        assert_eq!(pacing.waits(&route("a"), now), None);
        assert!(pacing.waits(&route("f"), now).is_some());
        pacing.forget();
        assert_eq!((pacing.waits(&route("f"), now), pacing.next(now, now)), (None, None));
    }

    fn fight(pacing: &mut Pacing, now: Duration) {
        for _ in 0..FLIPS_MAX {
            assert_eq!(pacing.waits(&route("f"), now), None);
            pacing.flipped(&route("f"), now, 0);
        }
    }

    #[test]
    fn k17_five_flips_within_a_minute_are_a_fight() {
        let mut pacing = Pacing::default();
        for flip in 1..FLIPS_MAX as u64 {
            pacing.flipped(&route("f"), seconds(flip * 14), 0);
            assert_eq!(pacing.waits(&route("f"), seconds(flip * 14)), None, "repaired at once");
        }
        pacing.flipped(&route("f"), seconds(70), 0);
        let waits = pacing.waits(&route("f"), seconds(70)).map(|status| status.message).unwrap_or_default();
        assert!(waits.starts_with("fought over"), "{waits}");
        assert_eq!(pacing.next(seconds(70), seconds(70)), Some(TRUCE_FIRST));
        assert_eq!(pacing.waits(&route("f"), seconds(75)), None);
    }

    #[test]
    fn k17_now_and_then_a_flip_is_no_fight() {
        let mut pacing = Pacing::default();
        for flip in 0..100 {
            pacing.flipped(&route("f"), seconds(flip * 16), 0);
            assert_eq!(pacing.waits(&route("f"), seconds(flip * 16)), None);
        }
    }

    #[test]
    fn k17_truces_grow_up_to_five_minutes_and_a_minute_of_peace_ends_the_fight() {
        let (mut pacing, mut now) = (Pacing::default(), seconds(0));
        fight(&mut pacing, now);
        let mut truces = Vec::new();
        for _ in 0..8 {
            let truce = pacing.next(now, now).unwrap_or_default();
            truces.push(truce.as_secs());
            // It is put right, and changed again a little later.
            now += truce + Duration::from_secs(3);
            pacing.flipped(&route("f"), now, 0);
        }
        assert_eq!(truces, [5, 10, 20, 40, 80, 160, 300, 300]);
        now += TRUCE_LONGEST + FLIPS_WITHIN;
        pacing.flipped(&route("f"), now, 0);
        assert_eq!(pacing.waits(&route("f"), now), None);
    }

    #[test]
    fn k17_truces_are_spread() {
        let (mut pacing, now) = (Pacing::default(), seconds(0));
        for _ in 0..FLIPS_MAX {
            pacing.flipped(&route("f"), now, 1000);
        }
        assert_eq!(pacing.next(now, now), Some(Duration::from_secs(4)));
    }
}
