//! `netd apply`: one pass, by the daemon or by this process.

use super::{node, status, success_if};
use crate::api::Client;
use crate::cli::{ApplyArgs, Global, say};
use crate::clock;
use crate::commands::instance_of;
use crate::reconcile::{Progress, Reconciler};
use crate::report::{Reason, Report, Word};
use crate::source;
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(global: &Global, args: &ApplyArgs) -> anyhow::Result<ExitCode> {
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
    let node::Writing { mut reconciler, lock } = node::for_writing(global)?;
    show_progress(&mut reconciler);
    let report = settle(&mut reconciler, global, allow).await;
    end(reconciler);
    drop(lock);
    Ok(report)
}

/// How long something that is still missing after the first pass is waited for: neighbours answer within
/// milliseconds, IPv6 ones after the link's own address is known to be unique.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Between two looks at what is missing.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// Passes until nothing is missing: nobody will look again when this process has ended.
async fn settle(reconciler: &mut Reconciler, global: &Global, allow: Option<&str>) -> Report {
    let began = clock::now();
    let mut report = reconciler.pass(&source::read(&global.config), Reason::Asked, allow).await;
    let has_changed = report.pass.applied > 0;
    while has_changed && report.notes.iter().any(|note| note.incomplete) && began.elapsed() < SETTLE_MAX {
        tokio::time::sleep(SETTLE_EVERY).await;
        report = reconciler.pass(&source::read(&global.config), Reason::Asked, None).await;
    }
    report
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
