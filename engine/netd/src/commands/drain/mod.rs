//! `netd drain`: takes a backend out of service gently, by an edit of the desired file.

mod edit;
mod place;
mod remain;

use super::replace::{Beside, refuse_link};
use super::status::deadline;
use super::{agree, duration, success_if};
use crate::api::Client;
use crate::cli::{DrainArgs, Global, confirm, say};
use crate::clock;
use crate::commands::instance_of;
use crate::report::{FileState, Report};
use crate::source::{self, Reading, SourceText};
use anyhow::{Context as _, anyhow, bail};
use edit::Edited;
use netd_schema::Config;
use place::{Entry, Place, Wish};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a change of the file may take to be in force, where nobody said how long to wait: the daemon sees it within a
/// second, and the largest bring-up takes tens of seconds.
const IN_FORCE_MAX: Duration = Duration::from_secs(60);

/// Between two looks at the status.
const IN_FORCE_STEP: Duration = Duration::from_millis(100);

pub(super) async fn run(global: &Global, args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let given = global;
    let global = &agree::with_daemon(given).await?;
    let waiting = Waiting::from(args)?;
    let wish = if args.undo { Wish::Undo } else { Wish::Drain };
    let client = Client::new(&instance_of(global).socket());
    let has_daemon = client.get("/v1/status").await?.is_some();
    if !has_daemon && waiting.until.is_some() {
        bail!("no netd is running here, so there is nothing to wait for: leave --wait out");
    }
    let (now, config) = read(global)?;
    let service = place::service(&config, &args.service)?;
    let place: Place = args.backend.parse()?;
    let entries = place::entries(service, place, wish)?;
    let sha256 = match entries.is_empty() {
        true => {
            let word = if args.undo { "gets new flows" } else { "drains" };
            say(&format!("{place} of {} {word} already; the file stays as it is.\n", args.service))?;
            now.sha256
        }
        false => {
            let file = global.config.display().to_string();
            let text = std::str::from_utf8(&now.bytes).context("read the file")?;
            let edited = edit::edit(&file, text, &args.service, &entries, wish)?;
            say(&diff(&file, text, &edited.text))?;
            if args.dry_run {
                return Ok(ExitCode::SUCCESS);
            }
            refuse_link(&global.config, if args.undo { "undo it" } else { "drain it" })?;
            if !is_meant(args, place, &questions(&config, args, &entries, &edited, wish))? {
                say("Nothing was changed.\n")?;
                return Ok(ExitCode::FAILURE);
            }
            put_in_place(global, &now, &edited)?
        }
    };
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !has_daemon {
        say(&format!("No netd is running: `netd apply{}` puts it in force.\n", given.as_given()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let in_force = in_force(&client, &sha256, waiting.until).await?;
    match wish {
        Wish::Undo => {
            say(&format!("In force: {place} gets new flows of {} again.\n", args.service))?;
            Ok(ExitCode::SUCCESS)
        }
        Wish::Drain => {
            say(&format!("In force: {place} gets no new flows of {}.\n", args.service))?;
            let remain = remain::Remain { client: &client, service, place, idle: waiting.idle };
            Ok(success_if(remain.follow(in_force, waiting.until).await?))
        }
    }
}

/// How long to wait for what.
struct Waiting {
    until: Option<Instant>,
    idle: Duration,
}

impl Waiting {
    fn from(args: &DrainArgs) -> anyhow::Result<Self> {
        let until = args.wait.as_deref().map(deadline).transpose()?;
        Ok(Self { until, idle: duration::read(&args.idle)? })
    }
}

/// The file as it is. One with mistakes is not edited: what it means is not known.
fn read(global: &Global) -> anyhow::Result<(SourceText, Config)> {
    let text = match source::read(&global.config) {
        Reading::Text(text) => text,
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            bail!("{why}")
        }
    };
    let parsed =
        netd_schema::parse(&global.config.display().to_string(), &text.bytes).map_err(|mistakes| {
            anyhow!("the file has mistakes: correct them first\n{}", mistakes.render(false))
        })?;
    Ok((text, parsed.config))
}

fn diff(file: &str, before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().header(file, file).to_string()
}

/// What has to be said yes to, each a sentence.
fn questions(
    config: &Config,
    args: &DrainArgs,
    entries: &BTreeSet<Entry>,
    edited: &Edited,
    wish: Wish,
) -> Vec<String> {
    let mut questions = Vec::new();
    if !edited.shared_with.is_empty() {
        questions.push(format!("It is in a set that {} has too.", edited.shared_with.join(", ")));
    }
    let is_touched =
        |name: &String| *name == args.service || edited.shared_with.iter().any(|shared| shared == name);
    let left_alone = config
        .services
        .iter()
        .filter(|service| is_touched(&service.name) && place::is_last(service, entries))
        .map(|service| service.name.as_str())
        .collect::<Vec<_>>();
    if wish == Wish::Drain && !left_alone.is_empty() {
        questions.push(format!(
            "It is the last that takes new flows of its family for {}: they will find no backend.",
            left_alone.join(", ")
        ));
    }
    questions
}

fn is_meant(args: &DrainArgs, place: Place, questions: &[String]) -> anyhow::Result<bool> {
    if questions.is_empty() || args.yes {
        return Ok(true);
    }
    let said = questions.join(" ");
    let verb = if args.undo { "Give new flows to" } else { "Drain" };
    confirm(&format!("{said} {verb} {place}?")).map_err(|why| anyhow!("{said} Nothing was changed: {why}"))
}

/// Writes the file; the digest of its new content.
fn put_in_place(global: &Global, now: &SourceText, edited: &Edited) -> anyhow::Result<String> {
    Beside::write(&global.config, &edited.text, "drain")?.put_in_place_of(&global.config, &now.sha256)?;
    Ok(netd_state::Digest::of(&edited.text).to_string())
}

/// Waits until a daemon has this content in force; says since when.
async fn in_force(client: &Client, sha256: &str, until: Option<Instant>) -> anyhow::Result<Instant> {
    let until = until.unwrap_or_else(|| clock::now() + IN_FORCE_MAX);
    loop {
        let bytes = client.get("/v1/status").await?.context("the daemon has just ended")?;
        let report: Report = serde_json::from_slice(&bytes).context("the daemon's answer is not a report")?;
        if report.config.in_force.as_ref().is_some_and(|now| now.sha256 == sha256) {
            return Ok(clock::now());
        }
        let is_about_it = report.config.sha256.as_deref() == Some(sha256);
        if is_about_it && matches!(report.config.state, FileState::Invalid | FileState::HeldBack) {
            let advice = report.held_back.map(|held| format!("; if it is meant: {}", held.command));
            bail!("the file is written and {}{}", report.config.state.words(), advice.unwrap_or_default());
        }
        if clock::now() >= until {
            bail!("the file is written and not in force yet; `netd status` says why");
        }
        tokio::time::sleep(IN_FORCE_STEP).await;
    }
}
