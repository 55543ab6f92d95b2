//! `netd import`: another program's configuration as one of netd's.

use crate::cli::{ImportArgs, ImportCommand, say};
use crate::import;
use anyhow::{Context as _, anyhow};
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

/// A configuration of BGP is a few KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Prints the TOML, and what netd itself doubts about it as comments behind it.
pub(super) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let ImportCommand::CiliumBgp { file } = &args.command;
    let yaml = read(file).with_context(|| format!("read {}", file.display()))?;
    let toml = import::cilium_bgp(&yaml).map_err(|why| anyhow!("{}: {why}", file.display()))?;
    say(&toml)?;
    match netd_schema::parse("(the translation)", toml.as_bytes()) {
        Ok(parsed) => {
            let doubts = parsed.warnings.render(false);
            let comments: String = doubts.lines().map(|line| format!("# {line}\n")).collect();
            say(&comments)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(found) => Err(anyhow!(found.render(false))),
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    match file.as_os_str() == "-" {
        true => std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)?,
        false => std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?,
    };
    Ok(text)
}
