//! Where probers and passes meet: answers come in, verdicts are read as facts, and who waits is told of changes.
//!
//! Nothing changes for the backends of a VIP before each of them has been judged once: what was in force when netd
//! started stays in force meanwhile. Otherwise a netd that starts while everything is down would take backends out one
//! by one, until the floor brought them all back.

use super::check::{Check, Wanted};
use super::in_force::before;
use super::probe::Answer;
use super::verdict::{BackendId, Group, Tracker, Unhealthy, Verdicts};
use crate::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What is known of the health of the backends. Shared by reference.
#[derive(Debug, Default)]
pub struct Board {
    known: Mutex<Known>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    carried: Option<BTreeSet<(String, IpAddr, u16)>>,
    checks: BTreeMap<Check, Kept>,
    groups: BTreeMap<Group, Backends>,
}

/// A check, and whom it speaks of.
#[derive(Debug, Default)]
struct Kept {
    tracker: Tracker,
    /// What is odd about the checking itself, to be said after the backend's name.
    remark: Option<String>,
    /// It cannot be made.
    is_hindered: bool,
    /// Since when its backend is unhealthy, as far as it was looked at.
    unhealthy_since: Option<Instant>,
    speaks_of: Vec<Group>,
}

/// The backends of a VIP.
#[derive(Debug, Default)]
struct Backends {
    checks: BTreeMap<BackendId, Check>,
    /// What holds until each was judged once; `None` afterwards.
    until_judged: Option<BTreeMap<BackendId, Unhealthy>>,
}

impl Board {
    /// Whether it is known which backends were out of force when this process started.
    #[must_use]
    pub fn is_seeded(&self) -> bool {
        self.known().carried.is_some()
    }

    /// Says which backends the datapath held for unhealthy when this process started: service, address, port.
    pub fn seed(&self, carried: BTreeSet<(String, IpAddr, u16)>) {
        self.known().carried = Some(carried);
    }

    /// Begins to keep these checks, and forgets all others. What held for a backend holds on until its new check says
    /// otherwise.
    pub fn assign(&self, wanted: &Wanted) {
        let mut known = self.known();
        let carried = known.carried.clone().unwrap_or_default();
        let mut old = std::mem::take(&mut known.checks);
        let old_groups = std::mem::take(&mut known.groups);
        for (group, members) in &wanted.groups {
            let is_carried = |ports: &[u16], id: &BackendId| {
                ports.iter().any(|&port| carried.contains(&(group.service.clone(), id.address, port)))
            };
            let before_group = old_groups.get(group);
            let mut held = BTreeMap::new();
            for (id, member) in members {
                let holds = match before_group {
                    Some(backends) => backends.unhealthy(*id, &old, &known.checks).cloned(),
                    None => is_carried(&member.ports, id).then(before),
                };
                held.extend(holds.clone().map(|holds| (*id, holds)));
                let kept = known.checks.entry(member.check.clone()).or_insert_with(|| {
                    let fresh = || Kept { tracker: Tracker::carrying(holds), ..Kept::default() };
                    let kept = old.remove(&member.check).unwrap_or_else(fresh);
                    Kept { speaks_of: Vec::new(), ..kept }
                });
                kept.speaks_of.push(group.clone());
            }
            let was_judged = before_group.is_some_and(|backends| backends.until_judged.is_none());
            let checks = members.iter().map(|(id, member)| (*id, member.check.clone())).collect();
            let until_judged = (!was_judged).then_some(held);
            known.groups.insert(group.clone(), Backends { checks, until_judged });
        }
        let groups: Vec<Group> = known.groups.keys().cloned().collect();
        let judged = |known: &Known| groups.iter().filter(|group| known.is_judged(group)).count();
        let before = judged(&known);
        for group in &groups {
            known.settle(group);
        }
        if judged(&known) > before {
            self.changed.notify_one();
        }
    }

    /// Counts an answer, given at a Unix time in milliseconds, with a remark on how it was asked for. What is said of a
    /// backend changes with a line of the log.
    pub fn take(&self, check: &Check, answer: Answer, remark: Option<String>, at_unix_ms: u64) {
        let mut known = self.known();
        let Some(kept) = known.checks.get_mut(check) else { return };
        let was_unhealthy = kept.tracker.unhealthy().is_some();
        kept.is_hindered = matches!(answer, Answer::Hindered(_));
        let (has_changed, remark) = match answer {
            Answer::Good => (kept.tracker.take(Ok(()), &check.pace, at_unix_ms), remark),
            Answer::Bad(why) => (kept.tracker.take(Err(why), &check.pace, at_unix_ms), remark),
            Answer::Hindered(why) => (false, Some(format!("is not checked: {why}"))),
        };
        let is_news = kept.remark != remark;
        kept.remark = remark;
        if !has_changed && !is_news {
            return;
        }
        log(check, was_unhealthy, kept);
        let has_flipped = was_unhealthy != kept.tracker.unhealthy().is_some();
        let groups = kept.speaks_of.clone();
        let mut is_visible = is_news;
        for group in &groups {
            let was_judged = known.is_judged(group);
            let is_settled = known.settle(group);
            is_visible |= (was_judged && has_flipped) || is_settled || known.is_judged(group) != was_judged;
        }
        drop(known);
        if is_visible {
            self.changed.notify_one();
        }
    }

