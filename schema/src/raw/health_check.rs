//! `services.health_check`.

use super::List;
use super::duration::{CheckInterval, CheckTimeout};
use super::number::{Count, Percent, PortNumber};
use super::probe::{HostName, HttpPath, Payload, StatusRange};
use super::table::raw_table;
use crate::model::{HealthKind, Via};

raw_table! {
    /// How the health of the backends is found out. Each active backend is asked on its own; one that is found
    /// unhealthy gets no new flows, as if its state were `quarantined`, until it is healthy again.
    pub(crate) struct HealthCheck {
        /// What is asked: `tcp`, whether a connection can be opened; `http`, whether a request is answered with a
        /// good status; `https`, the same inside TLS, whose certificate is not verified; `udp`, whether a datagram is
        /// answered; `icmp`, whether an echo request is answered.
        required kind: HealthKind, like "http";
        /// The port that is asked. Without it, the port that the backend gets packets on: that of the service's first
        /// port of the check's protocol, counted by number, or of the first port if it has none. Not for `icmp`.
        optional port: PortNumber, like 8080;
        /// From the start of one check of a backend to the start of the next.
        optional interval: CheckInterval = "5s", like "1s";
        /// How long an answer is waited for. At most `interval`.
        optional timeout: CheckTimeout = "2s", like "500ms";
        /// After so many good answers in a row an unhealthy backend is healthy.
        optional rise: Count = 2, like 3;
        /// After so many failed checks in a row a healthy backend is unhealthy.
        optional fall: Count = 3, like 2;
        /// The way of the check: `tunnel`, to the VIP and inside the service's tunnel, as the packets of clients;
        /// `direct`, to the backend's own address, which says nothing about the tunnel.
        optional via: Via = "tunnel", like "direct";
        /// What is asked for by `http` and `https`.
        optional path: HttpPath = "/", like "/healthz";
        /// The `Host` header of `http` and `https`, and the name in the TLS handshake. Without it, the address that is
        /// asked.
        optional host: HostName, like "www.example.com";
        /// The HTTP statuses that are good. Redirections are not followed.
        optional status: List<StatusRange, 1> = ["200-399"], like ["200-299", "301"];
        /// What the datagram of a `udp` check carries; TOML's escapes such as `\u0000` can be used. Without it, the
        /// datagram is empty.
        optional send: Payload, like "ping";
        /// What the answer to a `udp` check has to contain. Without it, silence is good too: only a refusal is a
        /// failure.
        optional expect: Payload, like "pong";
        /// In percent. If fewer than this share of the active backends of a VIP are healthy, the checks are not
        /// believed, and all of them stay in force: more likely the checks are wrong than nearly everything is
        /// broken. 0 turns this off.
        optional floor: Percent = 10, like 50;
    }
}
