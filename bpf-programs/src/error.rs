//! What can go wrong with maps, programs and pins.

use std::io;

/// A failure of a map, a program or a pin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A map has no room for another entry (`E2BIG`).
    #[error("map {map} is full: it has {capacity} entries")]
    Full {
        /// The map.
        map: &'static str,
        /// How many entries it has.
        capacity: u32,
    },
    /// The caller named entries that the map does not have.
    #[error("map {map} has {capacity} entries; {count} from {at} are not among them")]
    OutOfRange {
        /// The map.
        map: &'static str,
        /// The first entry asked for.
        at: u32,
        /// How many were asked for.
        count: u32,
        /// How many there are.
        capacity: u32,
    },
    /// The kernel refused.
    #[error("{call} of {object} failed")]
    Kernel {
        /// What was tried.
        call: &'static str,
        /// On what: a map's name, a program's, a path.
        object: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel refused for want of a privilege.
    #[error("{call} of {object} was not permitted: netd needs CAP_BPF and CAP_NET_ADMIN (or root)")]
    NoPermission {
        /// What was tried.
        call: &'static str,
        /// On what.
        object: String,
    },
    /// The kernel's verifier, or the loader before it, refused the program.
    #[error("the kernel did not take program {program}: {reason}\n{log}")]
    Rejected {
        /// The program.
        program: &'static str,
        /// Why, in short.
        reason: String,
        /// The verifier's words.
        log: String,
    },
    /// Pinned maps are there, but not as this netd knows them.
    #[error("the maps under {path} are not usable: {reason}")]
    Incompatible {
        /// The generation's folder.
        path: String,
        /// Which map, and what differs.
        reason: String,
    },
    /// There is no file system for pins at a path, and none could be mounted.
    #[error("{path} is not a BPF file system, and none could be mounted there")]
    NoBpffs {
        /// The path.
        path: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The error of a call that the kernel refused.
    pub(crate) fn kernel(call: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        let object = object.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission { call, object },
            _ => Self::Kernel { call, object, source },
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
