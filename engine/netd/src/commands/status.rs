//! `netd status`: how the node stands against its file.

use super::{agree, apply, duration, node, success_if, table};
use crate::api::Client;
use crate::cli::{Global, StatusArgs, say};
use crate::clock;
use crate::commands::instance_of;
use crate::report::{
    BgpReport, ConfigReport, FileState, GatewayReport, GatewaysReport, PassReport, Report, ResourceReport,
    Stages, Word,
};
use crate::source::{self, Reading};
use anyhow::Context as _;
use netd_core::render::escape;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two looks of `--wait`.
const WAIT_STEP: Duration = Duration::from_millis(200);

/// How a node stands that may have egress addresses.
const READY: &str = "ready";

/// A file system that hangs does not make `--wait` hang.
const READING_MAX: Duration = Duration::from_secs(3);

/// A report, with the long list where that was asked for.
#[derive(Serialize, Deserialize)]
struct Answer {
    #[serde(flatten)]
    report: Report,
    /// Whether this process has looked itself, because no daemon runs.
    #[serde(skip)]
    is_own_look: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<ResourceReport>>,
}

pub(super) async fn run(global: &Global, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let until = match &args.wait {
        Some(wait) => Some(deadline(wait)?),
        None => None,
    };
    let answer = loop {
        let answer = look(global, args.verbose).await?;
        if until.is_none_or(|until| clock::now() >= until) {
            break answer;
        }
        // Read after the report was: one that is about this content is not about an earlier one.
        let content = content_of(&answer.report.config.path).await;
        if has_settled(&answer.report, content.as_deref()) {
            break answer;
        }
        tokio::time::sleep(WAIT_STEP).await;
    };
    agree::warn_of_other(global, &answer.report.config.path)?;
    match args.json {
        true => say(&format!("{:#}\n", serde_json::to_value(&answer)?))?,
        false => {
            say(&text(&answer.report, answer.resources.as_deref(), global.color.is_on()))?;
            if answer.is_own_look {
                say(
                    "\nNo netd runs here: this is how a look at the node finds it, and nobody keeps it so.\n",
                )?;
            }
        }
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
    // It was a look, and no pass.
    report.pass = PassReport::default();
    Ok(Answer { report, is_own_look: true, resources: is_verbose.then(|| reconciler.resources()) })
}

/// Whether waiting ends: the report is about the file as it is, and the node is as it says, or nothing but another
/// file or an operator's word changes that it is not.
fn has_settled(report: &Report, content: Option<&str>) -> bool {
    let is_about_it = content.is_none_or(|content| report.config.sha256.as_deref() == Some(content));
    let is_refused = matches!(report.config.state, FileState::Invalid | FileState::HeldBack);
    is_about_it && (report.word == Word::Ok || (is_refused && content.is_some()))
}

/// The SHA-256 of the file that the report speaks of, if whoever asks may read it.
async fn content_of(path: &str) -> Option<String> {
    let path = PathBuf::from(path);
    let reading = tokio::task::spawn_blocking(move || source::read(&path));
    match tokio::time::timeout(READING_MAX, reading).await {
        Ok(Ok(Reading::Text(text))) => Some(text.sha256),
        _ => None,
    }
}

/// When a wait of this length is over.
pub(super) fn deadline(wait: &str) -> anyhow::Result<Instant> {
    let until = clock::now().checked_add(duration::read(wait)?);
    until.with_context(|| format!("`{wait}` is longer than the clock goes"))
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
    bgp(&mut out, report);
    gateways(&mut out, report);
    let listed = resources.unwrap_or(&report.not_ready);
    if !listed.is_empty() {
        let _ = write!(out, "\n{}", table::resources(listed));
    }
    if listed.is_empty() && !report.notes.is_empty() {
        out.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {} {}: {}", note.kind, escape(&note.key), escape(&note.note));
    }
    footer(&mut out, report, resources.is_some());
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
    if report.word == Word::TornDown {
        let _ = writeln!(out, "Everything was removed on request; `netd apply` puts it back");
    } else {
        let _ = writeln!(out, "File {}: {}{}", escape(&config.path), config.state.words(), because(config));
    }
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

/// How many of the sessions are up, and of the prefixes announced.
fn bgp(out: &mut String, report: &Report) {
    let Some(BgpReport { peers, established, announced, not_announced, sessions: _ }) = &report.bgp else {
        return;
    };
    let count = |family| announced.get(family).copied().unwrap_or_default();
    let _ = write!(out, "\nBGP: {established} of {peers} sessions established, ");
    let _ = write!(out, "{} IPv4 and {} IPv6 prefixes announced", count("ipv4"), count("ipv6"));
    match not_announced {
        0 => out.push('\n'),
        count => {
            let _ = writeln!(out, ", {count} not");
        }
    }
}

/// Which gateways of egress policies live.
fn gateways(out: &mut String, report: &Report) {
    let Some(GatewaysReport { standing, gateways, hindrance }) = &report.gateways else { return };
    let word = |(name, gateway): (&String, &GatewayReport)| {
        let word = match (gateway.up, gateway.answers) {
            (true, true) => "up",
            (true, false) => "up, as others hear it",
            (false, _) => "down",
        };
        format!("{} {word}", escape(name))
    };
    let all: Vec<String> = gateways.iter().map(word).collect();
    let _ = writeln!(out, "\nEgress gateways: {}", all.join("; "));
    if standing != READY {
        let _ = writeln!(out, "Egress addresses: {}", escape(standing));
    }
    if let Some(why) = hindrance {
        let _ = writeln!(out, "The egress gateways are not watched: {}", escape(why));
    }
}

/// Why the file is not in force, as the end of a line that names the file already.
fn because(config: &ConfigReport) -> String {
    let ConfigReport { path, message, diagnostics, .. } = config;
    if !diagnostics.is_empty() {
        // They follow, and say it with its place.
        return String::new();
    }
    let about_it = message.strip_prefix(path.as_str()).and_then(|rest| rest.strip_prefix(' '));
    let read = message.strip_prefix("read ").and_then(|rest| rest.strip_prefix(path.as_str()));
    match (about_it, read.and_then(|rest| rest.strip_prefix(": "))) {
        (Some("does not exist"), _) => String::new(),
        (Some(about_it), _) => format!(", it {}", escape(about_it)),
        (None, Some(why)) => format!(", {}", escape(why)),
        (None, None) if message.is_empty() => String::new(),
        (None, None) => format!(", {}", escape(message)),
    }
}

fn footer(out: &mut String, report: &Report, is_verbose: bool) {
    if report.pass.number > 0 {
        let _ = writeln!(out, "\nLast pass: {}", pass(&report.pass, is_verbose));
    }
    if let Some(changed) = report.last_change.filter(|changed| changed.number != report.pass.number) {
        let _ = writeln!(out, "Last change: {}", pass(&changed, is_verbose));
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
    if let Some(why) = &report.datapath_not_durable {
        let _ = writeln!(out, "The datapath is not durable: {}", escape(why));
    }
}

fn pass(pass: &PassReport, is_verbose: bool) -> String {
    let PassReport { number, reason, ended_unix_ms, applied, not_applied, rounds: _, took } = pass;
    let Stages { parse_us, facts_us, observe_us, plan_us, apply_us, verify_us, total_us } = *took;
    let changes = if *applied == 1 { "change" } else { "changes" };
    let brief = format!(
        "number {number}, {}, {}, {applied} {changes} made, {not_applied} not; {}",
        reason.word(),
        clock::shown(*ended_unix_ms),
        ms(total_us),
    );
    if !is_verbose {
        return brief;
    }
    format!(
        "{brief} (parse {}, facts {}, observe {}, plan {}, apply {}, verify {})",
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
    use crate::report::KindReport;

    #[test]
    fn a_wait_longer_than_the_clock_goes_is_refused() {
        assert!(deadline("18446744073709551615").is_err() && deadline("18446744073709551615h").is_err());
        assert!(deadline("5m").is_ok());
    }

    #[test]
    fn waiting_goes_on_until_the_report_is_about_the_file_as_it_is() {
        let mut report = Report { word: Word::Ok, ..Report::default() };
        report.config.sha256 = Some("old".into());
        assert!(has_settled(&report, Some("old")) && has_settled(&report, None));
        assert!(!has_settled(&report, Some("new")));
        (report.word, report.config.state) = (Word::ConfigInvalid, FileState::Invalid);
        assert!(!has_settled(&report, Some("new")));
        assert!(has_settled(&report, Some("old")));
        (report.word, report.config.state) = (Word::Pending, FileState::Accepted);
        assert!(!has_settled(&report, Some("old")));
    }

    #[test]
    fn the_path_of_the_file_is_said_once() {
        let mut report = Report { word: Word::ConfigMissing, ..Report::default() };
        for (state, message, line) in [
            (FileState::Missing, "/x does not exist", "File /x: missing\n"),
            (
                FileState::Missing,
                "/x is a symlink to y, which does not exist",
                "File /x: missing, it is a symlink to y, which does not exist\n",
            ),
            (FileState::Unreadable, "read /x: permission denied", "File /x: unreadable, permission denied\n"),
            (FileState::Invalid, "line 2: no", "File /x: invalid, line 2: no\n"),
        ] {
            (report.config.path, report.config.state, report.config.message) =
                ("/x".into(), state, message.into());
            let text = text(&report, None, false);
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn after_a_teardown_it_is_said_how_everything_comes_back() {
        let report = Report { word: Word::TornDown, ..Report::default() };
        let text = text(&report, None, false);
        assert!(text.contains("removed on request; `netd apply` puts it back"), "{text}");
    }

    #[test]
    fn kinds_of_which_there_is_nothing_are_not_listed() {
        let ready = KindReport { desired: 2, ready: 2, ..KindReport::default() };
        let unread = KindReport { unread: Some("no".into()), ..KindReport::default() };
        let kinds = [("service", ready), ("route", unread), ("vip", KindReport::default())];
        let mut report = Report { word: Word::Degraded, ..Report::default() };
        report.kinds = kinds.map(|(kind, counts)| (kind.to_owned(), counts)).into();
        let text = text(&report, None, false);
        assert!(text.contains("\nservice") && text.contains("\nroute") && !text.contains("\nvip"), "{text}");
    }

    #[test]
    fn the_stages_of_a_pass_are_for_the_long_form() {
        let mut report = Report::default();
        report.pass.number = 1;
        assert!(!text(&report, None, false).contains("observe"));
        assert!(text(&report, Some(&[]), false).contains("observe"));
    }

    #[test]
    fn a_report_survives_the_way_through_json() {
        let report = Report { word: Word::HeldBack, next_try_ms: Some(3), ..Report::default() };
        let answer = Answer { report, is_own_look: false, resources: None };
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&json).unwrap().report, answer.report);
    }
}
