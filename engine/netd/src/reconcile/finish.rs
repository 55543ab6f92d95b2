//! The end of a pass: what is published, and when to try again.

use super::Reconciler;
use super::apply::Outcomes;
use super::decide::{Braked, InForce};
use super::document::{Documents, Refusal, Verdict};
use super::drift::Settled;
use super::lowering::order;
use crate::clock::{self, Stopwatch};
use crate::ledger::Ledger;
use crate::report::{
    ConfigReport, FileState, HeldBack, InForceReport, KindReport, PassReport, Reason, Report, ResourceNote,
    Stages, Word, micros,
};
use netd_core::{Desired, Outcome};
use netd_state::LastGood;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many steps are logged one by one in a pass; the rest is counted.
const LOGGED_MAX: usize = 20;

/// What a pass collects on its way.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) reason: Reason,
    pub(super) took: Stages,
    pub(super) watch: Stopwatch,
    pub(super) rounds: usize,
    pub(super) applied: usize,
    pub(super) not_applied: usize,
    /// Whether to look again before long, whatever the resources wait for.
    pub(super) needs_look: bool,
    pub(super) notes: Vec<ResourceNote>,
    /// In how long something else is wanted, although nothing changes.
    pub(super) turns_in: Option<Duration>,
}

impl Walk {
    pub(super) fn start(reason: Reason) -> Self {
        Self {
            reason,
            took: Stages::default(),
            watch: Stopwatch::start(),
            rounds: 0,
            applied: 0,
            not_applied: 0,
            needs_look: false,
            notes: Vec::new(),
            turns_in: None,
        }
    }

    /// Counts what came of a round; whether anything was done.
    pub(super) fn count(&mut self, done: &Outcomes) -> bool {
        let applied = done.values().filter(|outcome| matches!(outcome, Outcome::Applied)).count();
        self.applied += applied;
        self.not_applied += done.len() - applied;
        applied > 0
    }
}

/// When the first kind wants something else although nothing changes.
pub(super) fn turns_in(desired: &Desired) -> Option<Duration> {
    desired.0.values().filter_map(|wanted| wanted.as_ref().ok()?.turns_in).min()
}

impl Reconciler {
    /// The report of a pass that saw the node.
    pub(super) fn finish(
        &mut self,
        verdict: &Verdict,
        walk: Walk,
        held_back: Option<Braked>,
        settled: Settled,
    ) -> Report {
        let order = order(&self.setup.kinds);
        let config = self.config_report(verdict, held_back.is_some());
        let mut report = Report {
            word: overall(&config, held_back.is_some(), settled.standing.word(), self.in_force.is_some()),
            config,
            held_back: held_back.map(|braked| self.held_back(&braked)),
            kinds: settled.standing.kinds(&order, &settled.desired),
            not_ready: settled.standing.listed(),
            ..Report::default()
        };
        self.settled = settled;
        self.finish_report(&mut report, walk);
        report
    }

    /// The report of a pass that could not see the node: nothing is known, so nothing was planned.
    pub(super) fn finish_blind(&mut self, verdict: &Verdict, mut walk: Walk, why: &str) -> Report {
        let config = self.config_report(verdict, false);
        let mut report = Report {
            word: overall(&config, false, Word::Degraded, self.in_force.is_some()),
            config,
            ..Report::default()
        };
        for kind in order(&self.setup.kinds) {
            report.kinds.entry(kind.to_owned()).or_default().unread = Some(why.to_owned());
        }
        walk.needs_look = true;
        self.finish_report(&mut report, walk);
        report
    }

