//! Decides which file a command is about: with a daemon running it is the daemon's.

use crate::api::Client;
use crate::cli::Global;
use crate::clock;
use crate::commands::instance_of;
use crate::report::Report;
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon that has just started names its file with its first report; that pass may be a large bring-up.
const FIRST_REPORT_MAX: Duration = Duration::from_secs(60);

/// Between two looks for the first report.
const FIRST_REPORT_EVERY: Duration = Duration::from_millis(100);

/// The options with the file, and the node's name, of the daemon that runs on this instance; as they are without one.
///
/// # Errors
///
/// When --config names another file than the daemon's: it would be believed to be what is in force.
pub(super) async fn with_daemon(global: &Global) -> anyhow::Result<Global> {
    let Some(report) = first_report(global).await? else { return Ok(global.clone()) };
    let own = PathBuf::from(&report.config.path);
    if global.is_config_given && !is_same(&own, &global.config)? {
        bail!(
            "the running netd keeps this node as {} says, not as {}; `netd plan {}` shows what that file would change",
            own.display(),
            global.config.display(),
            global.config.display()
        );
    }
    let node = global.node.clone().or(Some(report.node).filter(|node| !node.is_empty()));
    Ok(Global { config: own, node, ..global.clone() })
}

/// Says that the daemon, whose file is `own`, follows another one than --config names, where that changes nothing.
pub(super) fn warn_of_other(global: &Global, own: &str) -> anyhow::Result<()> {
    if global.is_config_given && !own.is_empty() && !is_same(Path::new(own), &global.config)? {
        let given = global.config.display();
        tracing::warn!(file = own, %given, "this is about the file of the running netd, not about --config");
    }
    Ok(())
}

/// The options with the path of the file from the root on: a daemon's clients may be elsewhere.
pub(super) fn absolute(global: Global) -> anyhow::Result<Global> {
    let config = std::path::absolute(&global.config).context("find the working directory")?;
    Ok(Global { config, ..global })
}

async fn first_report(global: &Global) -> anyhow::Result<Option<Report>> {
    let client = Client::new(&instance_of(global).socket());
    let began = clock::now();
    loop {
        let Some(bytes) = client.get("/v1/status").await? else { return Ok(None) };
        let report: Report = serde_json::from_slice(&bytes).context("the daemon's answer is not a report")?;
        if !report.config.path.is_empty() {
            return Ok(Some(report));
        }
        if began.elapsed() > FIRST_REPORT_MAX {
            bail!("the daemon has just started, and does not say yet which file it follows: ask again");
        }
        tokio::time::sleep(FIRST_REPORT_EVERY).await;
    }
}

/// Whether two paths name one file: by their words, or by where they lead.
fn is_same(own: &Path, given: &Path) -> anyhow::Result<bool> {
    let given = std::path::absolute(given).context("find the working directory")?;
    let leads_to = |path: &Path| path.canonicalize().ok();
    Ok(own == given || (leads_to(own).is_some() && leads_to(own) == leads_to(&given)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_file_by_two_paths_is_the_same_file() {
        let dir = tempfile::TempDir::new().unwrap();
        let (file, link, other) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(is_same(&file, &dir.path().join(".").join("a")).unwrap());
        assert!(is_same(&file, &link).unwrap());
        assert!(!is_same(&file, &other).unwrap());
        assert!(is_same(&other, &other).unwrap(), "also while there is none");
    }
}
