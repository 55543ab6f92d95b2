//! `netd history`: the files that were in force.

use super::{agree, table};
use crate::api::Client;
use crate::cli::{Global, HistoryArgs, HistoryCommand, say};
use crate::clock;
use crate::commands::instance_of;
use crate::report::HistoryEntry;
use crate::source::{self, Reading};
use anyhow::{Context as _, bail};
use netd_state::StateDir;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(global, args.json).await?,
        Some(HistoryCommand::Show { number }) => {
            let text = text_of(global, number).await?;
            match args.json {
                true => say(&format!("{:#}\n", json!({ "number": number, "text": text })))?,
                false => say(&text)?,
            }
        }
        Some(HistoryCommand::Diff { number }) => {
            let diff = diff(&agree::with_daemon(global).await?, number).await?;
            match args.json {
                true => say(&format!("{:#}\n", json!({ "number": number, "diff": diff })))?,
                false => say(&diff)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global, is_json: bool) -> anyhow::Result<()> {
    let history: Vec<HistoryEntry> =
        match Client::new(&instance_of(global).socket()).get("/v1/history").await? {
            Some(bytes) => decode(&bytes)?,
            None => with_store(global, |store, in_force| Ok(HistoryEntry::mark(store.history(), in_force)))?,
        };
    if is_json {
        say(&format!("{:#}\n", serde_json::to_value(&history)?))?;
        return Ok(());
    }
    if history.is_empty() {
        say("No file was accepted yet.\n")?;
        return Ok(());
    }
    let row = |HistoryEntry { accepted: entry, in_force }: &HistoryEntry| {
        let sha256 = entry.sha256.to_string();
        vec![
            entry.number.to_string(),
            clock::shown(entry.at_unix_ms),
            sha256.get(..12).unwrap_or(&sha256).to_owned(),
            if *in_force { "in force".to_owned() } else { String::new() },
            entry.summary.clone(),
        ]
    };
    say(&table::table(
        &["number", "accepted", "sha256", "", "changes"],
        [0],
        history.iter().map(row).collect(),
    ))?;
    Ok(())
}

/// The text that had this number.
pub(super) async fn text_of(global: &Global, number: u64) -> anyhow::Result<String> {
    let client = Client::new(&instance_of(global).socket());
    let text = match client.get(&format!("/v1/history/{number}")).await? {
        Some(bytes) => Some(String::from_utf8(bytes).context("the daemon's answer is not text")?),
        None => with_store(global, |store, _| Ok(store.accepted_text(number)?))?,
    };
    text.with_context(|| format!("the history has no number {number}"))
}

/// From the entry to the file.
async fn diff(global: &Global, number: u64) -> anyhow::Result<String> {
    let before = text_of(global, number).await?;
    let after = match source::read(&global.config) {
        Reading::Text(text) => String::from_utf8_lossy(&text.bytes).into_owned(),
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            bail!("{why}")
        }
    };
    let (name, file) = (format!("number {number}"), global.config.display().to_string());
    Ok(similar::TextDiff::from_lines(&before, &after).unified_diff().header(&name, &file).to_string())
}

/// Reads the store, and which number is in force. The store can be open in one process only: this one holds the lock meanwhile.
fn with_store<T>(
    global: &Global,
    read: impl FnOnce(&netd_state::Store, Option<u64>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let instance = instance_of(global);
    if !instance.state_dir.is_dir() {
        bail!("there is no state in {}", instance.state_dir.display());
    }
    let dir = StateDir::open(&instance.state_dir)?;
    let _lock = dir.lock()?;
    let in_force = dir.last_good()?.map(|last_good| last_good.number);
    read(&dir.store().store, in_force)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).context("the daemon's answer cannot be read")
}