    fn finish_report(&mut self, report: &mut Report, mut walk: Walk) {
        walk.took.total_us = micros(walk.watch.total());
        report.node.clone_from(&self.setup.node);
        report.instance.clone_from(&self.setup.instance);
        report.notes = walk.notes;
        report.drift.clone_from(&self.report.drift);
        report.state_not_durable = self.setup.ledger.not_durable();
        report.datapath_not_durable = self.fleeting.as_ref().and_then(|fleeting| {
            let matters = fleeting.kinds.iter().any(|kind| is_there(&report.kinds, kind));
            matters.then(|| fleeting.why.clone())
        });
        (self.complete)(report);
        report.next_try_ms = self.next_try_ms(walk.needs_look, walk.turns_in);
        report.pass = PassReport {
            number: self.report.pass.number.saturating_add(1),
            reason: walk.reason,
            ended_unix_ms: clock::unix_ms(),
            applied: walk.applied,
            not_applied: walk.not_applied,
            rounds: walk.rounds,
            took: walk.took,
        };
        report.last_change = match walk.rounds {
            0 => self.report.last_change,
            _ => Some(report.pass),
        };
        if report.word != self.report.word || walk.rounds > 0 {
            tracing::info!(
                status = report.word.word(),
                reason = walk.reason.word(),
                applied = walk.applied,
                not_applied = walk.not_applied,
                took_us = walk.took.total_us,
                "pass"
            );
        }
        self.report = report.clone();
    }

    /// When the first resource is tried again, or everything looked at.
    fn next_try_ms(&mut self, needs_look: bool, turns_in: Option<Duration>) -> Option<u64> {
        let look = match needs_look {
            true => Some(self.backoff.next(self.turns.seed.rotate_left(self.backoff.attempts()))),
            false => {
                self.backoff.reset();
                None
            }
        };
        let next = [look, self.turns.next((self.clock)()), turns_in].into_iter().flatten().min()?;
        // A millisecond too early would be for nothing.
        u64::try_from(next.as_micros().div_ceil(1000)).ok()
    }

    fn config_report(&self, verdict: &Verdict, is_held_back: bool) -> ConfigReport {
        let (state, message, diagnostics) = match &verdict.said {
            Ok(document) if is_held_back && !self.is_in_force(document.sha256) => {
                (FileState::HeldBack, "its plan has to be allowed first".to_owned(), document.doubts.clone())
            }
            Ok(document) if self.is_in_force(document.sha256) => {
                (FileState::Accepted, String::new(), document.doubts.clone())
            }
            Ok(document) => (FileState::Acceptable, String::new(), document.doubts.clone()),
            Err(Refusal { state, message, diagnostics }) => (*state, message.clone(), diagnostics.clone()),
        };
        let in_force = self
            .in_force
            .as_ref()
            .map(|now| InForceReport { sha256: now.document.sha256.to_string(), number: now.number });
        ConfigReport {
            path: self.setup.config.clone(),
            state,
            message,
            diagnostics,
            warnings: verdict.warnings.iter().cloned().chain(self.last_good_warning()).collect(),
            sha256: verdict.sha256.clone(),
            in_force,
        }
    }

    /// What is to be said about the file in force, or about a last good one that is not.
    fn last_good_warning(&self) -> Option<String> {
        match &self.in_force {
            Some(now) => now.document.outdated.as_ref().map(|why| {
                format!(
                    "number {} of the history stays in force, as another version accepted it; this one would refuse it: {why}",
                    now.number
                )
            }),
            None => self.unusable.clone(),
        }
    }

    fn is_in_force(&self, sha256: netd_state::Digest) -> bool {
        self.in_force.as_ref().is_some_and(|now| now.document.sha256 == sha256)
    }

    fn held_back(&self, braked: &Braked) -> HeldBack {
        let instance = match self.setup.instance.as_str() {
            crate::instance::DEFAULT_NAME => String::new(),
            name => format!(" --instance {name}"),
        };
        HeldBack {
            plan: braked.plan.to_string(),
            brakes: braked.brakes.iter().map(ToString::to_string).collect(),
            command: format!("netd apply{instance} --allow {}", braked.plan),
        }
    }
}

/// Whether there are resources of the kind, or may be.
fn is_there(kinds: &BTreeMap<String, KindReport>, kind: &str) -> bool {
    kinds.get(kind).is_some_and(|report| report.desired > 0 || report.unread.is_some())
}

/// The whole in one word. A node that never had a file in force is not ok, whatever its resources are.
fn overall(config: &ConfigReport, is_held_back: bool, resources: Word, has_file: bool) -> Word {
    match config.state {
        FileState::Missing => Word::ConfigMissing,
        FileState::Invalid | FileState::Refused | FileState::Unreadable => Word::ConfigInvalid,
        FileState::Unseen | FileState::Acceptable | FileState::Accepted | FileState::HeldBack => {
            match resources {
                _ if is_held_back => Word::HeldBack,
                Word::Ok if config.state == FileState::Acceptable => Word::Pending,
                Word::Ok if !has_file => Word::Starting,
                resources => resources,
            }
        }
    }
}

