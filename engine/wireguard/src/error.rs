//! Why a device cannot be read or changed.

use std::io;

/// Why a device cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such device of this sort.
    #[error("there is no such WireGuard device")]
    Absent,
    /// There can be none of this sort.
    #[error("this kernel has no WireGuard")]
    Unsupported,
    /// Somebody else has the UDP port.
    #[error("UDP port {0} is in use by somebody else")]
    PortInUse(u16),
    /// What was said cannot be understood.
    #[error("what the device said cannot be understood: {0}")]
    Undecodable(String),
    /// The other side, or the way there, failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