    /// What a pass goes by.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        let (mut known, now) = (self.known(), clock::now());
        for kept in known.checks.values_mut() {
            let is_unhealthy = kept.tracker.unhealthy().is_some();
            kept.unhealthy_since = is_unhealthy.then(|| kept.unhealthy_since.unwrap_or(now));
        }
        let mut verdicts =
            Verdicts { carried: known.carried.clone().unwrap_or_default(), ..Verdicts::default() };
        for (group, backends) in &known.groups {
            let unhealthy = match &backends.until_judged {
                Some(held) => held.clone(),
                None => {
                    let of = |id: &BackendId| {
                        Some((*id, backends.unhealthy(*id, &known.checks, &BTreeMap::new())?.clone()))
                    };
                    backends.checks.keys().filter_map(of).collect()
                }
            };
            verdicts.unhealthy.insert(group.clone(), unhealthy);
            if backends.until_judged.is_some() {
                verdicts.unjudged.insert(group.clone());
            }
            let lasts = |(id, check): (&BackendId, &Check)| {
                let since = known.checks.get(check)?.unhealthy_since?;
                Some((*id, now.saturating_duration_since(since)))
            };
            let lasting: BTreeMap<BackendId, Duration> = backends.checks.iter().filter_map(lasts).collect();
            if !lasting.is_empty() {
                verdicts.unhealthy_for.insert(group.clone(), lasting);
            }
            let remark =
                |(id, check): (&BackendId, &Check)| Some((*id, known.checks.get(check)?.remark.clone()?));
            let remarks: BTreeMap<BackendId, String> = backends.checks.iter().filter_map(remark).collect();
            if !remarks.is_empty() {
                verdicts.remarks.insert(group.clone(), remarks);
            }
        }
        verdicts
    }

    /// Told when passes would read something else than before.
    #[must_use]
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// A panic elsewhere left counts at most one answer short.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_judged(&self, group: &Group) -> bool {
        self.groups.get(group).is_some_and(|backends| backends.until_judged.is_none())
    }

    /// Lets the verdicts of a VIP count, once all are there; whether that changes anything.
    fn settle(&mut self, group: &Group) -> bool {
        let Some(backends) = self.groups.get_mut(group) else { return false };
        let Some(held) = &backends.until_judged else { return false };
        let mut now = BTreeMap::new();
        for (id, check) in &backends.checks {
            let Some(kept) = self.checks.get(check) else { return false };
            if !kept.tracker.is_decided() && !kept.is_hindered {
                return false;
            }
            now.extend(kept.tracker.unhealthy().map(|unhealthy| (*id, unhealthy.clone())));
        }
        let is_news = *held != now;
        backends.until_judged = None;
        is_news
    }
}

impl Backends {
    /// What holds for a backend; its check is in one of two places while checks are moved.
    fn unhealthy<'k>(
        &'k self,
        id: BackendId,
        checks: &'k BTreeMap<Check, Kept>,
        moved: &'k BTreeMap<Check, Kept>,
    ) -> Option<&'k Unhealthy> {
        match &self.until_judged {
            Some(held) => held.get(&id),
            None => {
                let check = self.checks.get(&id)?;
                checks.get(check).or_else(|| moved.get(check))?.tracker.unhealthy()
            }
        }
    }
}

fn log(check: &Check, was_unhealthy: bool, kept: &Kept) {
    let (backend, vip) = (check.target.backend, check.target.vip.map(tracing::field::display));
    match (was_unhealthy, kept.tracker.unhealthy(), &kept.remark) {
        (false, Some(Unhealthy { why, .. }), _) => tracing::warn!(%backend, vip, why, "unhealthy"),
        (true, None, _) => tracing::info!(%backend, vip, "healthy again"),
        (_, _, Some(remark)) => tracing::warn!(%backend, vip, remark, "a health check is not made as asked"),
        (true, Some(_), None) | (false, None, None) => {}
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
