//! Peers: what a session should be, and what became of it.

use crate::path::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The password of a session (RFC 2385). It has no form that could be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The longest that the kernel takes, in bytes (`TCP_MD5SIG_MAXKEYLEN`).
    pub const BYTES_MAX: usize = 80;

    /// A password; `None` if it is empty or longer than [`Password::BYTES_MAX`].
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Option<Self> {
        (1..=Self::BYTES_MAX).contains(&text.len()).then_some(Self(text))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How far away a peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// On the same link if it is of another AS, anywhere if it is of the same.
    Direct,
    /// At most this many hops away, if it is of another AS; 2 to 255.
    Multihop(u8),
    /// On the same link, and packets from farther away are ignored (RFC 5082).
    Security,
}

/// That routes are kept for a while when a session is lost (RFC 4724).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// How long the peer is asked to keep them, in seconds, 1 to 4095.
    pub restart_seconds: u16,
}

/// Whether the peer may still have routes of an earlier life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarting {
    /// It has none, or they shall go.
    No,
    /// It may have some; packets were forwarded all the time.
    Yes,
}

/// What a session should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The peer's address: its identity.
    pub address: IpAddr,
    /// The peer's AS.
    pub asn: u32,
    /// What people call it.
    pub name: String,
    /// The peer's TCP port.
    pub port: u16,
    /// How long the session lives without a message, in seconds, 3 to 65535.
    pub hold_seconds: u16,
    /// The interval of keepalives, in seconds.
    pub keepalive_seconds: u16,
    /// Between attempts to connect, in seconds. The daemon makes it at least 5, and adds up to as much again.
    pub connect_retry_seconds: u16,
    /// How far away the peer may be.
    pub ttl: Ttl,
    /// From which address of the node; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
    /// By which packets are signed.
    pub password: Option<Password>,
    /// Which routes the session carries.
    pub families: BTreeSet<Family>,
    /// Whether routes outlive the session for a while.
    pub graceful_restart: Option<GracefulRestart>,
    /// Only the peer opens the session.
    pub passive: bool,
    /// Routes of the peer go into the daemon's table; otherwise they can be looked at and no more.
    pub import: bool,
}

/// What a change of a session's settings costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UpdateEffect {
    /// Nothing differs.
    None,
    /// The session goes on. New timers count from its next start.
    InPlace,
    /// The session ends and is opened again.
    SessionReset,
}

impl PeerConfig {
    /// What it costs to make `to` of this. The name is nobody's concern but netd's: it changes with the next reset.
    #[must_use]
    pub fn effect_of(&self, to: &Self) -> UpdateEffect {
        let aligned = Self {
            name: self.name.clone(),
            hold_seconds: self.hold_seconds,
            keepalive_seconds: self.keepalive_seconds,
            connect_retry_seconds: self.connect_retry_seconds,
            import: self.import,
            ..to.clone()
        };
        if *self != aligned {
            return UpdateEffect::SessionReset;
        }
        let timers = |peer: &Self| (peer.hold_seconds, peer.keepalive_seconds, peer.connect_retry_seconds);
        match timers(self) == timers(to) && self.import == to.import {
            true => UpdateEffect::None,
            false => UpdateEffect::InPlace,
        }
    }
}

/// Where a session stands (RFC 4271, 8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// The daemon does not say.
    Unknown,
    /// Nothing is tried for now.
    Idle,
    /// A connection is being made.
    Connect,
    /// A connection is waited for.
    Active,
    /// The peer has not said yet who it is.
    OpenSent,
    /// The peer has not agreed yet.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Active => "active",
            Self::OpenSent => "open-sent",
            Self::OpenConfirm => "open-confirm",
            Self::Established => "established",
        })
    }
}

/// How many routes of a family a session carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent by the peer.
    pub received: u64,
    /// Of these, those that a policy let through.
    pub accepted: u64,
    /// Sent to the peer; counted only when it is asked for.
    pub advertised: u64,
}

