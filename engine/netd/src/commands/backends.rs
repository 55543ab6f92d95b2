//! `netd backends`: what went to each backend.

use super::rates::{BackendRates, shown as rate};
use super::table;
use super::traffic::socket;
use super::watch::{self, Pictures, Shown};
use crate::cli::{BackendsArgs, Global};
use crate::kinds::service::{BackendTraffic, ServiceTraffic};
use netd_core::render::escape;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) async fn run(global: &Global, args: &BackendsArgs) -> anyhow::Result<ExitCode> {
    watch::run(global, &args.shown, &args.services, &Pictures { table: text, lines, json }).await
}

/// The backends of a service, for whoever shows the service itself.
pub(super) fn of_one(service: &Shown) -> String {
    let columns = Columns::of(std::slice::from_ref(service));
    table::table(&columns.head(), columns.numbers(), rows(service, columns))
}

fn text(services: &[Shown], _: &[String]) -> String {
    let count: usize = services.iter().map(|one| one.traffic.backends.len()).sum();
    if count == 0 {
        return "No service with backends is in force; `netd plan` shows what the file asks for.\n"
            .to_owned();
    }
    let columns = Columns::of(services);
    let mut head = columns.head();
    head.insert(0, "service");
    let mut all = Vec::new();
    for service in services {
        for mut row in rows(service, columns) {
            row.insert(0, escape(&service.traffic.service));
            all.push(row);
        }
    }
    if count > 1 {
        all.push(total(services, columns));
    }
    table::table(&head, columns.numbers().map(|column| column + 1), all)
}

/// The place of the new flows in a row.
const NEW_FLOWS: usize = 6;

/// Which columns there are beside those that always are.
#[derive(Clone, Copy)]
struct Columns {
    rates: bool,
    why: bool,
}

impl Columns {
    fn of(services: &[Shown]) -> Self {
        let mut backends = services.iter().flat_map(|one| &one.traffic.backends);
        Self {
            rates: services.iter().any(|one| one.rates.is_some()),
            why: backends.any(|backend| backend.why.is_some()),
        }
    }

    fn head(self) -> Vec<&'static str> {
        let mut head = vec!["backend", "state", "weight", "packets", "bytes", "share", "new flows"];
        if self.rates {
            head.extend(["packets/s", "bytes/s"]);
        }
        if self.why {
            head.push("why");
        }
        head
    }

    /// Those that are aligned as numbers.
    fn numbers(self) -> std::ops::Range<usize> {
        2..if self.rates { 9 } else { 7 }
    }
}

fn rows(service: &Shown, columns: Columns) -> Vec<Vec<String>> {
    let all = service.traffic.packets;
    let each = service.traffic.backends.iter().zip(backend_rates(service));
    let of_tcp = has_tcp(&service.traffic);
    each.map(|(backend, rates)| {
        let mut row = row(backend, rates, columns, all);
        if !of_tcp && let Some(cell) = row.get_mut(NEW_FLOWS) {
            "-".clone_into(cell);
        }
        row
    })
    .collect()
}

/// Only TCP says which packet is the first of a flow.
fn has_tcp(service: &ServiceTraffic) -> bool {
    service.frontends.is_empty() || service.frontends.iter().any(|frontend| frontend.ends_with("/tcp"))
}

/// The rates of each backend; `None` at the first look.
fn backend_rates(service: &Shown) -> impl Iterator<Item = Option<BackendRates>> {
    let known = service.rates.iter().flat_map(|rates| &rates.backends).copied().map(Some);
    known.chain(std::iter::repeat(None))
}

fn row(backend: &BackendTraffic, rates: Option<BackendRates>, columns: Columns, all: u64) -> Vec<String> {
    let BackendTraffic { address, port, state, why, weight, packets, bytes, new_flows } = backend;
    let mut row = vec![
        socket(*address, *port),
        escape(state),
        weight.to_string(),
        packets.to_string(),
        bytes.to_string(),
        share(*packets, all),
        new_flows.to_string(),
    ];
    if columns.rates {
        let cells = rates.map(|rates| [rate(rates.packets), rate(rates.bytes)]);
        row.extend(cells.unwrap_or_default());
    }
    if columns.why {
        row.push(why.as_deref().map(escape).unwrap_or_default());
    }
    row
}

/// The share of the service's packets, in percent.
fn share(packets: u64, all: u64) -> String {
    match all {
        0 => "-".to_owned(),
        all => format!("{:.1}%", packets as f64 * 100.0 / all as f64),
    }
}

fn total(services: &[Shown], columns: Columns) -> Vec<String> {
    let backends = || services.iter().flat_map(|one| &one.traffic.backends);
    let sum = |count: fn(&BackendTraffic) -> u64| {
        backends().fold(0, |sum: u64, one| sum.wrapping_add(count(one))).to_string()
    };
    let empty = String::new;
    let mut row = vec![
        "total".to_owned(),
        empty(),
        empty(),
        empty(),
        sum(|one| one.packets),
        sum(|one| one.bytes),
        empty(),
        sum(|one| one.new_flows),
    ];
    if columns.rates {
        let rates = || services.iter().filter_map(|one| one.rates.as_ref());
        row.push(rate(rates().map(|one| one.packets).sum()));
        row.push(rate(rates().map(|one| one.bytes).sum()));
    }
    row.resize(columns.head().len() + 1, empty());
    row
}

