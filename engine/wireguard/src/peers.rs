//! Decides what is sent so that a device's peers become what they should be: only what differs, and so that no address is
//! without a peer meanwhile.

use crate::{Device, Peer, PeerChange, Presence, PresharedKey, PublicKey, Settings};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What a peer should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where its packets go; `None`: wherever they go.
    pub endpoint: Option<SocketAddr>,
    /// Its addresses.
    pub allowed_ips: BTreeSet<IpNetwork>,
    /// Seconds; 0: off.
    pub keepalive: u16,
    /// The shared secret.
    pub preshared_key: Option<PresharedKey>,
}

/// What becomes of a peer; `None`: it goes.
pub type Wanted = BTreeMap<PublicKey, Option<PeerConfig>>;

/// What is sent so that the peers in `wanted` become so; those that it does not name stay as they are.
///
/// An address comes to its new peer in one step, from whoever has it. Addresses that a peer has to give up and nobody
/// gets cannot be taken from it one by one on every kernel, and setting all the others anew would leave them without a
/// peer for a moment: so they are given to a peer that nobody is, which then goes.
#[must_use]
pub fn changes(device: &Device, wanted: &Wanted) -> Vec<PeerChange> {
    let mut changes = Vec::new();
    let mut stale: Vec<IpNetwork> = Vec::new();
    let taken: BTreeSet<IpNetwork> =
        wanted.values().flatten().flat_map(|peer| peer.allowed_ips.iter().copied()).collect();
    for (key, config) in wanted.iter().filter_map(|(key, config)| Some((key, config.as_ref()?))) {
        let observed = device.peers.get(key);
        changes.extend(change(observed, config).map(|settings| PeerChange::Set(*key, settings)));
        let given_up = observed.into_iter().flat_map(|peer| peer.allowed_ips.difference(&config.allowed_ips));
        stale.extend(given_up.filter(|prefix| !taken.contains(*prefix)));
    }
    let nobody = PublicKey::nobody();
    if !stale.is_empty() {
        let settings = Settings { allowed_ips: stale, ..Settings::of(Presence::New) };
        changes.extend([PeerChange::Set(nobody, settings), PeerChange::Remove(nobody)]);
    }
    let leaving = wanted.iter().filter(|(key, config)| config.is_none() && device.peers.contains_key(*key));
    changes.extend(leaving.map(|(key, _)| PeerChange::Remove(*key)));
    changes
}

fn change(observed: Option<&Peer>, config: &PeerConfig) -> Option<Settings> {
    let none = Peer::default();
    let presence = if observed.is_some() { Presence::Existing } else { Presence::New };
    let peer = observed.unwrap_or(&none);
    let settings = Settings {
        presence,
        endpoint: config.endpoint.filter(|endpoint| peer.endpoint != Some(*endpoint)),
        keepalive: Some(config.keepalive).filter(|keepalive| peer.keepalive != *keepalive),
        preshared_key: (peer.preshared_key != config.preshared_key)
            .then(|| config.preshared_key.clone().unwrap_or_else(PresharedKey::none)),
        allowed_ips: config.allowed_ips.difference(&peer.allowed_ips).copied().collect(),
    };
    let is_nothing = settings == Settings::of(Presence::Existing);
    (!is_nothing).then_some(settings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const A: PublicKey = PublicKey::from_bytes([1; 32]);
    const B: PublicKey = PublicKey::from_bytes([2; 32]);

    fn prefixes(texts: &[&str]) -> BTreeSet<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn config(endpoint: &str, allowed_ips: &[&str]) -> PeerConfig {
        let endpoint = Some(endpoint.parse().unwrap());
        PeerConfig { endpoint, allowed_ips: prefixes(allowed_ips), keepalive: 0, preshared_key: None }
    }

    fn device(peers: &[(PublicKey, PeerConfig)]) -> Device {
        let peer = |config: &PeerConfig| Peer {
            endpoint: config.endpoint,
            allowed_ips: config.allowed_ips.clone(),
            ..Peer::default()
        };
        Device {
            peers: peers.iter().map(|(key, config)| (*key, peer(config))).collect(),
            ..Device::default()
        }
    }

    #[test]
    fn w14_nothing_is_sent_for_peers_that_are_as_they_should_be() {
        let (a, b) = (config("10.0.0.1:1", &["10.1.0.0/16"]), config("10.0.0.2:1", &["10.2.0.0/16"]));
        let device = device(&[(A, a.clone()), (B, b.clone())]);
        assert_eq!(changes(&device, &Wanted::from([(A, Some(a.clone())), (B, Some(b))])), []);
        let moved = config("10.0.0.3:1", &["10.2.0.0/16"]);
        let only = Settings { endpoint: moved.endpoint, ..Settings::of(Presence::Existing) };
        assert_eq!(
            changes(&device, &Wanted::from([(A, Some(a)), (B, Some(moved))])),
            [PeerChange::Set(B, only)]
        );
    }

    #[test]
    fn w6_an_address_that_moves_is_given_to_its_new_peer_and_taken_from_nobody_else() {
        let device = device(&[
            (A, config("10.0.0.1:1", &["10.1.0.0/16", "10.9.0.0/16"])),
            (B, config("10.0.0.2:1", &["10.2.0.0/16"])),
        ]);
        let wanted = Wanted::from([
            (A, Some(config("10.0.0.1:1", &["10.1.0.0/16"]))),
            (B, Some(config("10.0.0.2:1", &["10.2.0.0/16", "10.9.0.0/16"]))),
        ]);
        let given = Settings {
            allowed_ips: vec!["10.9.0.0/16".parse().unwrap()],
            ..Settings::of(Presence::Existing)
        };
        assert_eq!(changes(&device, &wanted), [PeerChange::Set(B, given)]);
    }

    #[test]
    fn w6_an_address_that_nobody_gets_is_parked_and_the_others_stay() {
        let device = device(&[(A, config("10.0.0.1:1", &["10.1.0.0/16", "10.9.0.0/16"]))]);
        let wanted = Wanted::from([(A, Some(config("10.0.0.1:1", &["10.1.0.0/16"])))]);
        let parked =
            Settings { allowed_ips: vec!["10.9.0.0/16".parse().unwrap()], ..Settings::of(Presence::New) };
        let nobody = PublicKey::nobody();
        assert_eq!(changes(&device, &wanted), [PeerChange::Set(nobody, parked), PeerChange::Remove(nobody)]);
    }

    #[test]
    fn a_new_peer_is_made_whole_before_an_old_one_goes() {
        let device = device(&[(A, config("10.0.0.1:1", &["10.1.0.0/16"]))]);
        let new = config("10.0.0.1:1", &["10.1.0.0/16"]);
        let found = changes(&device, &Wanted::from([(A, None), (B, Some(new.clone()))]));
        let settings = Settings {
            endpoint: new.endpoint,
            allowed_ips: new.allowed_ips.into_iter().collect(),
            ..Settings::of(Presence::New)
        };
        assert_eq!(found, [PeerChange::Set(B, settings), PeerChange::Remove(A)]);
    }

    #[test]
    fn a_secret_that_goes_is_taken_away() {
        let mut device = device(&[(A, config("10.0.0.1:1", &[]))]);
        device.peers.get_mut(&A).unwrap().preshared_key = PresharedKey::from_bytes([7; 32]);
        let found = changes(&device, &Wanted::from([(A, Some(config("10.0.0.1:1", &[])))]));
        let gone = Settings { preshared_key: Some(PresharedKey::none()), ..Settings::of(Presence::Existing) };
        assert_eq!(found, [PeerChange::Set(A, gone)]);
    }
}
