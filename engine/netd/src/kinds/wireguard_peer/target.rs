//! The peers of netd's WireGuard devices: read with them, changed by what differs.

use super::{PeerSpec, Secret, spec};
use crate::clock;
use crate::facts::{Facts, PathResolver};
use crate::target::Target;
use crate::wireguard::{Devices, Mesh, Own, Shared, said};
use async_trait::async_trait;
use netd_core::{Action, Observation, Outcome, Spec, Step};
use netd_wireguard::{Change, Error, Peer, PeerConfig, PublicKey, Wanted, changes, read_preshared};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A session is over if there was no handshake for so long (WireGuard's REJECT_AFTER_TIME).
const SESSION_MAX: Duration = Duration::from_secs(180);

/// The target of peers.
pub struct PeerTarget(Shared);

impl PeerTarget {
    /// The target that works with these devices.
    #[must_use]
    pub fn new(devices: Shared) -> Self {
        Self(devices)
    }
}

#[async_trait]
impl Target for PeerTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let mut devices = self.0.lock().await;
        let mut observation = Observation::default();
        let in_force = devices.in_force();
        let mesh = in_force.as_deref().and_then(|config| Mesh::of(config, facts).ok().flatten());
        let known = mesh.as_ref().map(|mesh| by_key(mesh, facts)).unwrap_or_default();
        for Own { link, device, sort: _ } in devices.own(facts)? {
            for (key, peer) in device.peers {
                let at = (link.name.clone(), key);
                let wanted = known.get(&at);
                let told = told(&mut devices, at, &peer, wanted.and_then(|wanted| wanted.endpoint));
                let spec = PeerSpec {
                    interface: link.name.clone(),
                    public_key: key,
                    node: wanted.map(|wanted| wanted.node.clone()).unwrap_or_default(),
                    endpoint: told.or(peer.endpoint),
                    allowed_ips: peer.allowed_ips.clone(),
                    keepalive: peer.keepalive,
                    secret: secret(&peer, wanted),
                };
                if let (Some(told), Some(at)) = (told, peer.endpoint)
                    && told != at
                {
                    observation
                        .notes
                        .insert(spec.key(), format!("it speaks from {at}, and is answered there"));
                }
                observation.owned.insert(spec.key(), Arc::new(spec));
            }
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut devices = self.0.lock().await;
        let mut outcomes = vec![Outcome::Applied; steps.len()];
        let mut jobs: BTreeMap<String, Vec<(usize, PublicKey, Option<PeerConfig>)>> = BTreeMap::new();
        for (outcome, (at, step)) in outcomes.iter_mut().zip(steps.iter().enumerate()) {
            match wanted(step) {
                Ok((interface, key, config)) => jobs.entry(interface).or_default().push((at, key, config)),
                Err(reason) => *outcome = Outcome::Failed(reason),
            }
        }
        for (interface, jobs) in jobs {
            if let Err(reason) = change(&mut devices, &interface, &jobs) {
                for (at, ..) in &jobs {
                    if let Some(outcome) = outcomes.get_mut(*at) {
                        *outcome = Outcome::Failed(reason.clone());
                    }
                }
            }
        }
        outcomes
    }
}

/// The peers by their devices and keys.
fn by_key(mesh: &Mesh<'_>, facts: &Facts) -> BTreeMap<(String, PublicKey), PeerSpec> {
    let resolver = PathResolver::new(facts);
    let lanes = mesh.lanes();
    let all = mesh.others.iter().flat_map(|other| {
        let first = mesh.endpoint(other, &resolver).ok().map(|(endpoint, _)| endpoint);
        lanes.iter().map(move |lane| spec(mesh, lane, other, first))
    });
    all.map(|spec| ((spec.interface.clone(), spec.public_key), spec)).collect()
}

/// Where this netd, or the one before it, told the device to send. A peer may have told it something else since, by
/// packets that only it can make: that is not fought, only the file's word of today against its word of yesterday counts.
///
/// A netd that was just started knows what the file in force says, but not whether that was done: it believes so of a
/// session that lives.
fn told(
    devices: &mut Devices,
    whose: (String, PublicKey),
    peer: &Peer,
    in_force: Option<SocketAddr>,
) -> Option<SocketAddr> {
    let at = peer.endpoint?;
    if let Some(told) = devices.told(&whose) {
        return Some(told);
    }
    let lives = peer
        .last_handshake
        .is_some_and(|since| Duration::from_millis(clock::unix_ms()).saturating_sub(since) < SESSION_MAX);
    let told = in_force.filter(|wanted| lives || at == *wanted)?;
    devices.tell(whose, told);
    Some(told)
}

fn secret(peer: &Peer, wanted: Option<&PeerSpec>) -> Secret {
    match (&peer.preshared_key, wanted.map(|wanted| &wanted.secret)) {
        (None, _) => Secret::None,
        (Some(has), Some(Secret::Of(file))) if read_preshared(file).is_ok_and(|key| key == *has) => {
            Secret::Of(file.clone())
        }
        (Some(_), _) => Secret::Unknown,
    }
}

/// What a step wants of which peer; `None`: that it goes.
fn wanted(step: &Step) -> Result<(String, PublicKey, Option<PeerConfig>), String> {
    let typed = |spec: &Arc<dyn Spec>| {
        let spec = spec.as_any().downcast_ref::<PeerSpec>().cloned();
        spec.ok_or_else(|| "this is not a peer".to_owned())
    };
    match &step.action {
        Action::Create { to } | Action::Update { to, .. } => {
            let to = typed(to)?;
            let preshared_key = match &to.secret {
                Secret::Of(file) => Some(read_preshared(file).map_err(|error| said(&error))?),
                Secret::None | Secret::Unknown => None,
            };
            let PeerSpec { endpoint, allowed_ips, keepalive, .. } = to;
            let config = PeerConfig { endpoint, allowed_ips, keepalive, preshared_key };
            Ok((to.interface, to.public_key, Some(config)))
        }
        Action::Delete { from } => typed(from).map(|from| (from.interface, from.public_key, None)),
    }
}

fn change(
    devices: &mut Devices,
    interface: &str,
    jobs: &[(usize, PublicKey, Option<PeerConfig>)],
) -> Result<(), String> {
    let is_deleting = jobs.iter().all(|(_, _, config)| config.is_none());
    let (sort, now) = match devices.find(interface) {
        Ok(found) => found,
        // With its device a peer is gone, too.
        Err(Error::Absent | Error::Unsupported) if is_deleting => return Ok(()),
        Err(error) => return Err(said(&error)),
    };
    let mut wanted: Wanted = jobs.iter().map(|(_, key, config)| (*key, config.clone())).collect();
    for (key, config) in &mut wanted {
        // What a peer told itself stays, unless the file says something new.
        if let Some(config) = config
            && config.endpoint.is_some()
            && config.endpoint == devices.told(&(interface.to_owned(), *key))
            && now.peers.get(key).is_some_and(|peer| peer.endpoint.is_some())
        {
            config.endpoint = None;
        }
    }
    let change = Change { peers: changes(&now, &wanted), ..Change::default() };
    let changed = devices.change(interface, sort, &change);
    changed.map_err(|error| said(&error))?;
    for (_, key, config) in jobs {
        if let Some(endpoint) = config.as_ref().and_then(|config| config.endpoint) {
            devices.tell((interface.to_owned(), *key), endpoint);
        }
    }
    Ok(())
}
