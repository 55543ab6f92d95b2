//! The options of every command, and how a command that is shown repeats them.

use crate::instance::InstanceName;
use crate::log::{Format, Level};
use clap::{Args, ValueEnum};
use std::io::IsTerminal as _;
use std::path::PathBuf;

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
    /// Names this netd among several on one host, of which each network namespace can have one: each has its own
    /// socket, state and pins.
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