/// What a reader of a log or a pipe gets.
fn lines(service: &Shown) -> Vec<String> {
    let each = service.traffic.backends.iter().zip(backend_rates(service));
    let line = |(backend, rates): (&BackendTraffic, Option<BackendRates>)| {
        let [packets, bytes] = match rates {
            Some(rates) => [rates.packets, rates.bytes].map(|one| format!(" +{}/s", rate(one))),
            None => [(); 2].map(|()| String::new()),
        };
        let why = backend.why.as_deref().map(|why| format!(" ({})", escape(why))).unwrap_or_default();
        format!(
            "{} {} {}{why} weight {} packets {}{packets} bytes {}{bytes} new flows {}",
            escape(&service.traffic.service),
            socket(backend.address, backend.port),
            escape(&backend.state),
            backend.weight,
            backend.packets,
            backend.bytes,
            backend.new_flows
        )
    };
    each.map(line).collect()
}

fn json(services: &[Shown]) -> Value {
    let of_service = |service: &Shown| -> Vec<Value> {
        let each = service.traffic.backends.iter().zip(backend_rates(service));
        each.map(|(backend, rates)| {
            let mut value = json!(backend);
            value["service"] = json!(service.traffic.service);
            if let Some(rates) = rates {
                value["per_second"] = json!(rates);
            }
            value
        })
        .collect()
    };
    services.iter().flat_map(of_service).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::commands::rates::Rates;

    fn shown(name: &str, has_rates: bool) -> Shown {
        let backend = |last: u16, packets| BackendTraffic::active([0xfd00, 0, 0, 0, 0, 0, 0, last], packets);
        let traffic = ServiceTraffic {
            service: name.into(),
            packets: 40,
            backends: vec![backend(1, 30), backend(2, 10)],
            ..ServiceTraffic::default()
        };
        let rates = Rates {
            packets: 5.0,
            bytes: 50.0,
            dropped: 0.0,
            backends: vec![BackendRates { packets: 5.0, bytes: 50.0 }, BackendRates::default()],
        };
        Shown { traffic, rates: has_rates.then_some(rates) }
    }

    #[test]
    fn each_backend_has_its_share_and_all_have_a_total() {
        let text = text(&[shown("web", false)], &[]);
        let expected = "\
SERVICE  BACKEND       STATE   WEIGHT  PACKETS  BYTES  SHARE  NEW FLOWS
web      [fd00::1]:80  active     100       30   3000  75.0%          3
web      [fd00::2]:80  active     100       10   1000  25.0%          1
total                                       40   4000                 4
";
        assert_eq!(text, expected);
    }

    #[test]
    fn rates_follow_the_counts() {
        assert!(of_one(&shown("web", true)).contains("PACKETS/S  BYTES/S"));
        assert_eq!(
            lines(&shown("web", true)),
            [
                "web [fd00::1]:80 active weight 100 packets 30 +5.0/s bytes 3000 +50/s new flows 3",
                "web [fd00::2]:80 active weight 100 packets 10 +0/s bytes 1000 +0/s new flows 1",
            ]
        );
        let value = json(&[shown("web", true)]);
        assert_eq!(value.pointer("/0/per_second/packets"), Some(&json!(5.0)));
        assert_eq!(value.pointer("/1/service"), Some(&json!("web")));
    }

    #[test]
    fn why_a_backend_gets_no_new_flows_is_said_where_it_is_known() {
        let mut shown = shown("web", false);
        shown.traffic.backends[0].state = "quarantined".into();
        shown.traffic.backends[0].why = Some("unhealthy since noon: connection refused".into());
        let text = text(std::slice::from_ref(&shown), &[]);
        let expected = "\
SERVICE  BACKEND       STATE        WEIGHT  PACKETS  BYTES  SHARE  NEW FLOWS  WHY
web      [fd00::1]:80  quarantined     100       30   3000  75.0%          3  unhealthy since noon: connection refused
web      [fd00::2]:80  active          100       10   1000  25.0%          1
total                                            40   4000                 4
";
        assert_eq!(text, expected);
        assert!(lines(&shown)[0].contains("quarantined (unhealthy since noon: connection refused) weight"));
        assert_eq!(json(&[shown]).pointer("/1/why"), None);
    }

    #[test]
    fn flows_of_udp_have_no_first_packet_to_count() {
        let mut shown = shown("web", false);
        for (protocol, expected) in [("udp", "75.0%          -\n"), ("tcp", "75.0%          3\n")] {
            shown.traffic.frontends = vec![format!("[2001:db8::1]:53/{protocol}")];
            let text = of_one(&shown);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn nothing_has_no_share() {
        assert_eq!(share(0, 0), "-");
        assert_eq!(share(1, 3), "33.3%");
    }
}
