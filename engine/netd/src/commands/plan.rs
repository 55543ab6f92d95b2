//! `netd plan`: what would change.

use super::{CHANGES, agree, node, validate};
use crate::api::Client;
use crate::cli::{Global, PlanArgs, say};
use crate::commands::instance_of;
use crate::reconcile::Preview;
use crate::report::FormatVersion;
use crate::source;
use anyhow::{Context as _, anyhow, bail};
use netd_core::render::{self, Colour, Limits};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let agreed = match &args.file {
        // The daemon plans towards its own file only: it must not read what its client may not.
        Some(_) => global.clone(),
        None => agree::with_daemon(global).await?,
    };
    let file = args.file.as_ref().unwrap_or(&agreed.config);
    let answer = match answer(&agreed, args).await {
        Err(_)
            if args.json
                && let Some(mistakes) = mistakes(file) =>
        {
            say(&format!("{mistakes:#}\n"))?;
            return Ok(ExitCode::FAILURE);
        }
        answer => answer?,
    };
    if args.json {
        say(&format!("{:#}\n", answer.json))?;
    } else {
        say(&answer.warnings)?;
        say(&answer.text)?;
        if let Some(plan) = answer.held_back.filter(|_| args.file.is_none()) {
            say(&format!("If it is meant: netd apply{} --allow {plan}\n", global.as_given()))?;
        }
    }
    if !answer.unread.is_empty() {
        bail!("the plan is not whole: {}", answer.unread.join("; "));
    }
    Ok(if answer.is_empty { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

async fn answer(global: &Global, args: &PlanArgs) -> anyhow::Result<Answer> {
    if let Some(file) = &args.file {
        return Answer::own(global, file).await;
    }
    match Answer::of_daemon(global, args.json).await? {
        Some(answer) => Ok(answer),
        None => Answer::own(global, &global.config).await,
    }
}

/// The mistakes of the file as `validate --json` says them; `None` when it was something else that went wrong.
fn mistakes(file: &Path) -> Option<Value> {
    let verdict = validate::check(file, false);
    let mut json = verdict.json;
    json.as_object_mut()?.insert("version".into(), json!(FormatVersion::default()));
    (!verdict.is_good).then_some(json)
}

struct Answer {
    json: Value,
    text: String,
    warnings: String,
    is_empty: bool,
    /// What could not be read, so that nothing is planned for it: a clause each.
    unread: Vec<String>,
    /// The identifier of the plan, when it is held back.
    held_back: Option<String>,
}

impl Answer {
    async fn of_daemon(global: &Global, is_json: bool) -> anyhow::Result<Option<Self>> {
        let path = match (is_json, global.color.is_on()) {
            (true, _) => "/v1/plan",
            (false, false) => "/v1/plan?text=plain",
            (false, true) => "/v1/plan?text=colour",
        };
        let Some(bytes) = Client::new(&instance_of(global).socket()).get(path).await? else {
            return Ok(None);
        };
        let json: Value = serde_json::from_slice(&bytes).context("the daemon's answer is not JSON")?;
        let text_of = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let steps = json.pointer("/plan/steps").and_then(Value::as_array).map(Vec::is_empty);
        let is_empty = steps.or(json.get("is_empty").and_then(Value::as_bool)).unwrap_or(false);
        let is_held_back = json.get("is_held_back").and_then(Value::as_bool).unwrap_or(false);
        let unread = json.pointer("/plan/unread").or(json.get("unread")).and_then(Value::as_array);
        Ok(Some(Self {
            text: text_of("text"),
            warnings: text_of("warnings"),
            is_empty,
            unread: unread.into_iter().flatten().map(unread_clause).collect(),
            held_back: is_held_back.then(|| text_of("id")),
            json,
        }))
    }

    async fn own(global: &Global, file: &Path) -> anyhow::Result<Self> {
        let mut reconciler = node::for_reading(global)?;
        let preview = reconciler.preview(&source::read(file)).await.map_err(|why| anyhow!(why))?;
        let Preview { plan, brakes, sha256, doubts } = preview;
        let colour = if global.color.is_on() { Colour::Always } else { Colour::Never };
        Ok(Self {
            json: json!({
                "version": FormatVersion::default(),
                "config_sha256": sha256,
                "warnings": doubts,
                "plan": render::json(&plan, &brakes),
            }),
            text: render::text(&plan, &brakes, colour, Limits::SCREEN),
            warnings: doubts,
            is_empty: plan.is_empty(),
            unread: plan.unread.iter().map(|unread| clause(unread.kind, &unread.reason)).collect(),
            held_back: (!brakes.is_empty()).then(|| plan.id().to_string()),
        })
    }
}

fn unread_clause(unread: &Value) -> String {
    let text = |name: &str| unread.get(name).and_then(Value::as_str).unwrap_or("?");
    clause(text("kind"), text("reason"))
}

fn clause(kind: &str, reason: &str) -> String {
    format!("{kind} could not be read: {}", render::escape(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_named_whoever_planned() {
        let unread = netd_core::Unread { kind: "route", reason: "no\u{7}answer".into() };
        let told = serde_json::to_value(&unread).unwrap_or_default();
        assert_eq!(unread_clause(&told), "route could not be read: no\\u{7}answer");
    }
}
