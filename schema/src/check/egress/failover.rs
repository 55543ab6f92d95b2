//! Watching gateways: there is something to choose from, and those who watch can tell a dead gateway from a cut.

use super::nodes;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{Quorum, WATCHED_MAX};
use crate::raw::{Top, each};
use std::collections::BTreeSet;

/// Of two nodes none is in the majority when the other one is gone.
const NODES_MIN: usize = 3;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let Some(failover) = &top.egress_failover else { return };
    let policies = || each(&top.egress).map(|at| &at.value);
    let is_whole = top.egress.as_ref().is_none_or(|at| at.value.complete)
        && policies().all(|policy| policy.gateways.as_ref().is_some_and(|at| at.value.complete));
    if !is_whole {
        return;
    }
    if policies().all(|policy| each(&policy.gateways).count() < 2) {
        diagnoses.push(|| {
            Draft::warning("there is nothing to fail over to")
                .label(failover.span, "no egress policy has two gateways")
        });
        return;
    }
    let mut gateways = BTreeSet::new();
    for node in policies().flat_map(|policy| each(&policy.gateways)).filter_map(|at| at.value.node.as_ref()) {
        if gateways.insert(node.value.0.as_str()) && gateways.len() > WATCHED_MAX {
            diagnoses.push(|| {
                Draft::error(format!("more than {WATCHED_MAX} nodes are gateways that are watched"))
                    .label(node.span, "one too many")
                    .label(failover.span, "watched because of this")
            });
            return;
        }
    }
    let quorum = failover.value.quorum.map_or(Quorum::default(), |at| at.value);
    let Some(nodes) = nodes(top).filter(|nodes| nodes.len() < NODES_MIN) else { return };
    if quorum == Quorum::Majority {
        let place = failover.value.quorum.map_or(failover.span, |at| at.span);
        diagnoses.push(|| {
            Draft::error(format!("of {} nodes none is in the majority when another one is gone", nodes.len()))
                .label(place, "a gateway would give up its addresses as soon as it is alone")
                .help("add a third node, or say `quorum = \"none\"`: when the two do not hear each other, both have the addresses")
        });
    }
}
