//! Peers in the daemon's API, and back.
//!
//! The description carries netd's mark, the name, and the source address that was asked for: of an established session
//! the daemon tells only the address in use. It must not change while a session lives, because to the daemon that is
//! a reason to reset it.

use crate::api;
use crate::error::Error;
use crate::path::Family;
use crate::path_wire::{family, known_family};
use crate::peer::{GracefulRestart, Password, Peer, PeerConfig, Restarting, SessionState, Traffic, Ttl};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// What descriptions and names of netd's begin with.
pub(crate) const MARK: &str = "netd:";

const FROM: &str = " from ";

/// How long a daemon that was restarted waits for the routes of its peers before it sends its own. netd's routes do
/// not depend on theirs, so it is short; a peer that never says that it is done costs others this long.
const DEFERRAL_SECONDS: u32 = 2;

/// The message that describes a peer whole: what is left out, the daemon would fill in when it adds a peer, but not
/// when it updates one, and then take for a change.
pub(crate) fn message(peer: &PeerConfig, local_asn: u32, restarting: Restarting) -> Result<api::Peer, Error> {
    let PeerConfig { address, asn, name, port, hold_seconds, keepalive_seconds, .. } = peer;
    let PeerConfig { connect_retry_seconds, ttl, source, password, families, .. } = peer;
    let PeerConfig { graceful_restart, passive, import: _, .. } = peer;
    if *hold_seconds == 0 {
        return Err(Error::Unsupported("a hold time of 0"));
    }
    let kind = if *asn == local_asn { api::PeerType::Internal } else { api::PeerType::External };
    let unspecified = match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Ok(api::Peer {
        conf: Some(api::PeerConf {
            neighbor_address: address.to_string(),
            peer_asn: *asn,
            local_asn,
            r#type: kind.into(),
            auth_password: password.as_ref().map(|password| password.reveal().to_owned()).unwrap_or_default(),
            description: description(name, *source),
            ..Default::default()
        }),
        timers: Some(api::Timers {
            config: Some(api::TimersConfig {
                connect_retry: (*connect_retry_seconds).into(),
                hold_time: (*hold_seconds).into(),
                keepalive_interval: (*keepalive_seconds).into(),
                ..Default::default()
            }),
            state: None,
        }),
        transport: Some(api::Transport {
            local_address: source.unwrap_or(unspecified).to_string(),
            passive_mode: *passive,
            remote_port: (*port).into(),
            ..Default::default()
        }),
        ebgp_multihop: match ttl {
            Ttl::Multihop(hops) => Some(api::EbgpMultihop { enabled: true, multihop_ttl: (*hops).into() }),
            Ttl::Direct | Ttl::Security => None,
        },
        ttl_security: match ttl {
            Ttl::Security => Some(api::TtlSecurity { enabled: true, ttl_min: 255 }),
            Ttl::Direct | Ttl::Multihop(_) => None,
        },
        graceful_restart: graceful_restart.map(|graceful| api::GracefulRestart {
            enabled: true,
            restart_time: graceful.restart_seconds.into(),
            deferral_time: DEFERRAL_SECONDS,
            local_restarting: restarting == Restarting::Yes,
            ..Default::default()
        }),
        afi_safis: families.iter().map(|of| afi_safi(*of, graceful_restart.is_some())).collect(),
        ..Default::default()
    })
}

fn afi_safi(of: Family, is_graceful: bool) -> api::AfiSafi {
    let graceful = api::MpGracefulRestartConfig { enabled: is_graceful };
    api::AfiSafi {
        config: Some(api::AfiSafiConfig { family: Some(family(of)), enabled: true }),
        mp_graceful_restart: Some(api::MpGracefulRestart { config: Some(graceful), state: None }),
        ..Default::default()
    }
}

fn description(name: &str, source: Option<IpAddr>) -> String {
    match source {
        Some(source) => format!("{MARK}{name}{FROM}{source}"),
        None => format!("{MARK}{name}"),
    }
}

fn described(description: &str) -> (bool, String, Option<IpAddr>) {
    let Some(rest) = description.strip_prefix(MARK) else {
        return (false, description.to_owned(), None);
    };
    let source = rest.rsplit_once(FROM).and_then(|(name, from)| Some((name, from.parse().ok()?)));
    match source {
        Some((name, source)) => (true, name.to_owned(), Some(source)),
        None => (true, rest.to_owned(), None),
    }
}

