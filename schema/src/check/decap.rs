//! Decapsulation: devices of its own, senders that are known, and something to take.

use super::Once;
use super::prefixes::overlap;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{GUE_PORT_DEFAULT, Mode};
use crate::raw::{Decap, DeviceName, LoadBalancer, Top, each};
use crate::span::{At, Span};
use ipnetwork::IpNetwork;
use std::collections::HashMap;

pub(super) fn check(decap: &At<Decap>, top: &Top, diagnoses: &mut Diagnoses) {
    let (place, decap) = (decap.span, &decap.value);
    let balancer = top.load_balancer.as_ref().map(|at| &at.value);
    devices(decap, balancer, diagnoses);
    prefixes(decap, diagnoses);
    if let Some(balancer) = balancer {
        known_senders(decap, balancer, diagnoses);
    }
    same_gue_port(decap, balancer, top, diagnoses);
    let asks = top.services.is_some() || top.ip_pools.is_some() || decap.to.is_some();
    if !asks {
        diagnoses.push(|| {
            Draft::warning("nothing is taken out of the tunnel")
                .label(place, "the file has no services and no pools, and there is no `to` here")
        });
    }
}

/// On a device there is either the load balancer's program or this.
fn devices(decap: &Decap, balancer: Option<&LoadBalancer>, diagnoses: &mut Diagnoses) {
    let balanced: HashMap<&DeviceName, Span> = balancer
        .into_iter()
        .flat_map(|settings| each(&settings.devices))
        .map(|device| (&device.value, device.span))
        .collect();
    let mut own = Once::new();
    for device in each(&decap.devices) {
        let name = &device.value.0;
        own.claim(&device.value, device.span, diagnoses, || format!("the device `{name}` is given twice"));
        if let Some(first) = balanced.get(&device.value) {
            diagnoses.push(|| {
                Draft::error(format!("the device `{name}` cannot both balance and decapsulate"))
                    .label(device.span, "takes packets out of the tunnel")
                    .label(*first, "puts packets into the tunnel")
            });
        }
    }
}

fn prefixes(decap: &Decap, diagnoses: &mut Diagnoses) {
    let (mut from, mut to) = (Once::new(), Once::new());
    for prefix in each(&decap.from) {
        let what = || format!("`decap.from` has {} twice", prefix.value.0);
        from.claim(prefix.value, prefix.span, diagnoses, what);
        everything(
            "from",
            prefix.value.0,
            prefix.span,
            "strangers could send packets as if from inside",
            diagnoses,
        );
    }
    for prefix in each(&decap.to) {
        let what = || format!("`decap.to` has {} twice", prefix.value.0);
        to.claim(prefix.value, prefix.span, diagnoses, what);
        everything("to", prefix.value.0, prefix.span, "packets for anybody would be let in", diagnoses);
    }
}

fn everything(key: &str, network: IpNetwork, span: Span, why: &str, diagnoses: &mut Diagnoses) {
    if network.prefix() == 0 {
        diagnoses.push(|| Draft::error(format!("`decap.{key}` cannot be {network}")).label(span, why));
    }
}

/// The balancers of the same file send from these prefixes.
fn known_senders(decap: &Decap, balancer: &LoadBalancer, diagnoses: &mut Diagnoses) {
    if decap.from.as_ref().is_none_or(|from| !from.value.complete) {
        return;
    }
    for source in each(&balancer.rss_source) {
        let network = source.value.0;
        let whole = |from: IpNetwork| overlap(from, network) && from.prefix() <= network.prefix();
        if each(&decap.from).any(|from| whole(from.value.0)) {
            continue;
        }
        diagnoses.push(|| {
            let draft = Draft::warning(format!("decapsulation does not believe packets from {network}"))
                .label(source.span, "the load balancers of this file send from here");
            match &decap.from {
                Some(from) => draft.label(from.span, "not in any of these"),
                None => draft,
            }
        });
    }
}

fn same_gue_port(decap: &Decap, balancer: Option<&LoadBalancer>, top: &Top, diagnoses: &mut Diagnoses) {
    let modes = each(&top.services).filter_map(|service| service.value.mode);
    let Some(gue) = modes.into_iter().find(|mode| mode.value == Mode::DsrGue) else { return };
    let sent = balancer.and_then(|settings| settings.gue_port);
    let number =
        |port: u16, default: bool| if default { format!("{port}, the default") } else { port.to_string() };
    let sent_to = sent.map_or(GUE_PORT_DEFAULT, |at| at.value.get());
    let taken_at = decap.gue_port.map_or(GUE_PORT_DEFAULT, |at| at.value.get());
    if sent_to == taken_at {
        return;
    }
    diagnoses.push(|| {
        let (sends, takes) = (number(sent_to, sent.is_none()), number(taken_at, decap.gue_port.is_none()));
        let draft = Draft::warning(format!("GUE is sent to port {sends}, and taken out at {takes}"));
        let places = [(decap.gue_port, "taken out here"), (sent, "sent here")];
        let given = places.into_iter().filter_map(|(at, text)| Some((at?.span, text)));
        let draft = given.fold(draft, |draft, (span, text)| draft.label(span, text));
        draft.label(gue.span, "uses it")
    });
}
