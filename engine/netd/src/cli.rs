//! What a person can type: the commands, their options, their help.

use crate::instance::InstanceName;
use crate::log::{Format, Level};
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

/// Puts one TOML file in force on this node: load-balanced services, routes and what they need.
///
/// `netd run` watches the file and keeps the node as it says. `netd plan` shows what would change and changes
/// nothing. With a daemon running the other commands ask it; without one they look for themselves.
#[derive(Debug, Parser)]
#[command(name = "netd", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command knows.
    #[command(flatten)]
    pub global: Global,
}

impl Cli {
    /// Reads the command line. Help, the version and complaints are printed here, and end the process.
    #[must_use]
    pub fn read() -> Self {
        let matches = command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        cli.global.is_config_given = matches.value_source("config") == Some(ValueSource::CommandLine);
        cli
    }
}

/// The options of every command that the help of each of them shows; the rest is in that of `netd`.
const SHOWN_EVERYWHERE: [&str; 2] = ["config", "instance"];

/// The commands as their help shows them.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let is_hidden =
        |option: &&Arg| option.is_global_set() && !SHOWN_EVERYWHERE.contains(&option.get_id().as_str());
    let hidden: Vec<Arg> =
        command.get_arguments().filter(is_hidden).map(|option| option.clone().hide(true)).collect();
    let pointer = "The other options of every command are in `netd --help`.";
    command.mut_subcommands(|command| {
        let command = command.mut_subcommands(|below| below.after_help(pointer));
        command.args(hidden.clone()).after_help(pointer)
    })
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The desired file.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/netd/desired.toml")]
    pub config: PathBuf,
    /// The name by which this node finds itself in `[[nodes]]`; the host name if not given.
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Names this netd among several on one host: each has its own socket, state and pins.
    #[arg(long, global = true, value_name = "NAME", default_value = crate::instance::DEFAULT_NAME)]
    pub instance: InstanceName,
    /// Where the state is kept; /var/lib/netd/INSTANCE if not given.
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where maps and links are pinned; /sys/fs/bpf/netd/INSTANCE if not given.
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub bpf_dir: Option<PathBuf>,
    /// How lines of the log look.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", hide_short_help = true)]
    pub log_format: Format,
    /// What is logged; `run` logs changes, the other commands only what needs attention.
    #[arg(long, global = true, value_name = "LEVEL", hide_short_help = true)]
    pub log_level: Option<Level>,
    /// Whether output has colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_short_help = true)]
    pub color: Color,
    /// Whether `config` was said, and is not only the default.
    #[arg(skip)]
    pub is_config_given: bool,
}

impl Global {
    /// The options that lead another command to the same node, file and places: each after a space, as a shell reads them.
    #[must_use]
    pub fn as_given(&self) -> String {
        let Self { config, node, instance, state_dir, bpf_dir, is_config_given, .. } = self;
        let instance = instance.to_string();
        let path = |path: &PathBuf| path.display().to_string();
        let given = [
            ("--instance", (instance != crate::instance::DEFAULT_NAME).then_some(instance)),
            ("--config", is_config_given.then(|| path(config))),
            ("--node", node.clone()),
            ("--state-dir", state_dir.as_ref().map(path)),
            ("--bpf-dir", bpf_dir.as_ref().map(path)),
        ];
        given.into_iter().filter_map(|(name, value)| Some(format!(" {name} {}", quoted(&value?)))).collect()
    }
}