/// A peer as the daemon has it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What was asked for, as far as the daemon tells. Of a foreign peer, its name is the description.
    pub config: PeerConfig,
    /// Whether netd added it.
    pub is_ours: bool,
    /// Whether netd's policies know it; one of netd's peers that they do not know was left half-made.
    pub is_admitted: bool,
    /// Where the session stands.
    pub state: SessionState,
    /// Since when it is established.
    pub since: Option<SystemTime>,
    /// How often an established session was lost.
    pub flaps: u64,
    /// The peer's BGP identifier, once it has said it.
    pub router_id: Option<Ipv4Addr>,
    /// Notifications, which end a session: from the peer, and from here.
    pub notifications: (u64, u64),
    /// Updates: from the peer, and from here.
    pub updates: (u64, u64),
    /// Opens: from the peer, and from here.
    pub opens: (u64, u64),
    /// The routes, by family.
    pub traffic: BTreeMap<Family, Traffic>,
}

impl Peer {
    /// Why the session is not established, as far as counters tell: the daemon's API has no reasons.
    #[must_use]
    pub fn hindrance(&self) -> Option<&'static str> {
        if self.state == SessionState::Established {
            return None;
        }
        Some(match (self.opens, self.notifications) {
            (_, (1.., 0)) => "the peer ends the session: does it expect another AS, or not this node?",
            ((1.., _), (_, 1..)) => {
                "the session was ended from here: is the peer of another AS than the file says?"
            }
            (_, (_, 1..)) => "the session was ended from here",
            ((0, 0), _) => match self.config.password {
                Some(_) => {
                    "no connection: the peer does not listen, is not reachable, or has another password"
                }
                None => "no connection: the peer does not listen, is not reachable, or wants a password",
            },
            ((0, 1..), _) => "the peer does not answer",
            ((1.., _), _) => "the session is being opened",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    pub(crate) fn peer() -> PeerConfig {
        PeerConfig {
            address: "10.0.0.1".parse().unwrap(),
            asn: 64513,
            name: "tor-1".into(),
            port: 179,
            hold_seconds: 90,
            keepalive_seconds: 30,
            connect_retry_seconds: 10,
            ttl: Ttl::Direct,
            source: None,
            password: None,
            families: Family::ALL.into(),
            graceful_restart: None,
            passive: false,
            import: false,
        }
    }

    pub(crate) fn password(text: &str) -> Password {
        Password::new(Zeroizing::new(text.into())).unwrap()
    }

    #[test]
    fn b14_timers_and_imports_are_changed_without_a_reset() {
        let same = PeerConfig { name: "another".into(), ..peer() };
        assert_eq!(peer().effect_of(&same), UpdateEffect::None);
        for changed in [
            PeerConfig { hold_seconds: 30, ..peer() },
            PeerConfig { keepalive_seconds: 1, ..peer() },
            PeerConfig { connect_retry_seconds: 1, ..peer() },
            PeerConfig { import: true, ..peer() },
        ] {
            assert_eq!(peer().effect_of(&changed), UpdateEffect::InPlace);
        }
        for changed in [
            PeerConfig { asn: 1, ..peer() },
            PeerConfig { port: 1179, ..peer() },
            PeerConfig { password: Some(password("x")), ..peer() },
            PeerConfig { ttl: Ttl::Security, hold_seconds: 3, ..peer() },
            PeerConfig { families: [Family::Ipv4].into(), ..peer() },
        ] {
            assert_eq!(peer().effect_of(&changed), UpdateEffect::SessionReset);
        }
    }

    #[test]
    fn x17_a_password_is_never_printed() {
        let peer = PeerConfig { password: Some(password("canary")), ..peer() };
        assert!(!format!("{peer:?}").contains("canary"));
    }

    #[test]
    fn an_empty_password_is_none() {
        assert!(Password::new(Zeroizing::new(String::new())).is_none());
        assert!(Password::new(Zeroizing::new("x".repeat(81))).is_none());
    }
}
