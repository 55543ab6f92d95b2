//! `netd services`: packets and bytes of each service and backend, read from the maps.

use super::{node, table};
use crate::balancer::Balancer;
use crate::cli::{Global, JsonArgs, say};
use crate::commands::instance_of;
use crate::kinds::service::{self, ServiceTraffic};
use anyhow::anyhow;
use netd_core::render::escape;
use std::process::ExitCode;

pub(super) fn run(global: &Global, args: &JsonArgs) -> anyhow::Result<ExitCode> {
    node::check_rights()?;
    let balancer = Balancer::new(instance_of(global).bpf_dir);
    let traffic = balancer
        .with_maps(|maps| match maps {
            Some(maps) => service::traffic(maps),
            None => Ok(Vec::new()),
        })
        .and_then(|traffic| traffic)
        .map_err(|why| anyhow!(why))?;
    if args.json {
        say(&format!("{:#}\n", serde_json::to_value(&traffic)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if traffic.is_empty() {
        say("No service is in force.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&table::table(&["service", "where", "state", "packets", "bytes", "dropped"], 3..6, rows(&traffic)))?;
    Ok(ExitCode::SUCCESS)
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
