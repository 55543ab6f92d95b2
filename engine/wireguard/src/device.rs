//! Devices and peers, and changes of them.

use crate::{PresharedKey, PrivateKey, PublicKey};
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// What a device has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The UDP port at which it listens; 0: at none, or at any.
    pub port: u16,
    /// The firewall mark of its own packets; 0: none.
    pub mark: u32,
    /// That of its private key, if it has one.
    pub public_key: Option<PublicKey>,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// What a device knows of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where packets for it go; learnt from its own packets, too.
    pub endpoint: Option<SocketAddr>,
    /// The inner addresses that are its.
    pub allowed_ips: BTreeSet<IpNetwork>,
    /// Seconds; 0: off.
    pub keepalive: u16,
    /// The secret that it shares with this device besides.
    pub preshared_key: Option<PresharedKey>,
    /// When the last session began, since 1970; `None`: there was none.
    pub last_handshake: Option<Duration>,
    /// Bytes that came from it, as they were on the wire.
    pub received: u64,
    /// Bytes that went to it.
    pub sent: u64,
}

/// What is to be changed: what is `None` or empty stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// The private key.
    pub private_key: Option<PrivateKey>,
    /// The UDP port; not 0.
    pub port: Option<u16>,
    /// The firewall mark.
    pub mark: Option<u32>,
    /// Changes of peers, made in their order.
    pub peers: Vec<PeerChange>,
}

/// A change of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// It goes, and its addresses with it.
    Remove(PublicKey),
    /// It is made, or some of it changes.
    Set(PublicKey, Settings),
}

/// Whether a peer is there before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is made if it is not there.
    New,
    /// If it is not there, nothing is done.
    Existing,
}

/// What of a peer changes: what is `None` or empty stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether the peer may be made.
    pub presence: Presence,
    /// Where its packets go from now on.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 turns it off.
    pub keepalive: Option<u16>,
    /// The shared secret; [`PresharedKey::none`] takes it away.
    pub preshared_key: Option<PresharedKey>,
    /// Addresses that become this peer's; each is taken from whoever has it, in one step.
    pub allowed_ips: Vec<IpNetwork>,
}

impl Settings {
    /// That nothing changes.
    #[must_use]
    pub fn of(presence: Presence) -> Self {
        Self { presence, endpoint: None, keepalive: None, preshared_key: None, allowed_ips: Vec::new() }
    }
}

/// So many addresses of one peer go into one message.
const ALLOWED_IPS_MAX: usize = 256;

impl PeerChange {
    /// Whose change it is.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        match self {
            Self::Remove(key) | Self::Set(key, _) => *key,
        }
    }

    /// How many addresses it brings.
    pub(crate) fn added(&self) -> usize {
        match self {
            Self::Remove(_) => 0,
            Self::Set(_, settings) => settings.allowed_ips.len(),
        }
    }

    /// The same in changes that each fit a message.
    pub(crate) fn in_pieces(&self) -> Vec<Self> {
        let Self::Set(key, settings) = self else { return vec![self.clone()] };
        let mut pieces = settings.allowed_ips.chunks(ALLOWED_IPS_MAX).map(<[IpNetwork]>::to_vec);
        let first = Settings { allowed_ips: pieces.next().unwrap_or_default(), ..settings.clone() };
        let more = pieces.map(|allowed_ips| Settings { allowed_ips, ..Settings::of(Presence::Existing) });
        std::iter::once(first).chain(more).map(|settings| Self::Set(*key, settings)).collect()
    }
}
