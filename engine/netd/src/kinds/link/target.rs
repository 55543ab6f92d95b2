//! The tunnel device in the kernel: found by its alias, made, changed and removed.

use super::device::{Device, devices, making, readying, removing};
use super::{LinkSpec, NAME, tunnel_kind};
use crate::facts::Facts;
use crate::netlink::{Answer, Channel};
use crate::reach::device_name;
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_core::{Action, Key, Observation, Outcome, Step};
use netd_schema::TunnelKind;
use rustix::io::Errno;
use std::sync::Arc;

/// Whether packets are forwarded, by family: what pods need.
const FORWARDING: [(&str, &str); 2] =
    [("IPv4", "/proc/sys/net/ipv4/ip_forward"), ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding")];

/// The target of tunnel devices.
#[derive(Default)]
pub struct LinkTarget;

#[async_trait]
impl Target for LinkTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let owner = Owner::new(facts);
        // Without a device that could be one there is nothing to look at more closely.
        let could_be =
            |link: &crate::facts::Link| tunnel_kind(&link.kind).is_some() || owner.calls(&link.name);
        if !facts.links.values().any(could_be) {
            return Ok(Observation::default());
        }
        blocking(move |channel| {
            let found = devices(channel).map_err(|error| format!("read links: {error}"))?;
            Ok(observe(&owner, found))
        })
        .await
    }

    async fn apply(&mut self, steps: &[Step], facts: &Facts) -> Vec<Outcome> {
        let owner = Owner::new(facts);
        let steps = steps.to_vec();
        let count = steps.len();
        let work = move |channel: &mut Channel| {
            Ok(steps.iter().map(|step| apply(channel, &owner, step).unwrap_or_else(|out| out)).collect())
        };
        blocking(work).await.unwrap_or_else(|reason| vec![Outcome::Failed(reason); count])
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&mut Channel) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(move || {
        let mut channel = Channel::open().map_err(|error| format!("open netlink: {error}"))?;
        work(&mut channel)
    });
    done.await.unwrap_or_else(|error| Err(format!("looking at links ended early: {error}")))
}

/// By what an instance's devices are recognised.
struct Owner {
    alias: String,
    names: [String; 2],
}

impl Owner {
    fn new(facts: &Facts) -> Self {
        let names = [TunnelKind::Vxlan, TunnelKind::Geneve].map(|kind| device_name(facts, kind));
        Self { alias: facts.instance.alias(), names }
    }

