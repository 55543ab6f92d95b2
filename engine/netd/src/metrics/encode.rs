//! Writes the numbers in the text format of OpenMetrics, which Prometheus reads. Names follow its rules: the unit is in the
//! name, counters end in `_total`.

use super::tally::Tally;
use crate::clock;
use crate::commands::traffic::socket;
use crate::kinds::service::{BackendTraffic, ServiceTraffic};
use crate::report::{FileState, KindReport, Report, Word};
use netd_bpf::decap::abi::Counts;
use netd_wireguard::Peer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Everything that is known at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) report: Arc<Report>,
    /// When the file in force was accepted.
    pub(super) accepted_unix_ms: Option<u64>,
    /// The counters; absent when they cannot be read.
    pub(super) services: Option<Vec<ServiceTraffic>>,
    /// Flows that have a record; absent when they cannot be read.
    pub(super) flows: Option<usize>,
    /// Packets and bytes by service.
    pub(super) totals: BTreeMap<String, (u64, u64)>,
    /// What the decapsulating program has counted, where there is one.
    pub(super) decap: Option<Counts>,
    /// What was masqueraded, where something is.
    pub(super) nat: Option<(netd_bpf::nat::abi::Counts, netd_bpf::nat::Usage)>,
    /// What strict mode has dropped, where there is such a thing.
    pub(super) strict: Option<netd_bpf::strict::abi::Counts>,
    /// The peers of the WireGuard device, by the names of their nodes.
    pub(super) peers: BTreeMap<String, Peer>,
    pub(super) tally: Tally,
}

/// The page.
pub(super) fn encode(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.netd(&mut out)?;
        self.passes(&mut out)?;
        self.resources(&mut out)?;
        self.services(&mut out)?;
        self.pools(&mut out)?;
        self.backends(&mut out)?;
        super::bgp::encode(self.report.bgp.as_ref(), &mut out)?;
        super::nat::encode(self.nat.as_ref(), &mut out)?;
        super::gateways::encode(self.report.gateways.as_ref(), &mut out)?;
        super::strict::encode(self.strict.as_ref(), &mut out)?;
        super::wireguard::encode(&self.peers, Duration::from_millis(clock::unix_ms()), &mut out)?;
        self.decap(&mut out)
    }
}

/// A label's name and its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// One number of a family.
pub(super) type Sample<'a, const N: usize> = ([Label<'a>; N], u64);

/// Writes families of numbers; one without any is left out.
pub(super) struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    pub(super) fn counter<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = Sample<'a, N>>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Counter), samples, ConstCounter::new)
    }

    pub(super) fn gauge<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Iterator<Item = Sample<'a, N>>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Gauge), samples, ConstGauge::new)
    }

    fn family<'a, const N: usize, M: EncodeMetric>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        samples: impl Iterator<Item = Sample<'a, N>>,
        metric: impl Fn(u64) -> M,
    ) -> fmt::Result {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            match N {
                // Braces without labels are not in the format.
                0 => metric(value).encode(family)?,
                _ => {
                    metric(value).encode(family.encode_family(&labels)?)?;
                    continue;
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// A gauge that has one value.
    pub(super) fn one(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauge(name, help, std::iter::once(([(); 0].map(|()| ("", "")), value)))
    }
}

/// 1 for the word that is so, 0 for the others: a set of states as Prometheus has them.
fn states<'a>(
    words: impl IntoIterator<Item = &'static str>,
    now: &'a str,
    label: &'static str,
) -> impl Iterator<Item = Sample<'a, 1>> {
    words.into_iter().map(move |word| ([(label, word)], u64::from(word == now)))
}

const WORDS: [Word; 8] = [
    Word::Starting,
    Word::TornDown,
    Word::ConfigMissing,
    Word::ConfigInvalid,
    Word::HeldBack,
    Word::Degraded,
    Word::Pending,
    Word::Ok,
];

/// Whether the file as it is will not come into force.
fn is_rejected(state: FileState) -> bool {
    match state {
        FileState::Unseen | FileState::Acceptable | FileState::Accepted => false,
        FileState::HeldBack
        | FileState::Invalid
        | FileState::Missing
        | FileState::Refused
        | FileState::Unreadable => true,
    }
}

