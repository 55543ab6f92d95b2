//! How it is found out whether a backend works.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The `health_check` of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: HealthKind,
    /// The port that is asked; without one see [`Service::checked_port`](super::Service::checked_port).
    pub port: Option<u16>,
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// How long an answer is waited for; at most `interval`.
    pub timeout: Duration,
    /// So many good answers in a row make a backend healthy; at least 1.
    pub rise: u32,
    /// So many failed checks in a row make it unhealthy; at least 1.
    pub fall: u32,
    /// The way of the check.
    pub via: Via,
    /// What is asked for by HTTP; begins with `/`.
    pub path: String,
    /// The `Host` header and the name in TLS; without one the address that is asked.
    pub host: Option<String>,
    /// The HTTP statuses that are good, sorted; no two touch each other.
    pub status: Vec<RangeInclusive<u16>>,
    /// The payload of the UDP datagram.
    pub send: Vec<u8>,
    /// What the answer over UDP has to contain; without it silence is good, too, and only a refusal is a failure.
    pub expect: Option<Vec<u8>>,
    /// In percent: if fewer than this share of the active backends are healthy, all of them stay in force; 0 to 100,
    /// 0 is off.
    pub floor: u8,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: HealthKind::Tcp,
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            via: Via::Tunnel,
            path: "/".to_owned(),
            host: None,
            status: vec![200..=399],
            send: Vec::new(),
            expect: None,
            floor: 10,
        }
    }
}

/// What a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthKind {
    /// Whether a connection can be opened.
    Tcp,
    /// Whether a request is answered with a good status.
    Http,
    /// The same inside TLS; the certificate is not verified.
    Https,
    /// Whether a datagram is answered.
    Udp,
    /// Whether an echo request is answered.
    Icmp,
}

impl HealthKind {
    /// As it is written in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// The way of a check to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Through the service's tunnel and to the VIP, as the traffic of clients.
    #[default]
    Tunnel,
    /// To the backend's own address.
    Direct,
}