/// The file in force as the state remembers it; an `Err` says why a last good file means nothing to this version. Then
/// everything stays as it is until a file is accepted.
pub(super) fn recall(documents: &mut Documents, ledger: &Ledger) -> Result<Option<InForce>, String> {
    let Some(last_good) = ledger.last_good() else { return Ok(None) };
    let LastGood { number, is_unjudged, addresses, .. } = last_good;
    match documents.recall(last_good) {
        Ok(document) => {
            if let Some(why) = &document.outdated {
                tracing::warn!(number, why, "the file in force would be refused by this version");
            }
            // What this version makes of a file that an earlier one accepted may be less than that one did.
            let is_unjudged = *is_unjudged || document.outdated.is_some();
            Ok(Some(InForce::new(document, *number, is_unjudged, addresses.clone())))
        }
        Err(refusal) => {
            tracing::error!(
                number,
                why = refusal.message,
                "the last good file means nothing to this version"
            );
            Err(format!(
                "the last good file, number {number} of the history, means nothing to this version: {}; what is there \
                 stays as it is until a file is accepted",
                refusal.message
            ))
        }
    }
}

/// Logs why the file is not in force, once for each reason: `before` is what was reported last.
pub fn log_refusal(before: &Report, now: &Report) {
    if !is_refusal_news(before, now) {
        return;
    }
    let ConfigReport { path, state, message, .. } = &now.config;
    match &now.held_back {
        Some(HeldBack { plan, brakes, command }) => {
            tracing::warn!(path, plan, brakes = brakes.join("; "), allow = command, "a plan is held back");
        }
        None => tracing::warn!(path, state = state.words(), why = message, "the file is not in force"),
    }
}

fn is_refusal_news(before: &Report, now: &Report) -> bool {
    let plan = |report: &Report| report.held_back.as_ref().map(|held| held.plan.clone());
    let is_the_same =
        (before.config.state, &before.config.message) == (now.config.state, &now.config.message);
    let is_refused = match now.config.state {
        FileState::HeldBack
        | FileState::Invalid
        | FileState::Missing
        | FileState::Refused
        | FileState::Unreadable => true,
        FileState::Unseen | FileState::Acceptable | FileState::Accepted => now.held_back.is_some(),
    };
    is_refused && !(is_the_same && plan(before) == plan(now))
}

/// Logs what came of the steps.
pub(super) fn log_outcomes(outcomes: &Outcomes) {
    for (id, outcome) in outcomes.iter().take(LOGGED_MAX) {
        match outcome {
            Outcome::Applied => tracing::info!(%id, "applied"),
            Outcome::Failed(why) => tracing::warn!(%id, why, "failed"),
            Outcome::Skipped(why) => tracing::info!(%id, why, "skipped"),
            Outcome::Conflict(holder) => tracing::warn!(%id, holder, "conflict"),
        }
    }
    if outcomes.len() > LOGGED_MAX {
        tracing::info!(more = outcomes.len() - LOGGED_MAX, "further changes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_the_file_is_not_in_force_is_said_once_for_each_reason() {
        let report = |state, message: &str| {
            let config = ConfigReport { state, message: message.into(), ..ConfigReport::default() };
            Report { config, ..Report::default() }
        };
        let held = |plan: &str| Report {
            held_back: Some(HeldBack { plan: plan.into(), ..HeldBack::default() }),
            ..report(FileState::HeldBack, "its plan has to be allowed first")
        };
        let good = report(FileState::Accepted, "");
        let bad = report(FileState::Invalid, "line 1, column 2: no");
        assert!(is_refusal_news(&good, &bad));
        assert!(!is_refusal_news(&bad, &bad));
        assert!(is_refusal_news(&bad, &report(FileState::Invalid, "line 3, column 2: no")));
        assert!(!is_refusal_news(&bad, &good));
        assert!(is_refusal_news(&good, &held("a1")) && is_refusal_news(&held("a1"), &held("b2")));
        assert!(!is_refusal_news(&held("a1"), &held("a1")));
    }
}
