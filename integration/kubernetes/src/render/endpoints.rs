//! Which backends each port of a service has, from all of its slices.

use crate::note::plain;
use crate::objects::{Key, Slice, SlicePort, State, read_number, read_protocol};
use k8s_openapi::api::core::v1::ServicePort;
use netd_schema::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// As the service calls it; empty for its only one.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
}

/// The backends of a port: their addresses, and the ports that they listen on.
pub(super) type Backends = BTreeMap<(IpAddr, u16), State>;

/// Ports that have the same backends, and so can be in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Each with the port of the backends, where it is the same for all of them.
    pub(super) ports: Vec<(Port, Option<u16>)>,
    /// With a port only where the backends of a group listen on different ones.
    pub(super) backends: Vec<(IpAddr, Option<u16>, State)>,
}

/// The ports that can be served, and what is said about the others.
pub(super) fn ports(given: &[ServicePort], told: &mut Vec<String>) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for given in given {
        let read = read_protocol(given.protocol.as_deref())
            .and_then(|protocol| read_number(given.port).map(|number| (protocol, number)));
        match read {
            Ok((protocol, number)) => {
                let is_same = |port: &Port| (port.protocol, port.number) == (protocol, number);
                match ports.iter().any(is_same) {
                    true => told.push(format!("the port {}/{number} is there twice", protocol.name())),
                    false => {
                        ports.push(Port { name: given.name.clone().unwrap_or_default(), protocol, number });
                    }
                }
            }
            Err(why) => told.push(format!("the port {} is left out: {why}", given.port)),
        }
    }
    ports.sort_by_key(|port| (port.number, port.protocol));
    ports
}

/// The groups of ports, in the order of their first ports.
pub(super) fn groups(ports: Vec<Port>, slices: &[(&Key, &Slice)], told: &mut Vec<String>) -> Vec<Group> {
    for (key, slice) in slices {
        told.extend(
            slice.problems.iter().map(|problem| format!("of its slice {}: {problem}", plain(&key.name))),
        );
    }
    if slices.iter().any(|(_, slice)| slice.has_hints) {
        told.push("hints of zones are not followed: every node has the same file".to_owned());
    }
    let mut groups: Vec<Group> = Vec::new();
    for port in ports {
        let group = group(port, slices);
        let is_whole = |group: &Group| group.ports.iter().all(|(_, target)| target.is_some());
        let same = groups
            .iter_mut()
            .find(|other| is_whole(other) && is_whole(&group) && other.backends == group.backends);
        match same {
            Some(other) => other.ports.extend(group.ports),
            None => groups.push(group),
        }
    }
    groups
}

/// One port and its backends.
fn group(port: Port, slices: &[(&Key, &Slice)]) -> Group {
    let backends = standing_in(backends(&port, slices));
    let mut targets: Vec<u16> = backends.keys().map(|(_, target)| *target).collect();
    targets.sort_unstable();
    targets.dedup();
    let target = match targets.as_slice() {
        [] => Some(port.number),
        [target] => Some(*target),
        _ => None,
    };
    let own = |at: u16| target.is_none().then_some(at);
    let backends = backends.into_iter().map(|((address, at), state)| (address, own(at), state)).collect();
    Group { ports: vec![(port, target)], backends }
}

fn backends(port: &Port, slices: &[(&Key, &Slice)]) -> Backends {
    let mut backends = Backends::new();
    for (_, slice) in slices {
        let is_for = |given: &&SlicePort| given.name == port.name && given.protocol == port.protocol;
        for given in slice.ports.iter().filter(is_for) {
            let target = given.port.unwrap_or(port.number);
            for endpoint in &slice.endpoints {
                let state = backends.entry((endpoint.address, target)).or_insert(endpoint.state);
                *state = (*state).min(endpoint.state);
            }
        }
    }
    backends
}

/// Where no endpoint of a family is ready, those that end and still serve are given new flows, as Kubernetes promises:
/// a rollout of a service with one pod is not an outage.
fn standing_in(mut backends: Backends) -> Backends {
    for wants_ipv4 in [true, false] {
        let of_family = |address: &IpAddr| address.is_ipv4() == wants_ipv4;
        let has_active =
            backends.iter().any(|((address, _), state)| of_family(address) && *state == State::Active);
        for ((address, _), state) in &mut backends {
            if !has_active && of_family(address) && *state == State::Terminating {
                *state = State::Active;
            }
        }
    }
    backends
}