/// A word that a shell reads as this text.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// When output has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether standard output is to have colours.
    #[must_use]
    pub fn is_on(self) -> bool {
        match self {
            Self::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the node as the file says, until told to stop.
    ///
    /// Watches the file and the kernel, serves the API on the unix socket of the instance, and speaks systemd's notify
    /// protocol. Nothing is reloaded by signal: write the file. Stopping leaves everything in place, and traffic flows on.
    ///
    /// Examples:
    ///   netd run
    ///   netd run --config ./desired.toml --instance lab --log-format json
    #[command(verbatim_doc_comment)]
    Run,
    /// Show what would change, and change nothing.
    ///
    /// Reads the file and the node anew. Exits with 0 if there is nothing to do, 2 if there are changes, 1 on an error or
    /// if part of the node could not be read. With a daemon running --config can only name its file; any other file is
    /// planned by `netd plan FILE`.
    ///
    /// Examples:
    ///   netd plan
    ///   netd plan next.toml
    ///   netd plan --json | jq '.plan.steps[].key'
    #[command(verbatim_doc_comment)]
    Plan(PlanArgs),
    /// Put the file in force once.
    ///
    /// Asks the daemon for a pass, or makes one itself. A plan that would delete a large part of a kind, or all of it,
    /// is held back until it is allowed by the identifier that `plan` and `status` show. Exits with 0 if the node is as the
    /// file says afterwards, else with 1.
    ///
    /// Examples:
    ///   netd apply
    ///   netd apply --allow 4f1d2a90c3b7e655
    #[command(verbatim_doc_comment)]
    Apply(ApplyArgs),
    /// Check files for mistakes, all of them at once.
    ///
    /// Needs no rights and no daemon. Exits with 0 if every file is acceptable, else with 1.
    ///
    /// Examples:
    ///   netd validate desired.toml
    ///   netd validate --json *.toml
    #[command(verbatim_doc_comment)]
    Validate(ValidateArgs),
    /// Print the JSON Schema of the desired file.
    ///
    /// Editors check and complete a file that starts with `#:schema desired.schema.json`.
    ///
    /// Examples:
    ///   netd schema > desired.schema.json
    #[command(verbatim_doc_comment)]
    Schema,
    /// Explain a key of the desired file, or list all.
    ///
    /// Examples:
    ///   netd explain-config
    ///   netd explain-config services.backends.weight
    #[command(verbatim_doc_comment)]
    ExplainConfig(ExplainArgs),
    /// Show how the node stands against its file.
    ///
    /// Exits with 0 if it is as the file says, else with 1.
    ///
    /// Examples:
    ///   netd status
    ///   netd status --wait 30s
    ///   netd status --json | jq .word
    #[command(verbatim_doc_comment)]
    Status(StatusArgs),
    /// List the files that were in force, show one, or compare.
    ///
    /// Examples:
    ///   netd history
    ///   netd history show 7 > earlier.toml
    ///   netd history diff 7
    ///   netd history --json | jq '.[] | select(.in_force).number'
    #[command(verbatim_doc_comment)]
    History(HistoryArgs),
    /// Put an earlier file back in place.
    ///
    /// Replaces the desired file by the text that had this number in the history, after showing the plan. The daemon
    /// then takes it like any other change of the file.
    ///
    /// Examples:
    ///   netd rollback 7
    ///   netd rollback 7 --yes
    ///   netd rollback 7 --yes --allow 4f1d2a90c3b7e655
    #[command(verbatim_doc_comment)]
    Rollback(RollbackArgs),
    /// Remove everything that netd made on this node.
    ///
    /// Walks the kinds backwards: what announces goes before what carries. What is not netd's is not touched. A running
    /// daemon does it, and then rests until `netd apply` or its next start.
    ///
    /// Examples:
    ///   netd teardown
    ///   netd teardown --yes --state
    #[command(verbatim_doc_comment)]
    Teardown(TeardownArgs),
    /// Show packets and bytes of each service and backend.
    ///
    /// Examples:
    ///   netd services
    ///   netd services --json
    #[command(verbatim_doc_comment)]
    Services(JsonArgs),
    /// Show how a service's Maglev table shares out its flows.
    ///
    /// For each frontend its size, seed and SHA-256 digest, the slots of each backend, and how many slots of the others
    /// move when a backend goes. Shows what is in force, and where that differs from the file; with --offline what the
    /// file asks for. Balancers whose digests are the same choose the same backends.
    ///
    /// Examples:
    ///   netd maglev web
    ///   netd maglev web 192.0.2.10:80/tcp --json | jq '.frontends[].sha256'
    ///   netd maglev web --offline --config next.toml
    #[command(verbatim_doc_comment)]
    Maglev(MaglevArgs),
    /// Show netd at work between throw-away network namespaces.
    Demo,
    /// Print the completions of a shell.
    ///
    /// Examples:
    ///   netd completions bash > /usr/share/bash-completion/completions/netd
    #[command(verbatim_doc_comment)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands.
    ///
    /// Examples:
    ///   netd man | man -l -
    ///   netd man --dir /usr/share/man/man8
    #[command(verbatim_doc_comment)]
    Man(ManArgs),
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan towards this file; that of --config if not given.
    pub file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Allow the plan with this identifier, and no other, although it is held back.
    #[arg(long, value_name = "PLAN")]
    pub allow: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The files; that of --config if none is given.
    pub files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `explain-config`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The key, with dots: `services.ports`.
    pub key: Option<String>,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// List every resource, not only those that are not ready.
    #[arg(long)]
    pub verbose: bool,
    /// Wait until the node is as the file says, at most this long: `90s`, `5m`.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m")]
    pub wait: Option<String>,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `history` shows.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Print the text of an entry.
    Show {
        /// Its number.
        number: u64,
    },
    /// Compare the text of an entry with the desired file.
    Diff {
        /// Its number.
        number: u64,
    },
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The number in the history.
    pub number: u64,
    /// Do not ask. A plan that is held back needs --allow too.
    #[arg(long)]
    pub yes: bool,
    /// Allow the plan with this identifier, and no other, although it is held back.
    #[arg(long, value_name = "PLAN")]
    pub allow: Option<String>,
}

/// Options of `teardown`.
#[derive(Debug, Args)]
pub struct TeardownArgs {
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Forget the history and the last good file too; not while a daemon runs.
    #[arg(long)]
    pub state: bool,
}

/// Options of commands that only print.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `maglev`.
#[derive(Debug, Args)]
pub struct MaglevArgs {
    /// The name of the service.
    pub service: String,
    /// Show this frontend only: `192.0.2.10:80/tcp`.
    pub frontend: Option<String>,
    /// Compute the tables from the file alone: without rights, without a daemon, without looking at the node.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Writes to standard output. That nobody reads it any more (`| head`) is no error.
///
/// # Errors
///
/// Every other failure: a full disk behind a redirection.
pub fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says what went wrong, with its causes, on standard error. Mistakes of a file say themselves that they are errors.
pub fn complain(error: &anyhow::Error) {
    let mut text = error.to_string();
    if !text.starts_with("error: ") {
        text.insert_str(0, "error: ");
    }
    for cause in error.chain().skip(1) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text.push('\n');
    // There is nobody left to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Asks a question on the terminal; `false` for anything but yes.
///
/// # Errors
///
/// When there is no terminal to ask on.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("there is no terminal to ask on; say --yes if it is meant");
    }
    say(&format!("{question} [y/N] "))?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn global(arguments: &[&str]) -> Global {
        let matches = command().try_get_matches_from([&["netd", "plan"], arguments].concat()).unwrap();
        Cli::from_arg_matches(&matches).unwrap().global
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
        command().debug_assert();
    }

    #[test]
    fn a_command_that_is_shown_repeats_the_options_that_were_given() {
        assert_eq!(global(&[]).as_given(), "");
        let mut given =
            global(&["--state-dir", "/a b", "--node", "it's", "--config", "x.toml", "--instance", "lab"]);
        given.is_config_given = true;
        assert_eq!(given.as_given(), " --instance lab --config x.toml --node 'it'\\''s' --state-dir '/a b'");
    }
}
