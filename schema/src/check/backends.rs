//! One list of backends, of a service or of a set.

use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{BackendState, Family};
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
    v4: Share,
    v6: Share,
    /// Addresses that occur with several ports, each with its places.
    pub(super) several_ports: Vec<(IpAddr, Ports)>,
}

/// The backends of one family.
#[derive(Default)]
pub(super) struct Share {
    /// Where the first one is; `None` if there is none.
    pub(super) first: Option<Span>,
    pub(super) count: usize,
    /// How many are active and have a weight, so that new flows go there.
    pub(super) open: usize,
    /// The sum of all weights.
    pub(super) weight: u64,
}

impl Summary {
    pub(super) fn of(&self, family: Family) -> &Share {
        match family {
            Family::Ipv4 => &self.v4,
            Family::Ipv6 => &self.v6,
        }
    }

    pub(super) fn has_backends(&self) -> bool {
        self.v4.count + self.v6.count > 0
    }
}

pub(super) fn check(backends: &Backends, diagnoses: &mut Diagnoses) -> Summary {
    let mut rows: Vec<(IpAddr, Option<u16>, Span)> = Vec::with_capacity(backends.value.items.len());
    let mut summary = Summary { complete: backends.value.complete, ..Summary::default() };
    for backend in &backends.value.items {
        let Some(address) = backend.value.address else {
            summary.complete = false;
            continue;
        };
        let ip = address.value.0;
        rows.push((ip, backend.value.port.map(|at| at.value.get()), backend.span));
        let weight = backend.value.weight.map_or(WEIGHT_DEFAULT, |at| at.value.get());
        let is_active = backend.value.state.is_none_or(|at| at.value == BackendState::Active);
        let share = if ip.is_ipv4() { &mut summary.v4 } else { &mut summary.v6 };
        share.first.get_or_insert(address.span);
        share.count += 1;
        share.open += usize::from(is_active && weight > 0);
        share.weight += u64::from(weight);
    }
    for family in Family::BOTH {
        let share = summary.of(family);
        if share.weight == 0 && share.count > 0 && summary.complete {
            diagnoses.push(|| {
                Draft::error(format!("all {} backends have weight 0", family.word()))
                    .label(backends.span, "nothing would be given traffic")
                    .help("leave at least one with a weight above 0; to take a service down, remove it")
            });
        }
    }
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
