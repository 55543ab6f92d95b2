//! What `services` and `backends` show: the counters in the order of the file, and those of the names that were asked for.

use super::nearest::nearest;
use super::{instance_of, node};
use crate::api::Client;
use crate::balancer::Balancer;
use crate::cli::Global;
use crate::clock;
use crate::kinds::service::{self, KeptFlows, ServiceTraffic};
use crate::report::Report;
use crate::source::{self, Reading};
use anyhow::{Context as _, anyhow};
use netd_bpf::Maps;
use netd_bpf::abi::KEEP_FLOWS;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use toml_edit::{Document, Item};

/// So many names are listed where a name is not known.
const NAMES_SHOWN_MAX: usize = 5;

/// Where the services come in the file.
#[derive(Debug, Default)]
pub(super) struct FileOrder(BTreeMap<String, usize>);

impl FileOrder {
    /// The order of the daemon's file, else of the one that the options name. A file that cannot be read has none.
    pub(super) async fn of(global: &Global) -> Self {
        let status = Client::new(&instance_of(global).socket()).get("/v1/status").await.ok().flatten();
        let report = status.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
        let path = report.map(|report| report.config.path).filter(|path| !path.is_empty());
        let path = path.map_or_else(|| global.config.clone(), Into::into);
        let reading = tokio::task::spawn_blocking(move || source::read(&path)).await;
        match reading {
            Ok(Reading::Text(text)) => Self::in_text(&String::from_utf8_lossy(&text.bytes)),
            _ => Self::default(),
        }
    }

    fn in_text(text: &str) -> Self {
        let Ok(document) = Document::parse(text) else { return Self::default() };
        let name =
            |table: &dyn toml_edit::TableLike| table.get("name").and_then(Item::as_str).map(str::to_owned);
        let names: Vec<String> = match document.get("services") {
            Some(Item::ArrayOfTables(tables)) => tables.iter().filter_map(|table| name(table)).collect(),
            Some(Item::Value(value)) => {
                let tables = value.as_array().into_iter().flatten();
                tables.filter_map(|table| name(table.as_inline_table()?)).collect()
            }
            _ => Vec::new(),
        };
        Self(names.into_iter().enumerate().map(|(at, name)| (name, at)).collect())
    }

    /// Sorts as the file does; what the file does not name comes last, by name.
    pub(super) fn sort(&self, services: &mut [ServiceTraffic]) {
        let place = |service: &ServiceTraffic| {
            let at = self.0.get(&service.service).copied().unwrap_or(usize::MAX);
            (at, service.service.clone())
        };
        services.sort_by_cached_key(place);
    }
}

/// The counters: of the daemon, else read from the maps.
pub(super) async fn look(global: &Global) -> anyhow::Result<Vec<ServiceTraffic>> {
    match Client::new(&instance_of(global).socket()).get("/v1/services").await? {
        Some(bytes) => serde_json::from_slice(&bytes).context("the daemon's answer cannot be read"),
        None => {
            node::check_rights()?;
            read(&instance_of(global).bpf_dir).map_err(|why| anyhow!(why))
        }
    }
}

/// Reads the maps that are pinned below this folder; without any, nothing went through.
pub(crate) fn read(bpf_dir: &Path) -> Result<Vec<ServiceTraffic>, String> {
    let mut services = Balancer::new(bpf_dir.to_owned())
        .with_maps(|maps| maps.map_or(Ok(Vec::new()), |maps| service::traffic(maps)))
        .and_then(|traffic| traffic)?;
    for service in &mut services {
        merge(service);
    }
    Ok(services)
}

/// Reads which flows are kept on their backends. One that sent nothing for `idle` counts as silent.
pub(crate) fn flows(bpf_dir: &Path, idle: Duration) -> Result<Vec<KeptFlows>, String> {
    Balancer::new(bpf_dir.to_owned())
        .with_maps(|maps| maps.map_or(Ok(Vec::new()), |maps| service::kept_flows(maps, clock::awake(), idle)))
        .and_then(|flows| flows)
}

/// Counts the flows that a record keeps on their backend. Where no slot is compared there is none, and nothing is read.
pub(crate) fn count_flows(bpf_dir: &Path) -> Result<usize, String> {
    let count = |maps: &dyn Maps| -> netd_bpf::Result<usize> {
        match maps.frontends()?.iter().any(|(_, frontend)| frontend.flags & KEEP_FLOWS != 0) {
            true => Ok(maps.flows_per_counter()?.values().sum()),
            false => Ok(0),
        }
    };
    Balancer::new(bpf_dir.to_owned())
        .with_maps(|maps| maps.map_or(Ok(0), |maps| count(maps)))
        .and_then(|count| count.map_err(|error| service::sentence(&error)))
}

