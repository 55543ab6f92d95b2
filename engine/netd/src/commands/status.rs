//! `netd status`: how the node stands against its file.

use super::{apply, node, success_if, table};
use crate::api::Client;
use crate::cli::{Global, StatusArgs, say};
use crate::clock;
use crate::commands::instance_of;
use crate::report::{PassReport, Report, ResourceReport, Stages, Word};
use crate::source;
use anyhow::{Context as _, bail};
use netd_core::render::escape;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Between two looks of `--wait`.
const WAIT_STEP: Duration = Duration::from_millis(200);

/// A report, with the long list where that was asked for.
#[derive(Serialize, Deserialize)]
struct Answer {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<ResourceReport>>,
}

pub(super) async fn run(global: &Global, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let until = match &args.wait {
        Some(wait) => Some(clock::now() + duration(wait)?),
        None => None,
    };
    let answer = loop {
        let answer = look(global, args.verbose).await?;
        if answer.report.word == Word::Ok || until.is_none_or(|until| clock::now() >= until) {
            break answer;
        }
        tokio::time::sleep(WAIT_STEP).await;
    };
    match args.json {
        true => say(&format!("{:#}\n", serde_json::to_value(&answer)?))?,
        false => say(&text(&answer.report, answer.resources.as_deref(), global.color.is_on()))?,
    }
    Ok(success_if(answer.report.word == Word::Ok))
}

async fn look(global: &Global, is_verbose: bool) -> anyhow::Result<Answer> {
    let path = if is_verbose { "/v1/status?verbose=true" } else { "/v1/status" };
    if let Some(bytes) = Client::new(&instance_of(global).socket()).get(path).await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer is not a report");
    }
    let mut reconciler = node::for_reading(global)?;
    let mut report = reconciler.survey(&source::read(&global.config)).await;
    apply::allow_command(&mut report, global);
    Ok(Answer { report, resources: is_verbose.then(|| reconciler.resources()) })
}

/// `90s`, `5m`, `1h`, or seconds.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!("`{text}` is not a duration; write it like 90s or 5m"),
    };
    let count: u64 =
        digits.parse().with_context(|| format!("`{text}` is not a duration; write it like 90s or 5m"))?;
    Ok(Duration::from_secs(count.saturating_mul(seconds)))
}

/// The report as a person reads it.
pub(super) fn text(report: &Report, resources: Option<&[ResourceReport]>, has_colour: bool) -> String {
    let mut out = format!("{}\n", headline(report, has_colour));
    file(&mut out, report);
    if let Some(held) = &report.held_back {
        let _ = writeln!(out, "\nHeld back, because");
        for brake in &held.brakes {
            let _ = writeln!(out, "  {}", escape(brake));
        }
        let _ = writeln!(out, "Look at it with `netd plan`; if it is meant: {}", held.command);
    }
    if !report.kinds.is_empty() {
        let _ = write!(out, "\n{}", table::kinds(report));
    }
    for (kind, counts) in &report.kinds {
        if let Some(why) = &counts.unread {
            let _ = writeln!(out, "{kind} could not be read: {}", escape(why));
        }
    }
    let listed = resources.unwrap_or(&report.not_ready);
    if !listed.is_empty() {
        let _ = write!(out, "\n{}", table::resources(listed));
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {} {}: {}", note.kind, escape(&note.key), escape(&note.note));
    }
    footer(&mut out, report);
    out
}

fn headline(report: &Report, has_colour: bool) -> String {
    let word = report.word.word();
    let code = match report.word {
        Word::Ok => "32",
        Word::Pending | Word::Starting | Word::TornDown => "33",
        Word::Degraded | Word::HeldBack | Word::ConfigInvalid | Word::ConfigMissing => "31",
    };
    let word = if has_colour { format!("\u{1b}[1;{code}m{word}\u{1b}[0m") } else { word.to_owned() };
    format!("{word}  node {}, instance {}", escape(&report.node), report.instance)
}

fn file(out: &mut String, report: &Report) {
    let config = &report.config;
    let _ = write!(out, "File {}: {}", escape(&config.path), config.state.words());
    let _ = match config.message.is_empty() {
        true => writeln!(out),
        false => writeln!(out, ", {}", escape(&config.message)),
    };
    for warning in &config.warnings {
        let _ = writeln!(out, "Warning: {}", escape(warning));
    }
    if !config.diagnostics.is_empty() {
        let _ = writeln!(out, "{}", config.diagnostics.trim_end());
    }
    let _ = match &config.in_force {
        Some(now) => {
            let short = now.sha256.get(..12).unwrap_or(&now.sha256);
            writeln!(out, "In force: number {} of the history, sha256 {short}…", now.number)
        }
        None => writeln!(out, "In force: nothing; no file was accepted yet"),
    };
}

fn footer(out: &mut String, report: &Report) {
    if report.pass.number > 0 {
        let _ = writeln!(out, "\nLast pass: {}", pass(&report.pass));
    }
    if let Some(changed) = report.last_change.filter(|changed| changed.number != report.pass.number) {
        let _ = writeln!(out, "Last change: {}", pass(&changed));
    }
    if let Some(at) = report.drift.last_unix_ms {
        let first = report.drift.last.join(", ");
        let count = report.drift.resources;
        let _ = writeln!(out, "Drift: {count} repaired, last {}: {}", clock::shown(at), escape(&first));
    }
    if let Some(wait) = report.next_try_ms {
        let _ = writeln!(out, "What failed is tried again after {wait} ms.");
    }
    if let Some(why) = &report.state_not_durable {
        let _ = writeln!(out, "The state is not durable: {}", escape(why));
    }
}

fn pass(pass: &PassReport) -> String {
    let PassReport { number, reason, ended_unix_ms, applied, not_applied, rounds: _, took } = pass;
    let Stages { parse_us, facts_us, observe_us, plan_us, apply_us, verify_us, total_us } = *took;
    format!(
        "number {number}, {}, {}, {applied} changes made, {not_applied} not; {} (parse {}, facts {}, observe {}, \
         plan {}, apply {}, verify {})",
        reason.word(),
        clock::shown(*ended_unix_ms),
        ms(total_us),
        ms(parse_us),
        ms(facts_us),
        ms(observe_us),
        ms(plan_us),
        ms(apply_us),
        ms(verify_us),
    )
}

/// Milliseconds with three digits of fraction.
fn ms(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(duration("7").unwrap(), Duration::from_secs(7));
        assert!(duration("").is_err() && duration("s").is_err() && duration("5d").is_err());
    }

    #[test]
    fn a_report_survives_the_way_through_json() {
        let report = Report { word: Word::HeldBack, next_try_ms: Some(3), ..Report::default() };
        let answer = Answer { report, resources: None };
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&json).unwrap().report, answer.report);
    }
}
