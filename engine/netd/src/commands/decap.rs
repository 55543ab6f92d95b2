//! `netd decap`: what the decapsulating program of this node took out of tunnels, and what it did not.

use super::{instance_of, node, table};
use crate::api::Client;
use crate::cli::{DecapArgs, Global, say};
use crate::kinds::decap;
use anyhow::{Context as _, anyhow};
use netd_bpf::decap::abi::Counts;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::ExitCode;

/// What was counted since the program was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecapTraffic {
    /// Packets taken out of the tunnel.
    pub packets: u64,
    /// Their bytes, from the inner IP header on.
    pub bytes: u64,
    /// Left in the tunnel: of known balancers, and for nobody known.
    pub not_taken: u64,
    /// Dropped: the tunnel came from somebody else.
    pub strangers: u64,
    /// Dropped: lengths or versions that lie.
    pub malformed: u64,
    /// Dropped: marked on the way, and its transport cannot be told.
    pub congested: u64,
}

impl From<Counts> for DecapTraffic {
    fn from(counts: Counts) -> Self {
        let Counts { packets, bytes, strangers, not_taken, malformed, congested, reserved: _ } = counts;
        Self { packets, bytes, not_taken, strangers, malformed, congested }
    }
}

pub(super) async fn run(global: &Global, args: &DecapArgs) -> anyhow::Result<ExitCode> {
    let counted = look(global).await?;
    match (args.json, counted) {
        (true, counted) => say(&format!("{:#}\n", serde_json::to_value(counted)?))?,
        (false, Some(counted)) => say(&text(&counted))?,
        (false, None) => say("Nothing is taken out of tunnels here: no file with `[decap]` is in force.\n")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon; without one, looks.
async fn look(global: &Global) -> anyhow::Result<Option<DecapTraffic>> {
    if let Some(bytes) = Client::new(&instance_of(global).socket()).get("/v1/decap").await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer cannot be read");
    }
    node::check_rights()?;
    read(&instance_of(global).bpf_dir).map_err(|why| anyhow!(why))
}

/// What the program that is pinned below this folder has counted; `None` without one.
pub(crate) fn read(bpf_dir: &Path) -> Result<Option<DecapTraffic>, String> {
    Ok(decap::counts(bpf_dir)?.map(Into::into))
}

fn text(counted: &DecapTraffic) -> String {
    let DecapTraffic { packets, bytes, not_taken, strangers, malformed, congested } = *counted;
    let rows = [
        ("taken", packets, format!("{bytes} bytes, from the inner header on")),
        ("not_taken", not_taken, "left in the tunnel: for others than VIPs, pools and `to`".into()),
        ("strangers", strangers, "dropped: of tunnels from others than `from`".into()),
        ("malformed", malformed, "dropped: lengths or versions contradict each other".into()),
        ("congested", congested, "dropped: marked on the way, and the sender cannot be told".into()),
    ];
    let rows = rows.map(|(what, count, meaning)| vec![what.to_owned(), count.to_string(), meaning]);
    table::table(&["counted", "packets", "what they are"], 1..2, rows.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_line_that_says_what_it_is() {
        let counts = Counts {
            packets: 12,
            bytes: 1200,
            strangers: 3,
            not_taken: 4,
            malformed: 5,
            congested: 6,
            ..Counts::default()
        };
        let expected = "\
COUNTED    PACKETS  WHAT THEY ARE
taken           12  1200 bytes, from the inner header on
not_taken        4  left in the tunnel: for others than VIPs, pools and `to`
strangers        3  dropped: of tunnels from others than `from`
malformed        5  dropped: lengths or versions contradict each other
congested        6  dropped: marked on the way, and the sender cannot be told
";
        assert_eq!(text(&counts.into()), expected);
    }
}
