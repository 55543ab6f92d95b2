//! What can go wrong between netd and gobgpd, each in words that an operator can act on.

use std::time::Duration;

/// Why something was not done, or not learned, or not known to be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the daemon makes no sense, or is one that netd refuses.
    #[error("{address:?} is no address of a gobgpd: {reason}")]
    Endpoint {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file of the TLS settings cannot be read.
    #[error("read {path}")]
    TlsFile {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Nobody listens there.
    #[error("no gobgpd at {endpoint}: {reason}")]
    Absent {
        /// The daemon's address.
        endpoint: String,
        /// What connecting said.
        reason: String,
    },
    /// It took longer than it may: the daemon hangs, or the machine is far too busy.
    #[error("gobgpd does not answer: nothing came of {call} within {} ms", limit.as_millis())]
    Hung {
        /// What was asked.
        call: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The daemon has the API of GoBGP 4.
    #[error("the gobgpd at {endpoint} is of version 4, which is not supported yet; version 3 is")]
    Version4 {
        /// The daemon's address.
        endpoint: String,
    },
    /// Something listens there that does not speak GoBGP's API.
    #[error("what listens at {endpoint} is no gobgpd: {reason}")]
    NotGobgp {
        /// The daemon's address.
        endpoint: String,
        /// How it answered.
        reason: String,
    },
    /// The connection is lost: the daemon ended, or the way to it is cut.
    #[error("the connection to gobgpd is lost: {call}: {reason}")]
    Gone {
        /// What was asked.
        call: &'static str,
        /// What the connection said.
        reason: String,
    },
    /// The daemon said no.
    #[error("gobgpd refuses to {call}: {reason}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The daemon's words.
        reason: String,
    },
    /// The daemon has no way to do this.
    #[error("gobgpd 3 does not support {0}")]
    Unsupported(&'static str),
    /// The daemon's answer makes no sense.
    #[error("gobgpd's answer cannot be understood: {0}")]
    Undecodable(String),
}

impl Error {
    /// Whether the connection is of no more use: a new [`Client`](crate::Client) is needed.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        match self {
            Self::Hung { .. } | Self::Gone { .. } | Self::Absent { .. } => true,
            Self::Version4 { .. } | Self::NotGobgp { .. } => true,
            Self::Endpoint { .. } | Self::TlsFile { .. } => false,
            Self::Refused { .. } | Self::Unsupported(_) | Self::Undecodable(_) => false,
        }
    }
}
