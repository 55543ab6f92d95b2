//! What is printed from the program itself: the schema, explanations, completions, manual pages.

use crate::cli::{Cli, CompletionsArgs, ExplainArgs, ManArgs, say};
use anyhow::{Context as _, anyhow};
use clap::CommandFactory as _;
use std::process::ExitCode;

/// `netd schema`.
pub(super) fn schema() -> anyhow::Result<ExitCode> {
    let schema = netd_schema::json_schema();
    say(schema.trim_end())?;
    say("\n")?;
    Ok(ExitCode::SUCCESS)
}

/// `netd explain-config`: a key, or the whole reference.
pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let text = match &args.key {
        Some(key) => netd_schema::explain(key).map_err(|why| anyhow!(why))?,
        None => netd_schema::reference_markdown(),
    };
    say(text.trim_end())?;
    say("\n")?;
    Ok(ExitCode::SUCCESS)
}

/// `netd completions`.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "netd", &mut text);
    say(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// `netd man`.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
            let command = Cli::command().disable_help_subcommand(true);
            clap_mangen::generate_to(command, dir)
                .with_context(|| format!("write into {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).context("write the page")?;
            say(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