/// A backend that serves one port over TCP and UDP is counted twice, and is one backend.
fn merge(service: &mut ServiceTraffic) {
    let mut merged: Vec<service::BackendTraffic> = Vec::new();
    for backend in service.backends.drain(..) {
        match merged.last_mut() {
            Some(last) if (last.address, last.port) == (backend.address, backend.port) => {
                last.packets = last.packets.wrapping_add(backend.packets);
                last.bytes = last.bytes.wrapping_add(backend.bytes);
                last.new_flows = last.new_flows.wrapping_add(backend.new_flows);
            }
            _ => merged.push(backend),
        }
    }
    service.backends = merged;
}

/// Those of the services that were asked for; all, if none was named.
///
/// # Errors
///
/// A name that none of them has, with the one that was probably meant.
pub(super) fn chosen(
    services: Vec<ServiceTraffic>,
    names: &[String],
    order: &FileOrder,
) -> anyhow::Result<Vec<ServiceTraffic>> {
    for name in names {
        if !services.iter().any(|service| service.service == *name) {
            return Err(unknown(&services, name, order));
        }
    }
    Ok(only(services, names))
}

/// As [`chosen`], where a name that is not there any more is no mistake.
pub(super) fn only(mut services: Vec<ServiceTraffic>, names: &[String]) -> Vec<ServiceTraffic> {
    services.retain(|service| names.is_empty() || names.contains(&service.service));
    services
}

fn unknown(services: &[ServiceTraffic], name: &str, order: &FileOrder) -> anyhow::Error {
    if order.0.contains_key(name) {
        return anyhow!("service `{name}` is in the file and not in force; `netd status` says why");
    }
    let known = services.iter().map(|service| service.service.as_str());
    anyhow!("there is no service `{name}`{}", hint(name, known))
}

/// What is said after a name that is not known.
pub(super) fn hint<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("; did you mean `{near}`?");
    }
    let shown: Vec<&str> = known.clone().take(NAMES_SHOWN_MAX).collect();
    let more = known.count().saturating_sub(shown.len());
    match (shown.is_empty(), more) {
        (true, _) => "; there is none".to_owned(),
        (false, 0) => format!("; there is {}", shown.join(", ")),
        (false, more) => format!("; there is {}, and {more} more", shown.join(", ")),
    }
}

/// All that was dropped.
pub(super) fn dropped(service: &ServiceTraffic) -> u64 {
    service.drops().iter().fold(0, |sum, (_, count)| sum.wrapping_add(*count))
}

/// Where packets of a backend arrive.
pub(crate) fn socket(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kinds::service::BackendTraffic;

    fn services(names: &[&str]) -> Vec<ServiceTraffic> {
        let service = |name: &&str| ServiceTraffic { service: (*name).into(), ..ServiceTraffic::default() };
        names.iter().map(service).collect()
    }

    #[test]
    fn services_come_in_the_order_of_the_file() {
        let order = FileOrder::in_text("[[services]]\nname = 'z'\n[[services]]\nname = 'b'\n");
        let mut shown = services(&["a", "b", "z", "c"]);
        order.sort(&mut shown);
        let names: Vec<_> = shown.iter().map(|service| service.service.as_str()).collect();
        assert_eq!(names, ["z", "b", "a", "c"]);
        let inline = FileOrder::in_text("services = [{ name = 'z' }, { name = 'b' }]");
        assert_eq!(inline.0, order.0);
    }

    #[test]
    fn an_unknown_service_is_an_error_with_the_nearest_name() {
        let order = FileOrder::in_text("[[services]]\nname = 'new'\n");
        let why = |name: &str| {
            chosen(services(&["web", "dns"]), &[name.to_owned()], &order).unwrap_err().to_string()
        };
        assert_eq!(why("wbe"), "there is no service `wbe`; did you mean `web`?");
        assert_eq!(why("xxxxxx"), "there is no service `xxxxxx`; there is web, dns");
        assert!(why("new").contains("in the file and not in force"));
        let one = chosen(services(&["web", "dns"]), &["dns".to_owned()], &order).unwrap();
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn a_backend_of_two_protocols_is_one_backend() {
        let backend = |packets| BackendTraffic::active([10, 0, 0, 1], packets);
        let mut service = ServiceTraffic { backends: vec![backend(3), backend(4)], ..Default::default() };
        merge(&mut service);
        assert_eq!(service.backends, [backend(7)]);
    }
}
