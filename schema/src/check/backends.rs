//! One list of backends, of a service or of a set.

use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Backends, WEIGHT_DEFAULT};
use crate::span::Span;
use std::net::IpAddr;

/// The ports that the backends of one address say, and where.
pub(super) type Ports = Vec<(Option<u16>, Span)>;

/// What services need to know of a list of backends.
#[derive(Default)]
pub(super) struct Summary {
    /// All could be read: what is not here was not written.
    pub(super) complete: bool,
    pub(super) first_v4: Option<Span>,
    pub(super) first_v6: Option<Span>,
    /// How many there are with IPv4 and with IPv6 addresses.
    pub(super) counts: [usize; 2],
    /// Addresses that occur with several ports, each with its places.
    pub(super) several_ports: Vec<(IpAddr, Ports)>,
}

pub(super) fn check(backends: &Backends, diagnoses: &mut Diagnoses) -> Summary {
    let mut rows: Vec<(IpAddr, Option<u16>, Span)> = Vec::with_capacity(backends.value.items.len());
    let mut summary = Summary { complete: backends.value.complete, ..Summary::default() };
    let mut weights = [(0_u64, 0_usize); 2];
    for backend in &backends.value.items {
        let Some(address) = backend.value.address else {
            summary.complete = false;
            continue;
        };
        let ip = address.value.0;
        let first = if ip.is_ipv4() { &mut summary.first_v4 } else { &mut summary.first_v6 };
        first.get_or_insert(address.span);
        rows.push((ip, backend.value.port.map(|at| at.value.get()), backend.span));
        let weight = backend.value.weight.map_or(WEIGHT_DEFAULT, |at| at.value.get());
        let [v4, v6] = &mut weights;
        let (sum, count) = if ip.is_ipv4() { v4 } else { v6 };
        *sum += u64::from(weight);
        *count += 1;
    }
    for ((sum, count), family) in weights.into_iter().zip(["IPv4", "IPv6"]) {
        if sum == 0 && count > 0 && summary.complete {
            diagnoses.push(|| {
                Draft::error(format!("all {family} backends have weight 0"))
                    .label(backends.span, "nothing would be given traffic")
                    .help("leave at least one with a weight above 0; to take a service down, remove it")
            });
        }
    }
    summary.counts = weights.map(|(_, count)| count);
    duplicates(rows, &mut summary, diagnoses);
    summary
}

fn duplicates(mut rows: Vec<(IpAddr, Option<u16>, Span)>, summary: &mut Summary, diagnoses: &mut Diagnoses) {
    rows.sort_unstable();
    for same_address in rows.chunk_by(|a, b| a.0 == b.0).filter(|rows| rows.len() > 1) {
        let mut ports: Ports = Vec::new();
        for (address, port, span) in same_address {
            match ports.last() {
                Some((last, first)) if last == port => {
                    let (first, span) = (*first, *span);
                    diagnoses.push(|| {
                        let port = port.map(|port| format!(" with port {port}")).unwrap_or_default();
                        Draft::error(format!("the backend {address}{port} is given twice"))
                            .label(span, "here again")
                            .label(first, "first here")
                            .help("a greater share is given by `weight`")
                    });
                }
                _ => ports.push((*port, *span)),
            }
        }
        if let (Some((address, _, _)), true) = (same_address.first(), ports.len() > 1) {
            summary.several_ports.push((*address, ports));
        }
    }
}
