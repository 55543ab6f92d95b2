//! `netd apply`: one pass, by the daemon or by this process.

use super::{agree, node, status, success_if};
use crate::api::Client;
use crate::cli::{ApplyArgs, Global, say};
use crate::clock;
use crate::commands::instance_of;
use crate::reconcile::{Progress, Reconciler};
use crate::report::{PassReport, Reason, Report, Stages, Word};
use crate::source::{self, Reading};
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(global: &Global, args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let global = &agree::with_daemon(global).await?;
    let report = apply(global, args.allow.as_deref()).await?;
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&report)?))?;
    } else {
        say(&status::text(&report, None, global.color.is_on()))?;
    }
    if let (Some(asked), Some(held)) = (&args.allow, &report.held_back)
        && *asked != held.plan
    {
        bail!(
            "the plan is not {asked} any more: look at `netd plan` again, and allow {} if it is meant",
            held.plan
        );
    }
    Ok(success_if(report.word == Word::Ok))
}

/// Asks the daemon for a pass, or makes one.
pub(super) async fn apply(global: &Global, allow: Option<&str>) -> anyhow::Result<Report> {
    let client = Client::new(&instance_of(global).socket());
    if let Some(bytes) = client.post("/v1/apply", &json!({ "allow": allow })).await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer is not a report");
    }
    let node::Writing { mut reconciler, locks, .. } = node::for_writing(global)?;
    show_progress(&mut reconciler);
    let mut report = settle(&mut reconciler, &source::read(&global.config), allow).await;
    end(reconciler);
    allow_command(&mut report, global);
    // Nobody tries again when this process has ended.
    report.next_try_ms = None;
    drop(locks);
    Ok(report)
}

/// How long something that is still missing after the first pass is waited for: neighbours answer within
/// milliseconds, IPv6 ones after the link's own address is known to be unique.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Between two looks at what is missing.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// Passes until nothing is missing: nobody will look again when this process has ended. All of them towards the same
/// reading: an edit meanwhile is another file, and was not asked for.
async fn settle(reconciler: &mut Reconciler, reading: &Reading, allow: Option<&str>) -> Report {
    let began = clock::now();
    let mut report = reconciler.pass(reading, Reason::Asked, allow).await;
    let has_changed = report.pass.applied > 0;
    while has_changed && report.notes.iter().any(|note| note.incomplete) && began.elapsed() < SETTLE_MAX {
        tokio::time::sleep(SETTLE_EVERY).await;
        let before = report.pass;
        report = reconciler.pass(reading, Reason::Asked, None).await;
        report.pass = together(before, report.pass);
    }
    if has_changed {
        report.last_change = Some(report.pass);
    }
    report
}

/// Two passes as one: who asked once is told once what was done.
fn together(first: PassReport, last: PassReport) -> PassReport {
    let PassReport { number: _, reason, ended_unix_ms: _, applied, not_applied: _, rounds, took } = first;
    PassReport {
        reason,
        applied: applied + last.applied,
        rounds: rounds + last.rounds,
        took: Stages {
            parse_us: took.parse_us + last.took.parse_us,
            facts_us: took.facts_us + last.took.facts_us,
            observe_us: took.observe_us + last.took.observe_us,
            plan_us: took.plan_us + last.took.plan_us,
            apply_us: took.apply_us + last.took.apply_us,
            verify_us: took.verify_us + last.took.verify_us,
            total_us: took.total_us + last.took.total_us,
        },
        ..last
    }
}

/// Without a daemon the command that allows a plan has to find the same file and places.
pub(super) fn allow_command(report: &mut Report, global: &Global) {
    if let Some(held) = &mut report.held_back {
        held.command = format!("netd apply{} --allow {}", global.as_given(), held.plan);
    }
}

/// What was remembered is on disk before the lock goes.
pub(super) fn end(reconciler: Reconciler) {
    if reconciler.ledger().not_durable().is_none()
        && let Err(error) = reconciler.ledger().store().flush()
    {
        tracing::warn!(%error, "what was done is not remembered");
    }
}

/// A bar on a terminal; nothing elsewhere.
pub(super) fn show_progress(reconciler: &mut Reconciler) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    reconciler.on_progress(move |Progress { kind, done, total }| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(kind);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changes_of_all_passes_are_told_together() {
        let took = Stages { apply_us: 5, total_us: 9, ..Stages::default() };
        let first =
            PassReport { number: 1, applied: 7, not_applied: 1, rounds: 1, took, ..PassReport::default() };
        let last =
            PassReport { number: 2, applied: 0, not_applied: 0, rounds: 0, took, ..PassReport::default() };
        let both = together(first, last);
        assert_eq!((both.number, both.applied, both.not_applied, both.rounds), (2, 7, 0, 1));
        assert_eq!((both.took.apply_us, both.took.total_us), (10, 18));
    }
}
