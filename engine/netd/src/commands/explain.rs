//! `netd explain`: what the load balancer does with a packet, and why.

use super::{agree, maglev, node};
use crate::allocation;
use crate::balancer::Balancer;
use crate::cli::{Global, PacketArgs, say};
use crate::commands::instance_of;
use crate::explain::{self, Explanation, Packet};
use crate::facts::FactsReader;
use anyhow::anyhow;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &PacketArgs) -> anyhow::Result<ExitCode> {
    let packet: Packet = args.packet.join(" ").parse()?;
    let answer = match args.offline {
        true => {
            let config = maglev::read(&global.config, global.color.is_on()).map_err(|why| anyhow!(why))?;
            let config = allocation::from_the_file_alone(&config);
            explain::offline::explain(&config, &packet).map_err(|why| anyhow!(why))?
        }
        false => loaded(&agree::with_daemon(global).await?, &packet, args.device.as_deref()).await?,
    };
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&answer)?))?;
    } else {
        say(&answer.text())?;
    }
    Ok(if answer.disagreements.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn loaded(global: &Global, packet: &Packet, device: Option<&str>) -> anyhow::Result<Explanation> {
    node::check_rights().map_err(|error| error.context("`--offline` answers from the file alone"))?;
    let balancer = Balancer::new(instance_of(global).bpf_dir);
    let facts = FactsReader::new(node::node_name(global)).read().await.map_err(|why| anyhow!(why))?;
    explain::loaded(&balancer, &facts, packet, device).map_err(|why| anyhow!(why))
}
