//! `iptables-save` and `iptables-restore` of each family, as child processes.

use netd_schema::Family;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long another program may hold iptables' lock, in seconds.
const LOCK_WAIT_SECONDS: &str = "5";

/// How long a program may take: longer than the lock, and longer than thousands of rules take.
const RUN_MAX: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The program is not on this node.
    #[error("there is no program {0} on this node; `notrack.backend = \"nft\"` needs none")]
    Absent(String),
    /// It could not be run to its end.
    #[error("run {0}: {1}")]
    Run(String, io::Error),
    /// It refused.
    #[error("{0}: {1}")]
    Refused(String, String),
}

/// What the table `raw` of a family consists of.
pub(super) async fn saved(family: Family) -> Result<String, Trouble> {
    run(family, "save", &["-t", "raw"], "").await
}

/// Has the lines come about, all at once.
pub(super) async fn restore(family: Family, script: &str) -> Result<(), Trouble> {
    run(family, "restore", &["--noflush", "--wait", LOCK_WAIT_SECONDS], script).await.map(drop)
}

async fn run(family: Family, what: &str, arguments: &[&str], input: &str) -> Result<String, Trouble> {
    let program = match family {
        Family::Ipv4 => format!("iptables-{what}"),
        Family::Ipv6 => format!("ip6tables-{what}"),
    };
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Trouble::Absent(program.clone()),
        _ => Trouble::Run(program.clone(), error),
    })?;
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A program that refuses early closes its end; what it says about that counts.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(RUN_MAX, talk).await {
        Ok(output) => output.map_err(|error| Trouble::Run(program.clone(), error))?,
        Err(_) => return Err(Trouble::Refused(program, format!("no answer in {} s", RUN_MAX.as_secs()))),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty() && !line.starts_with("# "));
    Err(Trouble::Refused(program, line.unwrap_or("it failed and said nothing").trim().to_owned()))
}
