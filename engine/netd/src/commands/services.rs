//! `netd services`: what went through each service, and what was dropped.

use super::rates::shown as rate;
use super::traffic::dropped;
use super::watch::{self, Pictures, Shown};
use super::{backends, table};
use crate::cli::{Global, ServicesArgs};
use crate::kinds::service::ServiceTraffic;
use netd_core::render::escape;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// So many frontends are named in a line; the rest is counted.
const FRONTENDS_SHOWN_MAX: usize = 2;

pub(super) async fn run(global: &Global, args: &ServicesArgs) -> anyhow::Result<ExitCode> {
    watch::run(global, &args.shown, &args.names, &Pictures { table: text, lines, json }).await
}

/// One table for all; of those that were asked for by name everything that is known.
fn text(services: &[Shown], names: &[String]) -> String {
    if services.is_empty() {
        return "No service is in force; `netd plan` shows what the file asks for.\n".to_owned();
    }
    if names.is_empty() {
        return overview(services);
    }
    services.iter().map(detail).collect::<Vec<_>>().join("\n")
}

fn overview(services: &[Shown]) -> String {
    let has_rates = services.iter().any(|service| service.rates.is_some());
    let mut head = vec!["service", "frontends", "backends", "packets", "bytes", "kept flows", "dropped"];
    if has_rates {
        head.extend(["packets/s", "bytes/s", "dropped/s"]);
    }
    head.push("dropped because");
    let numbers = 2..head.len() - 1;
    let mut rows: Vec<Vec<String>> = services.iter().map(|service| row(service, has_rates)).collect();
    if services.len() > 1 {
        rows.push(total(services, has_rates));
    }
    table::table(&head, numbers, rows)
}

fn row(shown: &Shown, has_rates: bool) -> Vec<String> {
    let service = &shown.traffic;
    let mut row = vec![
        escape(&service.service),
        frontends(service),
        in_use(service),
        service.packets.to_string(),
        service.bytes.to_string(),
        service.kept_flows().to_string(),
        dropped(service).to_string(),
    ];
    if has_rates {
        row.extend(rate_cells(shown));
    }
    row.push(reasons(service));
    row
}

fn total(services: &[Shown], has_rates: bool) -> Vec<String> {
    let sum = |count: fn(&ServiceTraffic) -> u64| {
        services.iter().fold(0, |sum: u64, one| sum.wrapping_add(count(&one.traffic))).to_string()
    };
    let backends: usize = services.iter().map(|one| one.traffic.backends.len()).sum();
    let mut row = vec![
        "total".to_owned(),
        String::new(),
        backends.to_string(),
        sum(|one| one.packets),
        sum(|one| one.bytes),
        sum(ServiceTraffic::kept_flows),
        sum(dropped),
    ];
    if has_rates {
        let rates = || services.iter().filter_map(|one| one.rates.as_ref());
        row.push(rate(rates().map(|one| one.packets).sum()));
        row.push(rate(rates().map(|one| one.bytes).sum()));
        row.push(rate(rates().map(|one| one.dropped).sum()));
    }
    row.push(String::new());
    row
}

fn rate_cells(shown: &Shown) -> [String; 3] {
    match &shown.rates {
        Some(rates) => [rates.packets, rates.bytes, rates.dropped].map(rate),
        None => [(); 3].map(|()| String::new()),
    }
}

