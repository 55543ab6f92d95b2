//! Where numbers are served.

use std::net::SocketAddr;

/// The `[metrics]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The TCP address that answers; its port is not 0.
    pub listen: SocketAddr,
}
