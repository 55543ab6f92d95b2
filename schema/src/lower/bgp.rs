//! What `[bgp]` means.

use super::{each, raw};
use crate::model::{Aggregate, Announcement, Bfd, Bgp, BgpPeer, BgpTls, Family, Gobgpd, Import, TlsIdentity};
use crate::raw::{GobgpdWord, GracefulRestart, List};
use crate::span::At;
use std::collections::HashMap;
use std::time::Duration;

pub(super) fn lower(raw: &raw::Bgp) -> Option<Bgp> {
    let standard = Bgp::default();
    let asn = raw.asn?.value.wide();
    let mut peers: Vec<BgpPeer> = each(&raw.peers).filter_map(|at| peer(&at.value)).collect();
    peers.sort_by(|a, b| (a.address, a.port, &a.name).cmp(&(b.address, b.port, &b.name)));
    let names: HashMap<String, String> =
        peers.iter().map(|peer| (peer.address.to_string(), peer.name.clone())).collect();
    let mut announce =
        raw.announce.as_ref().map_or(standard.announce, |_| values(&raw.announce, |class| *class));
    announce.sort();
    Some(Bgp {
        asn,
        router_id: raw.router_id.map(|id| id.value.0),
        listen_port: raw.listen_port.map(|port| port.value.get()),
        gobgpd: raw.gobgpd.as_ref().map_or(Gobgpd::Managed, |at| gobgpd(&at.value, raw)),
        on_exit: raw.on_exit.map_or(standard.on_exit, |at| at.value),
        hold_down: raw.hold_down.map_or(standard.hold_down, |at| at.value.0),
        floor: raw.floor.map_or(standard.floor, |at| at.value.byte()),
        announce,
        announcements: each(&raw.announcements).map(|at| announcement(&at.value, &names)).collect(),
        peers,
    })
}

fn gobgpd(word: &GobgpdWord, raw: &raw::Bgp) -> Gobgpd {
    match word {
        GobgpdWord::Managed => Gobgpd::Managed,
        GobgpdWord::Unix(path) => Gobgpd::Unix(path.clone()),
        GobgpdWord::Http(authority) => Gobgpd::Http(*authority),
        GobgpdWord::Https(authority) => {
            let tls = raw.tls.as_ref().map(|at| &at.value);
            let path = |of: Option<&At<raw::AbsolutePath>>| of.map(|at| at.value.0.clone());
            let certificate = tls.and_then(|tls| path(tls.certificate.as_ref()));
            let key = tls.and_then(|tls| path(tls.key.as_ref()));
            let ca = tls.and_then(|tls| path(tls.ca.as_ref())).unwrap_or_default();
            let identity = certificate.zip(key).map(|(certificate, key)| TlsIdentity { certificate, key });
            Gobgpd::Https { authority: authority.clone(), tls: BgpTls { ca, identity } }
        }
    }
}

fn peer(raw: &raw::BgpPeer) -> Option<BgpPeer> {
    let standard = BgpPeer::default();
    let address = raw.address?.value.0;
    let hold = raw.hold.map_or(standard.hold, |at| at.value.0);
    let extended_next_hop = raw.extended_next_hop.is_some_and(|at| at.value);
    let mut families = match (&raw.families, extended_next_hop) {
        (Some(_), _) => values(&raw.families, |family| *family),
        (None, true) => vec![Family::Ipv4, Family::Ipv6],
        (None, false) => vec![Family::of(address)],
    };
    families.sort();
    Some(BgpPeer {
        name: raw.name.as_ref().map_or_else(|| address.to_string(), |name| name.value.0.clone()),
        address,
        asn: raw.asn?.value.wide(),
        port: raw.port.map_or(standard.port, |at| at.value.get()),
        password_file: raw.password_file.as_ref().map(|at| at.value.0.clone()),
        hold,
        keepalive: raw.keepalive.map_or_else(|| third_of(hold), |at| at.value.0),
        connect_retry: raw.connect_retry.map_or(standard.connect_retry, |at| at.value.0),
        multihop_ttl: raw.multihop_ttl.map(|at| at.value.byte()),
        ttl_security: raw.ttl_security.is_some_and(|at| at.value),
        source: raw.source.map(|at| at.value.0),
        families,
        extended_next_hop,
        graceful_restart: raw.graceful_restart.as_ref().and_then(|at| restart(&at.value)),
        bfd: raw.bfd.as_ref().map(|at| bfd(&at.value)),
        passive: raw.passive.is_some_and(|at| at.value),
        nodes: sorted(values(&raw.nodes, |name| name.0.clone())),
        import: raw.import.as_ref().and_then(|at| import(&at.value)),
    })
}

fn import(raw: &raw::Import) -> Option<Import> {
    let standard = Import::default();
    match raw {
        raw::Import::Nothing => None,
        raw::Import::Into(into) => Some(Import {
            table: into.table?.value.0,
            default_route: into.default_route.is_some_and(|at| at.value),
            max: into.max.map_or(standard.max, |at| at.value.wide()),
        }),
    }
}

/// In whole seconds; a hold time that is none has no keepalives.
fn third_of(hold: Duration) -> Duration {
    Duration::from_secs(hold.as_secs() / 3)
}

/// For so long a peer keeps routes if the file does not say (as Cilium has it).
const RESTART_DEFAULT: Duration = Duration::from_secs(120);

fn restart(raw: &GracefulRestart) -> Option<Duration> {
    match raw {
        GracefulRestart::Off => None,
        GracefulRestart::On => Some(RESTART_DEFAULT),
        GracefulRestart::With(with) => Some(with.restart.map_or(RESTART_DEFAULT, |at| at.value.0)),
    }
}

fn bfd(raw: &raw::Bfd) -> Bfd {
    let standard = Bfd::default();
    Bfd {
        transmit: raw.transmit.map_or(standard.transmit, |at| at.value.0),
        receive: raw.receive.map_or(standard.receive, |at| at.value.0),
        multiplier: raw.multiplier.map_or(standard.multiplier, |at| at.value.byte()),
    }
}

fn announcement(raw: &raw::Announcement, names: &HashMap<String, String>) -> Announcement {
    let standard = Bgp::default();
    let aggregate = raw.aggregate.as_ref().map(|at| &at.value);
    Announcement {
        what: raw.what.as_ref().map_or(standard.announce, |_| sorted(values(&raw.what, |class| *class))),
        services: sorted(values(&raw.services, |name| name.0.clone())),
        pools: sorted(values(&raw.pools, |name| name.0.clone())),
        peers: sorted(values(&raw.peers, |name| names.get(&name.0).unwrap_or(&name.0).clone())),
        communities: sorted(values(&raw.communities, |community| community.0)),
        large_communities: sorted(values(&raw.large_communities, |community| community.0)),
        local_preference: raw.local_preference.map(|at| at.value.wide()),
        med: raw.med.map(|at| at.value.wide()),
        prepend: raw.prepend.map(|at| at.value.byte()),
        aggregate: Aggregate {
            ipv4: aggregate.and_then(|it| it.ipv4).map(|at| at.value.byte()),
            ipv6: aggregate.and_then(|it| it.ipv6).map(|at| at.value.byte()),
        },
    }
}

fn values<T, V, const MIN: usize, const MAX: usize>(
    list: &Option<At<List<T, MIN, MAX>>>,
    value: impl Fn(&T) -> V,
) -> Vec<V> {
    each(list).map(|at| value(&at.value)).collect()
}

/// What is named twice, by a name and an address, is one.
fn sorted<V: Ord>(mut values: Vec<V>) -> Vec<V> {
    values.sort();
    values.dedup();
    values
}
