//! `netd explain`: what becomes of a packet, and why.

use super::{agree, maglev, node};
use crate::allocation;
use crate::api::Client;
use crate::balancer::Balancer;
use crate::cli::{Global, PacketArgs, say};
use crate::commands::instance_of;
use crate::explain::{self, Explanation, Packet};
use crate::facts::FactsReader;
use crate::source;
use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use serde_json::{Value, json};
use std::process::ExitCode;

/// What is printed.
#[derive(Deserialize)]
struct Answer {
    text: String,
    explanation: Value,
}

pub(super) async fn run(global: &Global, args: &PacketArgs) -> anyhow::Result<ExitCode> {
    let packet: Packet = args.packet.join(" ").parse()?;
    let Answer { text, explanation } = match args.offline {
        true => {
            let config = maglev::read(&global.config, global.color.is_on()).map_err(|why| anyhow!(why))?;
            let config = allocation::from_the_file_alone(&config);
            own(&explain::offline::explain(&config, &packet).map_err(|why| anyhow!(why))?)?
        }
        false => ask(&agree::with_daemon(global).await?, packet, args.device.clone()).await?,
    };
    match args.json {
        true => say(&format!("{explanation:#}\n"))?,
        false => say(&text)?,
    }
    let disagrees = explanation["disagreements"].as_array().is_some_and(|list| !list.is_empty());
    Ok(if disagrees { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks the daemon, which may see pins that this process does not; without one, looks.
async fn ask(global: &Global, packet: Packet, device: Option<String>) -> anyhow::Result<Answer> {
    let question = json!({ "packet": packet.to_string(), "device": device });
    let client = Client::new(&instance_of(global).socket());
    if let Some(bytes) = client.post("/v1/explain", &question).await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer cannot be read");
    }
    node::check_rights().map_err(|error| error.context("`--offline` answers from the file alone"))?;
    let mut answer = loaded(global, packet, device).await.map_err(|why| anyhow!(why))?;
    if answer.may_have_policy(&packet) {
        let (from, to) = (packet.source.ip(), packet.destination.ip());
        let mut reconciler = node::for_reading(global)?;
        answer.tell_policy(reconciler.egress_of(&source::read(&global.config), from, to).await);
    }
    own(&answer)
}

fn own(explanation: &Explanation) -> anyhow::Result<Answer> {
    Ok(Answer { text: explanation.text(), explanation: serde_json::to_value(explanation)? })
}

/// Runs the load balancer's program that is pinned here on the packet, and reads what the translating programs go by.
pub(crate) async fn loaded(
    global: &Global,
    packet: Packet,
    device: Option<String>,
) -> Result<Explanation, String> {
    let facts = FactsReader::new(node::node_name(global)).read().await?;
    let bpf_dir = instance_of(global).bpf_dir;
    let balancer = Balancer::new(bpf_dir.clone());
    let run = move || explain::loaded(&balancer, &bpf_dir, &facts, &packet, device.as_deref());
    tokio::task::spawn_blocking(run).await.map_err(|error| error.to_string())?
}
