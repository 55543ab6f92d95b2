//! `netd teardown`: everything that netd made goes.

use super::{agree, apply, node, status, success_if};
use crate::api::Client;
use crate::cli::{Global, TeardownArgs, confirm, say};
use crate::commands::instance_of;
use crate::report::{Report, Word};
use anyhow::{Context as _, anyhow, bail};
use netd_core::render::{self, Colour, Limits};
use netd_state::StateDir;
use serde_json::json;
use std::fs;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &TeardownArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&instance_of(global).socket());
    if let Some(bytes) = client.get("/v1/status").await? {
        let report: Report = serde_json::from_slice(&bytes).context("the daemon's answer is not a report")?;
        agree::warn_of_other(global, &report.config.path)?;
        if args.state {
            bail!("a netd is running on this instance: stop it before its state is removed");
        }
        ask(args, "The running netd removes everything it made here, and then rests. Go on?")?;
        let bytes = client.post("/v1/teardown", &json!({})).await?.context("the daemon has just ended")?;
        return finish(
            global,
            &serde_json::from_slice(&bytes).context("the daemon's answer is not a report")?,
        );
    }
    let instance = instance_of(global);
    // Looked at without the right to write, for which a folder would be made where there is none.
    let plan = node::for_reading(global)?.preview_teardown().await.map_err(|why| anyhow!(why))?;
    let colour = if global.color.is_on() { Colour::Always } else { Colour::Never };
    if plan.is_empty() && plan.unread.is_empty() {
        say("There is nothing of netd's on this node.\n")?;
        if !instance.state_dir.exists() && !instance.bpf_dir.exists() {
            return Ok(ExitCode::SUCCESS);
        }
    } else {
        say(&render::text(&plan, &[], colour, Limits::SCREEN))?;
        ask(args, "Remove all of this?")?;
    }
    if args.state && plan.is_empty() {
        ask(args, "Remove what netd remembers?")?;
    }
    let node::Writing { mut reconciler, locks, .. } = node::for_writing(global)?;
    apply::show_progress(&mut reconciler);
    let report = reconciler.tear_down().await;
    apply::end(reconciler);
    if args.state && report.word == Word::TornDown {
        if let Some(state) = StateDir::open_existing(&instance.state_dir)?
            && !state.remove()?
        {
            say(&format!("{} stays: not all in it is netd's.\n", state.path().display()))?;
        }
        // Pins are gone by now; a directory with something of somebody else's in it stays.
        for dir in [instance.bpf_dir.join("links"), instance.bpf_dir] {
            let _ = fs::remove_dir(dir);
        }
    }
    drop(locks);
    finish(global, &report)
}

fn ask(args: &TeardownArgs, question: &str) -> anyhow::Result<()> {
    if args.yes || confirm(question)? {
        return Ok(());
    }
    bail!("nothing was removed")
}

fn finish(global: &Global, report: &Report) -> anyhow::Result<ExitCode> {
    match report.word {
        Word::TornDown => say("Everything that netd made is gone.\n")?,
        _ => say(&status::text(report, None, global.color.is_on()))?,
    }
    Ok(success_if(report.word == Word::TornDown))
}
