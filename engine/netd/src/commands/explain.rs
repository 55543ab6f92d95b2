//! `netd explain`: what the load balancer does with a packet, and why.

use super::{agree, maglev, node};
use crate::balancer::Balancer;
use crate::cli::{Global, PacketArgs, say};
use crate::commands::instance_of;
use crate::explain::{self, Explanation, Packet};
use crate::facts::Facts;
use anyhow::anyhow;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &PacketArgs) -> anyhow::Result<ExitCode> {
    let packet: Packet = args.packet.join(" ").parse()?;
    let answer = match args.offline {
        true => {
            let config = maglev::read(&global.config, global.color.is_on()).map_err(|why| anyhow!(why))?;
            explain::offline::explain(&config, &packet).map_err(|why| anyhow!(why))?
        }
        false => loaded(&agree::with_daemon(global).await?, &packet)?,
    };
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&answer)?))?;
    } else {
        say(&answer.text())?;
    }
    Ok(if answer.disagreements.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn loaded(global: &Global, packet: &Packet) -> anyhow::Result<Explanation> {
    node::check_rights().map_err(|error| error.context("`--offline` answers from the file alone"))?;
    let balancer = Balancer::new(instance_of(global).bpf_dir);
    explain::loaded(&balancer, &Facts::default(), packet).map_err(|why| anyhow!(why))
}
