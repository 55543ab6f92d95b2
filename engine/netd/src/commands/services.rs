//! `netd services`: packets and bytes of each service and backend: of the daemon, else read from the maps.

use super::{node, table};
use crate::api::Client;
use crate::balancer::Balancer;
use crate::cli::{Global, JsonArgs, say};
use crate::commands::instance_of;
use crate::kinds::service::{self, ServiceTraffic};
use anyhow::{Context as _, anyhow};
use netd_core::render::escape;
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &JsonArgs) -> anyhow::Result<ExitCode> {
    let traffic = match Client::new(&instance_of(global).socket()).get("/v1/services").await? {
        Some(bytes) => serde_json::from_slice(&bytes).context("the daemon's answer cannot be read")?,
        None => {
            node::check_rights()?;
            read(&instance_of(global).bpf_dir).map_err(|why| anyhow!(why))?
        }
    };
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&traffic)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if traffic.is_empty() {
        say("No service is in force; `netd plan` shows what the file asks for.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&table::table(&["service", "where", "state", "packets", "bytes", "dropped"], 3..6, rows(&traffic)))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the maps that are pinned below this folder; without any, nothing went through.
pub(crate) fn read(bpf_dir: &Path) -> Result<Vec<ServiceTraffic>, String> {
    Balancer::new(bpf_dir.to_owned())
        .with_maps(|maps| match maps {
            Some(maps) => service::traffic(maps),
            None => Ok(Vec::new()),
        })
        .and_then(|traffic| traffic)
}

/// A line for each service, then one for each of its backends.
fn rows(traffic: &[ServiceTraffic]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for service in traffic {
        let dropped = service.no_backend + service.no_next_hop + service.too_long;
        rows.push(vec![
            escape(&service.service),
            service.frontends.join(" "),
            String::new(),
            service.packets.to_string(),
            service.bytes.to_string(),
            dropped.to_string(),
        ]);
        for backend in &service.backends {
            rows.push(vec![
                String::new(),
                std::net::SocketAddr::new(backend.address, backend.port).to_string(),
                format!("{}, weight {}", backend.state, backend.weight),
                backend.packets.to_string(),
                backend.bytes.to_string(),
                String::new(),
            ]);
        }
    }
    rows
}