/// A peer as the daemon lists it. What only netd's policies know is not yet filled in.
pub(crate) fn peer(listed: api::Peer) -> Result<Peer, Error> {
    let wrong = |what: &str| Error::Undecodable(format!("a peer without {what}"));
    let conf = listed.conf.ok_or_else(|| wrong("settings"))?;
    let state = listed.state.unwrap_or_default();
    // That of a peer on a link, which the daemon found out by itself, is in its state.
    let address = address(&conf.neighbor_address).or_else(|| address(&state.neighbor_address));
    let address = address.ok_or_else(|| wrong("an address"))?;
    let (is_ours, name, source) = described(&conf.description);
    let timers = listed.timers.unwrap_or_default();
    let config = timers.config.unwrap_or_default();
    let transport = listed.transport.unwrap_or_default();
    let families =
        listed.afi_safis.iter().filter_map(|of| known_family(of.config.as_ref()?.family.as_ref()?)).collect();
    let graceful = listed.graceful_restart.filter(|graceful| graceful.enabled);
    let config = PeerConfig {
        address,
        asn: conf.peer_asn,
        name,
        port: match transport.remote_port {
            0 => 179,
            port => small(port.into()),
        },
        hold_seconds: small(config.hold_time),
        keepalive_seconds: small(config.keepalive_interval),
        connect_retry_seconds: small(config.connect_retry),
        ttl: match (listed.ebgp_multihop, listed.ttl_security) {
            (Some(multihop), _) if multihop.enabled => {
                Ttl::Multihop(u8::try_from(multihop.multihop_ttl).unwrap_or(u8::MAX))
            }
            (_, Some(security)) if security.enabled => Ttl::Security,
            _ => Ttl::Direct,
        },
        source,
        password: Password::new(Zeroizing::new(conf.auth_password)),
        families,
        graceful_restart: graceful
            .map(|graceful| GracefulRestart { restart_seconds: small(graceful.restart_time.into()) }),
        passive: transport.passive_mode,
        import: true,
    };
    let ends = match config.graceful_restart.is_some() && state.remote_cap.iter().any(is_graceful_restart) {
        true => 1,
        false => 0,
    };
    let messages = state.messages.unwrap_or_default();
    let (received, sent) = (messages.received.unwrap_or_default(), messages.sent.unwrap_or_default());
    let session = session_state(state.session_state);
    Ok(Peer {
        config,
        is_ours,
        is_admitted: false,
        state: session,
        since: timers
            .state
            .and_then(|timers| timers.uptime)
            .filter(|_| session == SessionState::Established)
            .and_then(|uptime| moment(uptime.seconds)),
        flaps: state.flops.into(),
        router_id: state.router_id.parse().ok(),
        notifications: (received.notification, sent.notification),
        updates: (received.update, sent.update),
        opens: (received.open, sent.open),
        traffic: listed.afi_safis.iter().filter_map(|of| traffic(of, ends)).collect(),
    })
}

/// An address without its zone: `fe80::1%eth0`.
fn address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

/// A number that the daemon was given with 16 bits.
fn small(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn moment(seconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?))
}

pub(crate) fn session_state(number: i32) -> SessionState {
    use api::peer_state::SessionState as Listed;
    match Listed::try_from(number).unwrap_or(Listed::Unknown) {
        Listed::Unknown => SessionState::Unknown,
        Listed::Idle => SessionState::Idle,
        Listed::Connect => SessionState::Connect,
        Listed::Active => SessionState::Active,
        Listed::Opensent => SessionState::OpenSent,
        Listed::Openconfirm => SessionState::OpenConfirm,
        Listed::Established => SessionState::Established,
    }
}

/// Whether a capability is that of RFC 4724. Where both sides have it, the daemon says where the routes of a family end,
/// and counts that as one more.
fn is_graceful_restart(capability: &prost_types::Any) -> bool {
    capability.type_url.ends_with(".GracefulRestartCapability")
}

/// What is sent, without so many `ends`.
fn traffic(of: &api::AfiSafi, ends: u64) -> Option<(Family, Traffic)> {
    let state = of.state.as_ref()?;
    let api::AfiSafiState { family, enabled: _, received, accepted, advertised } = *state;
    let advertised = advertised.saturating_sub(ends);
    Some((known_family(&family?)?, Traffic { received, accepted, advertised }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::peer::tests::password;

    fn everything() -> PeerConfig {
        PeerConfig {
            asn: 4_200_000_000,
            port: 1179,
            ttl: Ttl::Multihop(3),
            source: Some("10.0.0.9".parse().unwrap()),
            password: Some(password("secret")),
            families: [Family::Ipv6].into(),
            graceful_restart: Some(GracefulRestart { restart_seconds: 120 }),
            passive: true,
            import: true,
            ..crate::peer::tests::peer()
        }
    }

    #[test]
    fn a_peer_is_read_back_as_it_was_asked_for() {
        for config in
            [everything(), PeerConfig { import: true, ttl: Ttl::Security, ..crate::peer::tests::peer() }]
        {
            let listed = peer(message(&config, 64512, Restarting::No).unwrap()).unwrap();
            assert!(listed.is_ours);
            assert_eq!(listed.config, config);
        }
    }

    #[test]
    fn b7_a_peer_with_another_description_is_not_netds() {
        let mut listed = message(&everything(), 64512, Restarting::No).unwrap();
        listed.conf.as_mut().unwrap().description = "uplink".into();
        let foreign = peer(listed).unwrap();
        assert!(!foreign.is_ours);
        assert_eq!(foreign.config.name, "uplink");
    }

    #[test]
    fn b7_a_foreign_peer_on_a_link_is_listed_with_the_others() {
        let address = |conf: &str, state: &str| {
            let conf = api::PeerConf { neighbor_address: conf.into(), ..Default::default() };
            let state = api::PeerState { neighbor_address: state.into(), ..Default::default() };
            peer(api::Peer { conf: Some(conf), state: Some(state), ..Default::default() })
                .unwrap()
                .config
                .address
        };
        let expected: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!([address("fe80::1%eth0", ""), address("", "fe80::1%eth0")], [expected; 2]);
    }

    #[test]
    fn a_hold_time_of_zero_is_said_to_be_unsupported() {
        let config = PeerConfig { hold_seconds: 0, ..everything() };
        let error = message(&config, 64512, Restarting::No).unwrap_err();
        assert_eq!(error.to_string(), "gobgpd 3 does not support a hold time of 0");
    }

    #[test]
    fn a_peer_without_an_address_is_an_error_and_not_a_panic() {
        assert!(peer(api::Peer::default()).is_err());
        assert!(peer(api::Peer { conf: Some(api::PeerConf::default()), ..Default::default() }).is_err());
    }
}
