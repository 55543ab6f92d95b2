//! `netd history`: the files that were in force.

use super::table;
use crate::api::Client;
use crate::cli::{Global, HistoryArgs, HistoryCommand, say};
use crate::clock;
use crate::commands::instance_of;
use crate::source::{self, Reading};
use anyhow::{Context as _, bail};
use netd_state::{Accepted, StateDir};
use serde::de::DeserializeOwned;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list(global, args.json).await?,
        Some(HistoryCommand::Show { number }) => say(&text_of(global, number).await?)?,
        Some(HistoryCommand::Diff { number }) => diff(global, number).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(global: &Global, is_json: bool) -> anyhow::Result<()> {
    let history: Vec<Accepted> = match Client::new(&instance_of(global).socket()).get("/v1/history").await? {
        Some(bytes) => decode(&bytes)?,
        None => with_store(global, |store| Ok(store.history()))?,
    };
    if is_json {
        say(&format!("{:#}\n", serde_json::to_value(&history)?))?;
        return Ok(());
    }
    if history.is_empty() {
        say("No file was accepted yet.\n")?;
        return Ok(());
    }
    let row = |entry: &Accepted| {
        let sha256 = entry.sha256.to_string();
        vec![
            entry.number.to_string(),
            clock::shown(entry.at_unix_ms),
            sha256.get(..12).unwrap_or(&sha256).to_owned(),
            entry.summary.clone(),
        ]
    };
    say(&table::table(&["number", "accepted", "sha256", "changes"], [0], history.iter().map(row).collect()))?;
    Ok(())
}

/// The text that had this number.
pub(super) async fn text_of(global: &Global, number: u64) -> anyhow::Result<String> {
    let client = Client::new(&instance_of(global).socket());
    let text = match client.get(&format!("/v1/history/{number}")).await? {
        Some(bytes) => Some(String::from_utf8(bytes).context("the daemon's answer is not text")?),
        None => with_store(global, |store| Ok(store.accepted_text(number)?))?,
    };
    text.with_context(|| format!("the history has no number {number}"))
}

/// From the entry to the file.
async fn diff(global: &Global, number: u64) -> anyhow::Result<()> {
    let before = text_of(global, number).await?;
    let after = match source::read(&global.config) {
        Reading::Text(text) => String::from_utf8_lossy(&text.bytes).into_owned(),
        Reading::Missing(why) | Reading::Refused(why) | Reading::Unreadable(why) | Reading::Unstable(why) => {
            bail!("{why}")
        }
    };
    let (name, file) = (format!("number {number}"), global.config.display().to_string());
    say(&similar::TextDiff::from_lines(&before, &after).unified_diff().header(&name, &file).to_string())?;
    Ok(())
}

/// Reads the store, which only one process can have open: this one holds the lock meanwhile.
fn with_store<T>(
    global: &Global,
    read: impl FnOnce(&netd_state::Store) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let instance = instance_of(global);
    if !instance.state_dir.is_dir() {
        bail!("there is no state in {}", instance.state_dir.display());
    }
    let dir = StateDir::open(&instance.state_dir)?;
    let _lock = dir.lock()?;
    read(&dir.store().store)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(bytes).context("the daemon's answer cannot be read")
}