impl Snapshot {
    fn netd(&self, out: &mut Out<'_>) -> fmt::Result {
        let report = &self.report;
        let version = [("version", env!("CARGO_PKG_VERSION")), ("instance_name", report.instance.as_str())];
        out.gauge("netd_build_info", "Which netd this is.", std::iter::once((version, 1)))?;
        let word = report.word.word();
        out.gauge(
            "netd_status",
            "How the node stands against its file: 1 for the word that is so.",
            states(WORDS.map(Word::word), word, "status"),
        )?;
        if let Some(now) = &report.config.in_force {
            out.one("netd_config_generation", "The number in the history of the file in force.", now.number)?;
        }
        if let Some(at) = self.accepted_unix_ms {
            let help = "When the file in force was accepted, in seconds of Unix time.";
            out.one("netd_config_accepted_timestamp_seconds", help, at / 1000)?;
        }
        out.one(
            "netd_config_rejected",
            "Whether the file as it is now is not put in force, because of mistakes or until it is allowed.",
            is_rejected(report.config.state).into(),
        )?;
        out.counter(
            "netd_drift_repaired",
            "Resources that somebody else had changed, and that were repaired.",
            std::iter::once(([], report.drift.resources)),
        )
    }

    fn passes(&self, out: &mut Out<'_>) -> fmt::Result {
        let Tally { passes, seconds, applied, not_applied, .. } = &self.tally;
        out.counter(
            "netd_passes",
            "Passes since netd started, by reason.",
            passes.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
        )?;
        let family = out.0.encode_descriptor(
            "netd_pass_duration_seconds",
            "How long passes took.",
            None,
            MetricType::Histogram,
        )?;
        seconds.encode(family)?;
        let results = |applied, not_applied| {
            [("applied", applied), ("not_applied", not_applied)]
                .into_iter()
                .map(|(result, count)| ([("result", result)], count))
        };
        out.counter("netd_changes", "Changes since netd started.", results(*applied, *not_applied))?;
        let pass = &self.report.pass;
        out.gauge(
            "netd_plan_changes",
            "Changes of the last pass.",
            results(pass.applied as u64, pass.not_applied as u64),
        )?;
        let help = "When the last pass ended, in seconds of Unix time.";
        out.one("netd_pass_ended_timestamp_seconds", help, pass.ended_unix_ms / 1000)
    }

    fn resources(&self, out: &mut Out<'_>) -> fmt::Result {
        let known = || self.report.kinds.iter().filter(|(_, counts)| counts.unread.is_none());
        out.gauge(
            "netd_resources",
            "Resources that the file asks for or that are left, by kind and status.",
            known().flat_map(|(kind, counts)| {
                let KindReport { desired: _, ready, pending, failed, conflict, unread: _ } = counts;
                let by_status =
                    [("ready", ready), ("pending", pending), ("failed", failed), ("conflict", conflict)];
                by_status
                    .map(|(status, count)| ([("kind", kind.as_str()), ("status", status)], *count as u64))
            }),
        )?;
        out.gauge(
            "netd_resources_desired",
            "Resources that the file asks for, by kind.",
            known().map(|(kind, counts)| ([("kind", kind.as_str())], counts.desired as u64)),
        )?;
        out.gauge(
            "netd_kind_unread",
            "Whether nothing is known of a kind, because it could not be read.",
            self.report
                .kinds
                .iter()
                .map(|(kind, counts)| ([("kind", kind.as_str())], counts.unread.is_some().into())),
        )
    }

    fn services(&self, out: &mut Out<'_>) -> fmt::Result {
        out.one(
            "netd_counters_readable",
            "Whether the load balancer's counters could be read.",
            self.services.is_some().into(),
        )?;
        if let Some(flows) = self.flows {
            out.one("netd_flows_kept", "Flows that a record keeps on their backend.", flows as u64)?;
        }
        let totals = || self.totals.iter().filter(|_| self.services.is_some());
        out.counter(
            "netd_service_packets",
            "Packets sent to backends of a service, since netd began to serve these numbers.",
            totals().map(|(service, (packets, _))| ([("service", service.as_str())], *packets)),
        )?;
        out.counter(
            "netd_service_bytes",
            "Bytes of these packets, from the IP header of the client's packet on.",
            totals().map(|(service, (_, bytes))| ([("service", service.as_str())], *bytes)),
        )?;
        let services = || self.services.iter().flatten().filter(|service| service.pool().is_none());
        out.counter(
            "netd_service_dropped_packets",
            "Packets for a service that were dropped, by reason.",
            services().flat_map(|service| {
                let label =
                    |(reason, count)| ([("service", service.service.as_str()), ("reason", reason)], count);
                service.drops().into_iter().map(label)
            }),
        )?;
        out.counter(
            "netd_service_events",
            "What was counted of a service besides: answers to clients, fragments, what was left to the kernel.",
            services().flat_map(|service| {
                let label =
                    |(event, count)| ([("service", service.service.as_str()), ("event", event)], count);
                service.besides().into_iter().map(label)
            }),
        )?;
        out.counter(
            "netd_service_kept_flows",
            "Records made of flows whose slot was given to another backend.",
            services().map(|service| ([("service", service.service.as_str())], service.kept_flows())),
        )?;
        out.gauge(
            "netd_frontend_info",
            "The frontends of a service.",
            services().flat_map(|service| {
                let name = service.service.as_str();
                service.frontends.iter().map(move |one| ([("service", name), ("frontend", one.as_str())], 1))
            }),
        )
    }