fn frontends(service: &ServiceTraffic) -> String {
    if service.pool().is_some() {
        return "unassigned addresses".to_owned();
    }
    let named = service.frontends.iter().take(FRONTENDS_SHOWN_MAX).cloned().collect::<Vec<_>>().join(" ");
    match service.frontends.len().saturating_sub(FRONTENDS_SHOWN_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The backends, and of how many of them new flows are kept away.
fn in_use(service: &ServiceTraffic) -> String {
    if service.pool().is_some() {
        return "-".to_owned();
    }
    let all = service.backends.len();
    let active = service.backends.iter().filter(|one| one.state == "active" && one.weight > 0).count();
    if active == all { all.to_string() } else { format!("{active} of {all}") }
}

/// The reasons for which something was dropped, with how much.
fn reasons(service: &ServiceTraffic) -> String {
    let counted = service.drops().into_iter().filter(|(_, count)| *count > 0);
    counted.map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
}

/// Everything about one service.
fn detail(shown: &Shown) -> String {
    let service = &shown.traffic;
    let mut text = format!("{}\n", escape(&service.service));
    // Writing into a String cannot fail.
    let is_pool = service.pool().is_some();
    let mut counted = Vec::new();
    if is_pool {
        text.push_str("  what was for addresses that no service has\n");
    } else {
        let _ = writeln!(text, "  frontends   {}", service.frontends.join(" "));
        counted.extend([
            ("packets", service.packets),
            ("bytes", service.bytes),
            ("kept flows", service.kept_flows()),
        ]);
    }
    counted.push(("dropped", dropped(service)));
    let per_second = |name: &str| match (&shown.rates, name) {
        (Some(rates), "packets") => format!("   {}/s", rate(rates.packets)),
        (Some(rates), "bytes") => format!("   {}/s", rate(rates.bytes)),
        (Some(rates), "dropped") => format!("   {}/s", rate(rates.dropped)),
        _ => String::new(),
    };
    for (name, count) in counted {
        let _ = writeln!(text, "  {name:<11} {count}{}", per_second(name));
    }
    indented(&mut text, &service.drops());
    let besides = service.besides();
    if besides.iter().any(|(_, count)| *count > 0) {
        text.push_str("  besides\n");
        indented(&mut text, &besides);
    }
    if is_pool {
        return text;
    }
    if service.backends.is_empty() {
        text.push_str("  no backends\n");
        return text;
    }
    text.push('\n');
    text.push_str(&backends::of_one(shown));
    text
}

/// What is not zero, a line each.
fn indented(text: &mut String, counts: &[(&str, u64)]) {
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(text, "    {name:<13} {count}");
    }
}

/// What a reader of a log or a pipe gets.
fn lines(shown: &Shown) -> Vec<String> {
    let service = &shown.traffic;
    let [packets, bytes, drops] = rate_cells(shown).map(|rate| match rate.is_empty() {
        true => rate,
        false => format!(" +{rate}/s"),
    });
    vec![format!(
        "{} packets {}{packets} bytes {}{bytes} dropped {}{drops}",
        escape(&service.service),
        service.packets,
        service.bytes,
        dropped(service)
    )]
}

fn json(services: &[Shown]) -> Value {
    let one = |shown: &Shown| {
        let mut value = json!(shown.traffic);
        if let (Some(object), Some(rates)) = (value.as_object_mut(), &shown.rates) {
            object.insert("per_second".into(), json!(rates));
            let backends = object.get_mut("backends").and_then(Value::as_array_mut).into_iter().flatten();
            for (backend, rates) in backends.zip(&rates.backends) {
                backend["per_second"] = json!(rates);
            }
        }
        value
    };
    services.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::commands::rates::{BackendRates, Rates};
    use crate::kinds::service::BackendTraffic;

    fn service(name: &str, packets: u64) -> ServiceTraffic {
        let backend = |last: u8, state: &'static str, packets| BackendTraffic {
            state: state.into(),
            ..BackendTraffic::active([10, 0, 0, last], packets)
        };
        ServiceTraffic {
            service: name.into(),
            frontends: vec!["192.0.2.10:80/tcp".into()],
            packets,
            bytes: packets * 100,
            counts: [("no_next_hop".into(), 3), ("echo_replies".into(), 9)].into(),
            backends: vec![backend(1, "active", packets), backend(2, "terminating", 0)],
        }
    }

    fn shown(name: &str, packets: u64, has_rates: bool) -> Shown {
        let rates = Rates {
            packets: 12.0,
            bytes: 1200.0,
            dropped: 0.5,
            backends: vec![BackendRates { packets: 12.0, bytes: 1200.0 }, BackendRates::default()],
        };
        Shown { traffic: service(name, packets), rates: has_rates.then_some(rates) }
    }

    #[test]
    fn the_table_has_a_total_and_the_reasons() {
        let text = text(&[shown("web", 40, false), shown("dns", 2, false)], &[]);
        let expected = "\
SERVICE  FRONTENDS          BACKENDS  PACKETS  BYTES  KEPT FLOWS  DROPPED  DROPPED BECAUSE
web      192.0.2.10:80/tcp    1 of 2       40   4000           0        3  no_next_hop 3
dns      192.0.2.10:80/tcp    1 of 2        2    200           0        3  no_next_hop 3
total                              4       42   4200           0        6
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_named_service_is_shown_with_its_backends() {
        let text = text(&[shown("web", 40, true)], &["web".into()]);
        for part in [
            "  packets     40   12/s\n",
            "    no_next_hop   3\n  besides\n    echo_replies  9\n\n",
            "10.0.0.2:80",
            "terminating",
            "100.0%",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_pool_has_neither_frontends_nor_backends() {
        let counts = [("unknown_port".into(), 5), ("rejected".into(), 4)].into();
        let traffic = ServiceTraffic { service: "pool/public".into(), counts, ..ServiceTraffic::default() };
        let pool = || Shown { traffic: traffic.clone(), rates: None };
        let row = "pool/public  unassigned addresses         -        0      0           0        5  unknown_port 5\n";
        let all = text(&[shown("web", 40, false), pool()], &[]);
        assert!(all.contains(row), "{all}");
        let expected = "\
pool/public
  what was for addresses that no service has
  dropped     5
    unknown_port  5
  besides
    rejected      4
";
        assert_eq!(text(&[pool()], &["pool/public".into()]), expected);
    }

    #[test]
    fn without_a_terminal_each_look_is_a_line_with_rates() {
        assert_eq!(
            lines(&shown("web", 40, true)),
            ["web packets 40 +12/s bytes 4000 +1200/s dropped 3 +0.5/s"]
        );
        assert_eq!(lines(&shown("web", 40, false)), ["web packets 40 bytes 4000 dropped 3"]);
    }

    #[test]
    fn rates_are_beside_the_counts_in_json() {
        let value = json(&[shown("web", 40, true)]);
        assert_eq!(value.pointer("/0/per_second/packets"), Some(&json!(12.0)));
        assert_eq!(value.pointer("/0/backends/0/per_second/bytes"), Some(&json!(1200.0)));
        assert_eq!(json(&[shown("web", 40, false)]).pointer("/0/per_second"), None);
    }
}
