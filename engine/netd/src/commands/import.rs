//! `netd import`: another program's configuration as one of netd's.

use crate::cli::{CiliumEgressArgs, ImportArgs, ImportCommand, OfPolicy, say};
use crate::import::{self, EgressAnswers};
use anyhow::{Context as _, anyhow, ensure};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a file. A configuration is a few KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Prints the TOML, and what netd itself doubts about it as comments behind it.
pub(super) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let toml = match &args.command {
        ImportCommand::CiliumBgp { file } => {
            let yaml = read(file)?;
            import::cilium_bgp(&yaml).map_err(|why| anyhow!("{}: {why}", file.display()))?
        }
        ImportCommand::CiliumEgress(args) => egress(args)?,
    };
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

fn egress(args: &CiliumEgressArgs) -> anyhow::Result<String> {
    let CiliumEgressArgs { files, sources, gateways, ips } = args;
    let named = |file: &PathBuf| anyhow::Ok((file.display().to_string(), read(file)?));
    let files = files.iter().map(named).collect::<anyhow::Result<Vec<_>>>()?;
    let map = |given: &[OfPolicy]| {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, list) in given {
            all.entry(name.clone()).or_default().extend(list.iter().cloned());
        }
        all
    };
    let answers = EgressAnswers { sources: map(sources), gateways: map(gateways), ips: map(ips) };
    import::cilium_egress(&files, &answers).map_err(|why| anyhow!(why))
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let most = FILE_BYTES_MAX + 1;
    let done = match file.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)),
    };
    let bytes = done.with_context(|| format!("read {}", file.display()))?;
    // The rest of a file would be lost without a word.
    ensure!(bytes as u64 <= FILE_BYTES_MAX, "{} has more than {FILE_BYTES_MAX} bytes", file.display());
    Ok(text)
}