    /// What was for addresses that no service has; whoever scans them is not to ring an alarm about a service.
    fn pools(&self, out: &mut Out<'_>) -> fmt::Result {
        let pools = || {
            self.services.iter().flatten().filter_map(|counted| counted.pool().map(|name| (name, counted)))
        };
        let labelled = |pool, name: &'static str| {
            move |(value, count): (&'static str, u64)| ([("pool", pool), (name, value)], count)
        };
        out.counter(
            "netd_pool_dropped_packets",
            "Packets for unassigned addresses of a pool that were dropped, by reason.",
            pools().flat_map(|(pool, counted)| counted.drops().into_iter().map(labelled(pool, "reason"))),
        )?;
        out.counter(
            "netd_pool_events",
            "What was counted of unassigned addresses of a pool besides: answers to clients, what was left to the kernel.",
            pools().flat_map(|(pool, counted)| counted.besides().into_iter().map(labelled(pool, "event"))),
        )
    }

    fn backends(&self, out: &mut Out<'_>) -> fmt::Result {
        let sockets: Vec<(&str, String, &BackendTraffic)> = self
            .services
            .iter()
            .flatten()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, one)| (service.service.as_str(), socket(one.address, one.port), one))
            .collect();
        let each = |value: fn(&BackendTraffic) -> u64| {
            sockets.iter().map(move |(service, socket, one)| {
                ([("service", *service), ("backend", socket.as_str())], value(one))
            })
        };
        out.counter("netd_backend_packets", "Packets sent to a backend.", each(|one| one.packets))?;
        out.counter(
            "netd_backend_bytes",
            "Bytes of these packets, from the IP header of the client's packet on.",
            each(|one| one.bytes),
        )?;
        out.counter(
            "netd_backend_new_flows",
            "TCP connections that were begun with a backend.",
            each(|one| one.new_flows),
        )?;
        out.gauge("netd_backend_weight", "The weight of a backend.", each(|one| one.weight.into()))?;
        out.gauge(
            "netd_backend_info",
            "The state of a backend.",
            sockets.iter().map(|(service, socket, one)| {
                ([("service", *service), ("backend", socket.as_str()), ("state", &*one.state)], 1)
            }),
        )
    }

    fn decap(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(counts) = self.decap else { return Ok(()) };
        let Counts { packets, bytes, strangers, not_taken, malformed, congested, reserved: _ } = counts;
        let mut one = |name: &str, help: &str, value| out.counter(name, help, std::iter::once(([], value)));
        one("netd_decap_packets", "Packets taken out of the tunnel.", packets)?;
        one("netd_decap_bytes", "Bytes of these packets, from the inner IP header on.", bytes)?;
        let help =
            "Packets of known balancers that were left in their tunnel, because they are for nobody known.";
        one("netd_decap_not_taken_packets", help, not_taken)?;
        let reasons = [("strangers", strangers), ("malformed", malformed), ("congested", congested)];
        out.counter(
            "netd_decap_dropped_packets",
            "Packets that were dropped in their tunnel, by reason.",
            reasons.into_iter().map(|(reason, count)| ([("reason", reason)], count)),
        )
    }
}

/// What one part of the page writes, as a page of its own.
#[cfg(test)]
pub(super) fn written(part: impl Fn(&mut Out<'_>) -> fmt::Result + Send + Sync + 'static) -> String {
    struct Part<F>(F);
    impl<F> fmt::Debug for Part<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Part")
        }
    }
    impl<F: Fn(&mut Out<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Part<F> {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            (self.0)(&mut Out(encoder))
        }
    }
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Part(part)));
    let mut page = String::new();
    let _ = text::encode(&mut page, &registry);
    page
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
