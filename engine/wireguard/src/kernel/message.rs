//! Devices and changes of peers as attributes of messages, and back.

use crate::{Device, Peer, PeerChange, Presence, PresharedKey, PublicKey};
use ipnetwork::IpNetwork;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardPeer,
    WireguardPeerAttribute, WireguardPeerFlags,
};
use std::net::IpAddr;
use std::time::Duration;
use zeroize::Zeroize as _;

/// Adds what one message of a dump says. A peer with many addresses goes on in the next message.
pub(super) fn add(device: &mut Device, attributes: &[WireguardAttribute]) {
    for attribute in attributes {
        match attribute {
            WireguardAttribute::ListenPort(port) => device.port = *port,
            WireguardAttribute::Fwmark(mark) => device.mark = *mark,
            WireguardAttribute::PublicKey(key) => device.public_key = Some(PublicKey::from_bytes(*key)),
            WireguardAttribute::Peers(peers) => peers.iter().for_each(|it| add_peer(device, it)),
            _ => {}
        }
    }
}

/// Forgets the keys in a message, whichever way it goes.
pub(super) fn wipe(attributes: &mut [WireguardAttribute]) {
    for attribute in attributes {
        match attribute {
            WireguardAttribute::PrivateKey(key) => key.zeroize(),
            WireguardAttribute::Peers(peers) => {
                for attribute in peers.iter_mut().flat_map(|WireguardPeer(attributes)| attributes) {
                    if let WireguardPeerAttribute::PresharedKey(key) = attribute {
                        key.zeroize();
                    }
                }
            }
            _ => {}
        }
    }
}

fn add_peer(device: &mut Device, WireguardPeer(attributes): &WireguardPeer) {
    let key = attributes.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(key) => Some(PublicKey::from_bytes(*key)),
        _ => None,
    });
    let Some(key) = key else { return };
    let peer = device.peers.entry(key).or_default();
    for attribute in attributes {
        take(peer, attribute);
    }
}

fn take(peer: &mut Peer, attribute: &WireguardPeerAttribute) {
    match attribute {
        WireguardPeerAttribute::PresharedKey(key) => peer.preshared_key = PresharedKey::from_bytes(*key),
        WireguardPeerAttribute::Endpoint(endpoint) => peer.endpoint = Some(*endpoint),
        WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive = *seconds,
        WireguardPeerAttribute::LastHandshake(at) => {
            let seconds = u64::try_from(at.seconds).unwrap_or_default();
            let nanoseconds = u32::try_from(at.nano_seconds).unwrap_or_default().min(999_999_999);
            let at = Duration::new(seconds, nanoseconds);
            peer.last_handshake = (!at.is_zero()).then_some(at);
        }
        WireguardPeerAttribute::RxBytes(bytes) => peer.received = *bytes,
        WireguardPeerAttribute::TxBytes(bytes) => peer.sent = *bytes,
        WireguardPeerAttribute::AllowedIps(all) => peer.allowed_ips.extend(all.iter().filter_map(prefix)),
        _ => {}
    }
}

fn prefix(WireguardAllowedIp(attributes): &WireguardAllowedIp) -> Option<IpNetwork> {
    let (mut address, mut length) = (None, None);
    for attribute in attributes {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(it) => address = Some(*it),
            WireguardAllowedIpAttr::Cidr(it) => length = Some(*it),
            _ => {}
        }
    }
    IpNetwork::new(address?, length?).ok()
}

/// A change of a peer.
pub(super) fn setting(change: &PeerChange) -> WireguardPeer {
    let key = WireguardPeerAttribute::PublicKey(*change.key().bytes());
    let PeerChange::Set(_, settings) = change else {
        return WireguardPeer(vec![key, WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe)]);
    };
    let mut attributes = vec![key];
    if settings.presence == Presence::Existing {
        attributes.push(WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly));
    }
    if let Some(secret) = &settings.preshared_key {
        attributes.push(WireguardPeerAttribute::PresharedKey(*secret.reveal()));
    }
    attributes.extend(settings.endpoint.map(WireguardPeerAttribute::Endpoint));
    attributes.extend(settings.keepalive.map(WireguardPeerAttribute::PersistentKeepalive));
    if !settings.allowed_ips.is_empty() {
        let all = settings.allowed_ips.iter().map(|prefix| allowed(*prefix)).collect();
        attributes.push(WireguardPeerAttribute::AllowedIps(all));
    }
    WireguardPeer(attributes)
}

fn allowed(prefix: IpNetwork) -> WireguardAllowedIp {
    let family = match prefix.ip() {
        IpAddr::V4(_) => WireguardAddressFamily::Ipv4,
        IpAddr::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(prefix.network()),
        WireguardAllowedIpAttr::Cidr(prefix.prefix()),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Settings;

    #[test]
    fn what_is_set_is_what_is_read_and_the_second_part_of_a_peer_adds_to_the_first() {
        let key = PublicKey::from_bytes([3; 32]);
        let part = |prefixes: [&str; 2]| {
            let settings = Settings {
                endpoint: Some("[2001:db8::2]:51871".parse().unwrap()),
                keepalive: Some(25),
                preshared_key: PresharedKey::from_bytes([9; 32]),
                allowed_ips: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
                ..Settings::of(Presence::New)
            };
            vec![WireguardAttribute::Peers(vec![setting(&PeerChange::Set(key, settings))])]
        };
        let mut device = Device::default();
        add(&mut device, &part(["10.1.0.0/16", "fd00::/64"]));
        add(&mut device, &part(["10.2.0.0/16", "fd00:1::/64"]));
        let peer = &device.peers[&key];
        assert_eq!((peer.endpoint, peer.keepalive), (Some("[2001:db8::2]:51871".parse().unwrap()), 25));
        assert_eq!(peer.preshared_key, PresharedKey::from_bytes([9; 32]));
        let prefixes: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["10.1.0.0/16", "10.2.0.0/16", "fd00::/64", "fd00:1::/64"]);
    }

    #[test]
    fn no_key_is_left_in_a_message_that_was_wiped() {
        let settings =
            Settings { preshared_key: PresharedKey::from_bytes([0xa5; 32]), ..Settings::of(Presence::New) };
        let peer = setting(&PeerChange::Set(PublicKey::from_bytes([3; 32]), settings));
        let mut message = [WireguardAttribute::PrivateKey([0xa5; 32]), WireguardAttribute::Peers(vec![peer])];
        assert!(format!("{message:?}").contains("165"), "keys are told apart from what is left");
        wipe(&mut message);
        assert!(!format!("{message:?}").contains("165"), "{message:?}");
    }
}
