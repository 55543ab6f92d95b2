//! How nodes find out which gateways live.

use std::path::PathBuf;
use std::time::Duration;

/// So many nodes may be gateways where they are watched: each message says of every one when it was last heard.
pub const WATCHED_MAX: usize = 64;

/// `[egress_failover]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressFailover {
    /// From one question to the next.
    pub interval: Duration,
    /// Intervals without an answer after which a gateway gives up its addresses; the others wait for one more.
    pub misses: u32,
    /// The UDP port at which every node is asked.
    pub port: u16,
    /// Whether a gateway that has come back takes its policies again.
    pub preempt: bool,
    /// Whom a gateway has to hear to have addresses.
    pub quorum: Quorum,
    /// The file with the nodes' common secret.
    pub key_file: Option<PathBuf>,
}

impl EgressFailover {
    /// The port, where the file says nothing.
    pub const PORT_DEFAULT: u16 = 9473;

    /// After this time without a word, a gateway gives up its addresses.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.interval.saturating_mul(self.misses)
    }

    /// After this time without a word, a gateway counts as dead: it has given up by itself then, if it lives.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.patience().saturating_add(self.interval)
    }

    /// For so long an egress address stays on a gateway whose netd does not say again that it is to stay; in whole seconds,
    /// as the kernel counts.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.detection().as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))
    }
}

impl Default for EgressFailover {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(300),
            misses: 3,
            port: Self::PORT_DEFAULT,
            preempt: true,
            quorum: Quorum::default(),
            key_file: None,
        }
    }
}

/// Whom a gateway has to hear to have addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Quorum {
    /// With itself, more than half of the nodes.
    #[default]
    Majority,
    /// Nobody.
    None,
}
