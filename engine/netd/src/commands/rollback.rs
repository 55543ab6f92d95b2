//! `netd rollback`: puts an earlier text in place of the desired file.

use super::replace::{Beside, refuse_link};
use super::{agree, apply, history, node, status, success_if};
use crate::api::Client;
use crate::cli::{Global, RollbackArgs, confirm, say};
use crate::commands::instance_of;
use crate::reconcile::Preview;
use crate::report::Word;
use crate::source::{Reading, SourceText, Stamp};
use anyhow::{anyhow, bail};
use netd_core::render::{self, Colour, Limits};
use netd_state::Digest;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    let given = global;
    let global = &agree::with_daemon(given).await?;
    let text = history::text_of(global, args.number).await?;
    refuse_link(&global.config, "roll back")?;
    netd_schema::parse(&format!("number {}", args.number), text.as_bytes()).map_err(|diagnostics| {
        anyhow!("this version does not accept that file any more\n{}", diagnostics.render(false))
    })?;
    let preview = plan(global, &text).await?;
    let colour = if global.color.is_on() { Colour::Always } else { Colour::Never };
    say(&render::text(&preview.plan, &preview.brakes, colour, Limits::SCREEN))?;
    let id = preview.plan.id();
    let is_held_back = !preview.brakes.is_empty();
    if is_held_back && let Some(why) = forbids(args, id.as_str(), &given.as_given()) {
        bail!(why);
    }
    if !args.yes && !confirm(&format!("Put number {} in place of {}?", args.number, global.config.display()))?
    {
        say("Nothing was changed.\n")?;
        return Ok(ExitCode::FAILURE);
    }
    // Written only now: whoever leaves at the question leaves nothing behind.
    Beside::write(&global.config, &text, "rollback")?.put_in_place(&global.config)?;
    say(&format!("{} is number {} again.\n", global.config.display(), args.number))?;
    if Client::new(&instance_of(global).socket()).get("/v1/status").await?.is_none() {
        let allow = if is_held_back { format!(" --allow {id}") } else { String::new() };
        say(&format!("No netd is running: `netd apply{}{allow}` puts it in force.\n", given.as_given()))?;
        return Ok(ExitCode::SUCCESS);
    }
    // The brakes were shown with the plan, and the answer was yes.
    let allowed = is_held_back.then_some(id.as_str());
    let report = apply::apply(global, allowed).await?;
    say(&status::text(&report, None, global.color.is_on()))?;
    Ok(success_if(report.word == Word::Ok))
}

/// Why a plan that is held back is not made: yes, said before the plan was seen, is no word on it.
fn forbids(args: &RollbackArgs, plan: &str, options: &str) -> Option<String> {
    let again = format!("netd rollback{options} {} --yes --allow {plan}", args.number);
    match &args.allow {
        None if !args.yes => None,
        None => Some(format!("nothing was changed: this plan is held back; if it is meant: {again}")),
        Some(asked) if asked == plan => None,
        Some(asked) => {
            Some(format!("nothing was changed: the plan is not {asked}; if this one is meant: {again}"))
        }
    }
}

/// What the text would change here. It is in no file yet.
async fn plan(global: &Global, text: &str) -> anyhow::Result<Preview> {
    let nowhere = Stamp { device: 0, inode: 0, size: text.len() as u64, modified: (0, 0), changed: (0, 0) };
    let reading = Reading::Text(SourceText {
        bytes: text.into(),
        sha256: Digest::of(text).to_string(),
        path: global.config.clone(),
        real_path: global.config.clone(),
        stamp: nowhere,
        warnings: Vec::new(),
    });
    node::for_reading(global)?.preview(&reading).await.map_err(|why| anyhow!(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(yes: bool, allow: Option<&str>) -> RollbackArgs {
        RollbackArgs { number: 7, yes, allow: allow.map(str::to_owned) }
    }

    #[test]
    fn yes_alone_does_not_pass_the_brakes() {
        let why = forbids(&args(true, None), "4f1d", " --instance lab").unwrap_or_default();
        assert!(why.ends_with("netd rollback --instance lab 7 --yes --allow 4f1d"), "{why}");
        assert!(forbids(&args(true, Some("0000")), "4f1d", "").is_some(), "another plan");
        assert!(forbids(&args(false, Some("0000")), "4f1d", "").is_some(), "another plan, asked");
        assert_eq!(forbids(&args(true, Some("4f1d")), "4f1d", ""), None);
        assert_eq!(forbids(&args(false, None), "4f1d", ""), None, "the question is asked");
    }
}
