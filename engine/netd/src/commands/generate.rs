//! What is printed from the program itself: the schema, explanations, completions, manual pages.

use crate::cli::{self, Cli, CompletionsArgs, ExplainArgs, ManArgs, say};
use anyhow::{Context as _, anyhow};
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use std::path::Path;
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

/// The section of the manual for what an administrator runs.
const MANUAL_SECTION: &str = "8";

/// `netd man`.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    // A page is the long help: what the short one leaves out is in it.
    let mut command = cli::command().disable_help_subcommand(true).mut_args(|option| {
        match option.is_hide_short_help_set() && !option.is_hide_set() {
            true => option.hide_short_help(false),
            false => option,
        }
    });
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
            command.build();
            write_pages(&command, dir).with_context(|| format!("write into {}", dir.display()))?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(command).section(MANUAL_SECTION).render(&mut page).context("write the page")?;
            say(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A page for a command and for each below it: `netd-history-show.8`.
fn write_pages(command: &Command, dir: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below, dir)?;
    }
    Man::new(command.clone()).section(MANUAL_SECTION).generate_to(dir).map(drop)
}