    fn calls(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Whether the device is this instance's, and a tunnel's: its WireGuard devices bear the same alias, and are not
    /// this kind's. One that it was killed over, between making and marking it, is known by being exactly as it is made.
    fn has(&self, device: &Device) -> bool {
        if tunnel_kind(&device.spec.kind).is_none() {
            return false;
        }
        let is_half_made = device.alias.is_empty()
            && !device.is_up
            && device.spec.is_external
            && self.calls(&device.spec.device);
        device.alias == self.alias || is_half_made
    }
}

fn observe(owner: &Owner, found: Vec<Device>) -> Observation {
    let mut observation = Observation::default();
    for device in found {
        let key = Key::new(&device.spec.device);
        if owner.has(&device) {
            let is_ready = device.alias == owner.alias && device.is_up;
            observation.notes.extend(not_forwarded().map(|note| (key.clone(), note)));
            observation.owned.insert(key, Arc::new(LinkSpec { is_ready, ..device.spec }));
        } else if owner.calls(&device.spec.device) {
            observation.foreign.insert(key, holder(owner, &device));
        }
    }
    observation
}

fn holder(owner: &Owner, device: &Device) -> String {
    let kind = if device.spec.kind.is_empty() { "another" } else { &device.spec.kind };
    format!("a {kind} device without the alias {}", owner.alias)
}

/// What an operator should know of a node that does not forward packets.
fn not_forwarded() -> Option<String> {
    let is_off = |path: &str| std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0");
    let off: Vec<&str> =
        FORWARDING.iter().filter(|(_, path)| is_off(path)).map(|(family, _)| *family).collect();
    (!off.is_empty()).then(|| format!("this node does not forward {} packets (sysctl)", off.join(" and ")))
}

fn apply(channel: &mut Channel, owner: &Owner, step: &Step) -> Result<Outcome, Outcome> {
    let spec: &LinkSpec = spec_of(step, NAME)?;
    // Looked at as late as possible: a name says nothing about who made the device.
    let there = look(channel, &spec.device)?;
    if let Some(there) = &there
        && !owner.has(there)
    {
        return match step.action {
            Action::Delete { .. } => Ok(Outcome::Applied),
            Action::Create { .. } | Action::Update { .. } => Ok(Outcome::Conflict(holder(owner, there))),
        };
    }
    match (&step.action, there) {
        (Action::Delete { .. }, None) => {}
        (Action::Delete { .. }, Some(there)) => remove(channel, &there)?,
        (_, Some(there)) if there.spec.becomes(spec) => ready(channel, owner, &there, spec)?,
        (_, there) => {
            if let Some(there) = there {
                remove(channel, &there)?;
            }
            make(channel, owner, spec)?;
        }
    }
    Ok(Outcome::Applied)
}

fn look(channel: &mut Channel, name: &str) -> Result<Option<Device>, Outcome> {
    let found = devices(channel).map_err(|error| Outcome::Failed(format!("read links: {error}")))?;
    Ok(found.into_iter().find(|device| device.spec.device == name))
}

fn make(channel: &mut Channel, owner: &Owner, spec: &LinkSpec) -> Result<(), Outcome> {
    let kind = &spec.kind;
    let request = making(spec).ok_or_else(|| Outcome::Failed(format!("netd makes no {kind} devices")))?;
    let port = spec.port;
    change(channel, request, |error| match error {
        Errno::OPNOTSUPP => format!("this kernel has no {kind}"),
        Errno::EXIST | Errno::ADDRINUSE => {
            format!("another {kind} device of this node has UDP port {port}")
        }
        error => format!("make: {}", std::io::Error::from(error)),
    })?;
    match look(channel, &spec.device)? {
        Some(made) => ready(channel, owner, &made, spec),
        None => Err(Outcome::Failed("it was gone right after it was made".into())),
    }
}

fn ready(channel: &mut Channel, owner: &Owner, there: &Device, spec: &LinkSpec) -> Result<(), Outcome> {
    let (port, mtu) = (spec.port, spec.mtu);
    change(channel, readying(there.index, &owner.alias, mtu), |error| match error {
        Errno::ADDRINUSE => format!("UDP port {port} is in use on this node"),
        Errno::INVAL => format!("the device does not take an MTU of {mtu}"),
        error => format!("set up: {}", std::io::Error::from(error)),
    })
}

fn remove(channel: &mut Channel, there: &Device) -> Result<(), Outcome> {
    change(channel, removing(there.index), |error| format!("remove: {}", std::io::Error::from(error)))
}

fn change(
    channel: &mut Channel,
    request: crate::netlink::Request,
    refused: impl FnOnce(Errno) -> String,
) -> Result<(), Outcome> {
    match channel.change(&[request]).as_slice() {
        [Answer::Done] => Ok(()),
        [Answer::Refused(error)] => Err(Outcome::Failed(refused(*error))),
        [Answer::Lost(error)] => {
            Err(Outcome::Failed(format!("the kernel's answer was lost: {}", std::io::Error::from(*error))))
        }
        _ => Err(Outcome::Failed("the kernel did not answer".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, kind: &str, alias: &str) -> Device {
        let (device, kind) = (name.to_owned(), kind.to_owned());
        let spec = LinkSpec { device, kind, port: 8472, is_external: true, mtu: 1450, is_ready: false };
        Device { index: 7, alias: alias.to_owned(), is_up: true, spec }
    }

    #[test]
    fn a_wireguard_device_of_the_same_instance_is_not_a_tunnels() {
        let facts = Facts::default();
        let owner = Owner::new(&facts);
        let alias = owner.alias.clone();
        let found = vec![
            device("netd_vxlan", "vxlan", &alias),
            device("netd_wg0", "wireguard", &alias),
            device("netd_wg1", "tun", &alias),
        ];
        let observation = observe(&owner, found);
        let owned: Vec<String> = observation.owned.keys().map(ToString::to_string).collect();
        assert_eq!(owned, ["netd_vxlan"]);
        assert!(observation.foreign.is_empty());
    }
}
