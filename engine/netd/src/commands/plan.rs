//! `netd plan`: what would change.

use super::{CHANGES, node};
use crate::api::Client;
use crate::cli::{Global, PlanArgs, say};
use crate::commands::instance_of;
use crate::reconcile::Preview;
use crate::source;
use anyhow::{Context as _, anyhow};
use netd_core::render::{self, Colour, Limits};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let answer = match &args.file {
        // The daemon plans towards its own file only: it must not read what its client may not.
        Some(file) => Answer::own(global, file).await?,
        None => match Answer::of_daemon(global, args.json).await? {
            Some(answer) => answer,
            None => Answer::own(global, &global.config).await?,
        },
    };
    if args.json {
        say(&format!("{:#}\n", answer.json))?;
    } else {
        say(&answer.warnings)?;
        say(&answer.text)?;
    }
    Ok(if answer.is_empty { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

struct Answer {
    json: Value,
    text: String,
    warnings: String,
    is_empty: bool,
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
        Ok(Some(Self { text: text_of("text"), warnings: text_of("warnings"), is_empty, json }))
    }

    async fn own(global: &Global, file: &Path) -> anyhow::Result<Self> {
        let mut reconciler = node::for_reading(global)?;
        let preview = reconciler.preview(&source::read(file)).await.map_err(|why| anyhow!(why))?;
        let Preview { plan, brakes, sha256, doubts } = preview;
        let colour = if global.color.is_on() { Colour::Always } else { Colour::Never };
        Ok(Self {
            json: json!({ "config_sha256": sha256, "warnings": doubts, "plan": render::json(&plan, &brakes) }),
            text: render::text(&plan, &brakes, colour, Limits::SCREEN),
            warnings: doubts,
            is_empty: plan.is_empty(),
        })
    }
}
