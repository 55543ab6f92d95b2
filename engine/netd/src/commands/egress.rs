//! `netd egress`: the policies, which gateway has them and why, where their addresses are, and how these are used.

use super::{instance_of, node, table};
use crate::api::Client;
use crate::cli::{EgressArgs, Global, say};
use crate::clock;
use crate::egress::{EgressReport, PolicyReport, TranslationReport, UsageReport};
use crate::kinds::masquerade;
use crate::metrics;
use crate::source;
use anyhow::{Context as _, anyhow, ensure};
use netd_bpf::nat::Fullest;
use netd_core::render::escape;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &EgressArgs) -> anyhow::Result<ExitCode> {
    let mut report = look(global).await?;
    for name in &args.names {
        ensure!(
            report.policies.iter().any(|policy| policy.name == *name),
            "there is no egress policy {}; `netd egress` lists them",
            escape(name)
        );
    }
    if !args.names.is_empty() {
        report.policies.retain(|policy| args.names.contains(&policy.name));
    }
    match (args.json, args.names.is_empty()) {
        (true, _) => say(&format!("{:#}\n", serde_json::to_value(&report)?))?,
        (false, true) => say(&overview(&report))?,
        (false, false) => say(&report.policies.iter().map(details).collect::<Vec<_>>().join("\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon; without one, looks.
async fn look(global: &Global) -> anyhow::Result<EgressReport> {
    let instance = instance_of(global);
    if let Some(bytes) = Client::new(&instance.socket()).get("/v1/egress").await? {
        return serde_json::from_slice(&bytes).context("the daemon's answer cannot be read");
    }
    let mut reconciler = node::for_reading(global)?;
    let mut report = reconciler.egress(&source::read(&global.config)).await.map_err(|why| anyhow!(why))?;
    fill(&mut report, &instance.bpf_dir).map_err(|why| anyhow!(why))?;
    Ok(report)
}

/// Adds what the programs that are pinned below this folder say of the addresses.
///
/// # Errors
///
/// A sentence, if they cannot be read.
pub(crate) fn fill(report: &mut EgressReport, bpf_dir: &Path) -> Result<(), String> {
    let Some((counts, usage)) = masquerade::counted(bpf_dir)? else { return Ok(()) };
    let dropped = metrics::nat_dropped(&counts).into_iter();
    report.translation = Some(TranslationReport {
        flows: usage.flows,
        flows_max: usage.capacity,
        steered: counts.steered,
        dropped: dropped.map(|(reason, count)| (reason.to_owned(), count)).collect(),
    });
    let Some(nat) = masquerade::programs(bpf_dir)? else { return Ok(()) };
    let now_ns = u64::try_from(clock::awake().as_nanos()).unwrap_or(u64::MAX);
    let used = nat.used(now_ns).map_err(|error| error.to_string())?;
    for address in report.policies.iter_mut().filter(|policy| policy.is_here).flat_map(|it| &mut it.addresses)
    {
        let used = used.get(&address.address).copied().unwrap_or_default();
        let ports = used.fullest.map_or(0, |fullest| fullest.ports);
        let permille = u64::from(ports) * 1000 / u64::from(address.ports.max(1));
        address.usage = Some(UsageReport {
            flows: used.flows,
            ports,
            permille: u32::try_from(permille).unwrap_or(u32::MAX),
            remote: used.fullest.map(|it| said(&it)),
        });
    }
    Ok(())
}

/// `tcp 192.168.33.13:443`; pings have no port.
fn said(fullest: &Fullest) -> String {
    let Fullest { protocol, remote, remote_port, .. } = fullest;
    match protocol {
        6 => format!("tcp {}", SocketAddr::new(*remote, *remote_port)),
        17 => format!("udp {}", SocketAddr::new(*remote, *remote_port)),
        _ => format!("pings to {remote}"),
    }
}

fn overview(report: &EgressReport) -> String {
    if report.policies.is_empty() {
        return "The file has no `[[egress]]`; `netd explain-config egress` says what that is.\n".to_owned();
    }
    let rows = report.policies.iter().flat_map(rows).collect();
    let head = ["policy", "address", "state", "gateway", "flows", "ports", ""];
    let mut text = table::table(&head, 4..6, rows);
    if let Some(translation) = &report.translation {
        text.push_str(&dropped(translation));
    }
    text
}

/// A line for each address, or one without.
fn rows(policy: &PolicyReport) -> Vec<Vec<String>> {
    let gateway = match (&policy.gateway, policy.is_here) {
        (Some(node), true) => format!("{} (here)", escape(node)),
        (Some(node), false) => escape(node),
        (None, _) => "none".to_owned(),
    };
    let trouble = policy.trouble.as_deref().map(escape).unwrap_or_default();
    if policy.addresses.is_empty() {
        let dash = || "-".to_owned();
        return vec![vec![escape(&policy.name), dash(), dash(), gateway, dash(), dash(), trouble]];
    }
    let row = |address: &crate::egress::EgressAddressReport| {
        let number = |of: fn(&UsageReport) -> String| address.usage.as_ref().map_or("-".to_owned(), of);
        vec![
            escape(&policy.name),
            address.address.to_string(),
            escape(&address.state),
            gateway.clone(),
            number(|usage| usage.flows.to_string()),
            number(percent),
            trouble.clone(),
        ]
    };
    policy.addresses.iter().map(row).collect()
}

fn percent(usage: &UsageReport) -> String {
    format!("{}.{} %", usage.permille / 10, usage.permille % 10)
}

fn details(policy: &PolicyReport) -> String {
    let mut text = format!("{}\n", escape(&policy.name));
    // Writing into a String cannot fail.
    let mut line = |what: &str, value: &str| {
        let _ = writeln!(text, "  {what:<12}  {value}");
    };
    line("sources", &policy.sources.join(", "));
    line("destinations", &policy.destinations.join(", "));
    if !policy.exclude.is_empty() {
        line("except", &policy.exclude.join(", "));
    }
    if let Some(pool) = &policy.pool {
        line("pool", &escape(pool));
    }
    let here = if policy.is_here { ", this node" } else { "" };
    match &policy.gateway {
        Some(node) => line("gateway", &format!("{}{here}: {}", escape(node), policy.why)),
        None => line("gateway", &format!("none: {}", policy.why)),
    }
    let all = policy.gateways.iter().map(|one| format!("{} (priority {})", escape(&one.node), one.priority));
    let all: Vec<String> = all.collect();
    if all.len() > 1 {
        line("gateways", &all.join(", "));
    }
    for address in &policy.addresses {
        line("address", &format!("{}, {}", address.address, escape(&address.state)));
        let Some(usage) = &address.usage else { continue };
        line("", &format!("{} flows", usage.flows));
        if let Some(remote) = &usage.remote {
            let share = percent(usage);
            line("", &format!("most ports for {remote}: {} of {} ({share})", usage.ports, address.ports));
        }
    }
    for (family, rule) in &policy.here {
        line("packets here", &format!("{family}: {rule}"));
    }
    if let Some(trouble) = &policy.trouble {
        line("trouble", &escape(trouble));
    }
    text
}

fn dropped(translation: &TranslationReport) -> String {
    let TranslationReport { flows, flows_max, steered, dropped } = translation;
    let mut text = format!(
        "\nTranslation on this node: {flows} of {flows_max} flows; {steered} packets sent to gateways.\n"
    );
    let lost: Vec<String> = dropped
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !lost.is_empty() {
        let _ = writeln!(text, "Dropped packets: {}.", lost.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{EgressAddressReport, EgressGatewayReport};

    fn report() -> EgressReport {
        let usage =
            UsageReport { flows: 12, ports: 328, permille: 10, remote: Some("tcp 192.168.33.13:443".into()) };
        let address = EgressAddressReport {
            address: [192, 168, 33, 100].into(),
            state: "on eth0".into(),
            is_here: true,
            ports: 32_768,
            usage: Some(usage),
        };
        let policy = PolicyReport {
            name: "legacy-db".into(),
            sources: vec!["10.244.0.0/16".into()],
            destinations: vec!["192.168.33.13/32".into()],
            gateway: Some("gw-1".into()),
            is_here: true,
            why: "it has the highest priority, 10".into(),
            gateways: vec![
                EgressGatewayReport { node: "gw-1".into(), priority: 10 },
                EgressGatewayReport { node: "gw-2".into(), priority: 0 },
            ],
            addresses: vec![address],
            here: [("ipv4".into(), "leaves here as 192.168.33.100, ports 32768-65535".into())].into(),
            ..PolicyReport::default()
        };
        let lost = PolicyReport {
            name: "lost".into(),
            why: "it has no gateway".into(),
            trouble: Some("it has no gateway".into()),
            ..PolicyReport::default()
        };
        let translation = TranslationReport {
            flows: 12,
            flows_max: 65_536,
            steered: 0,
            dropped: [("exhausted".into(), 0), ("no-gateway".into(), 5)].into(),
        };
        let policies = vec![policy, lost];
        EgressReport {
            node: "gw-1".into(),
            policies,
            translation: Some(translation),
            ..EgressReport::default()
        }
    }

    #[test]
    fn every_address_has_a_line_and_what_was_dropped_is_below() {
        let expected = "\
POLICY     ADDRESS         STATE    GATEWAY      FLOWS  PORTS
legacy-db  192.168.33.100  on eth0  gw-1 (here)     12  1.0 %
lost       -               -        none             -      -  it has no gateway

Translation on this node: 12 of 65536 flows; 0 packets sent to gateways.
Dropped packets: no-gateway 5.
";
        assert_eq!(overview(&report()), expected);
    }

    #[test]
    fn a_policy_that_is_named_is_shown_whole() {
        let shown = report().policies.first().map(details);
        let expected = "\
legacy-db
  sources       10.244.0.0/16
  destinations  192.168.33.13/32
  gateway       gw-1, this node: it has the highest priority, 10
  gateways      gw-1 (priority 10), gw-2 (priority 0)
  address       192.168.33.100, on eth0
                12 flows
                most ports for tcp 192.168.33.13:443: 328 of 32768 (1.0 %)
  packets here  ipv4: leaves here as 192.168.33.100, ports 32768-65535
";
        assert_eq!(shown.as_deref(), Some(expected));
    }
}
