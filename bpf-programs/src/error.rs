//! What can go wrong with maps, programs and pins.

use std::io;

use crate::kernel::advice;

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
    #[error(
        "{call} of {object} was not permitted: netd needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or root)"
    )]
    NoPermission {
        /// What was tried.
        call: &'static str,
        /// On what.
        object: String,
    },
    /// The kernel refused to make any map.
    #[error("bpf(2) is refused: {}", advice(source))]
    NoBpf {
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The kernel had no memory while it was asked what it can do, and that is not asked again.
    #[error(
        "the kernel was short of memory when netd asked what it can do: restart netd; traffic goes on meanwhile"
    )]
    Forgotten,
    /// The kernel's verifier, or the loader before it, refused the program.
    #[error("the kernel did not take program {program}: {reason}{}", last_words(log))]
    Rejected {
        /// The program.
        program: &'static str,
        /// Why, in short.
        reason: String,
        /// The verifier's words, all of them.
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

/// What the verifier's log ends with, but for its statistics: why it refused. The rest is thousands of lines.
fn last_words(log: &str) -> String {
    const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    let is_statistics = |line: &&str| STATISTICS.iter().any(|begin| line.starts_with(begin));
    let lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.rev().find(|line| !is_statistics(line)).map_or_else(String::new, |line| format!(": {line}"))
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_the_verifiers_last_words_and_not_all_of_them() {
        let log = "0: R1=ctx()\n307: (0f) r3 += r2\nR3 pointer arithmetic prohibited for !root\nverification time 9 usec\n\
                   stack depth 32\nprocessed 154 insns (limit 1000000)\n";
        let refused =
            |log: &str| Error::Rejected { program: "xdp_lb", reason: "EACCES".into(), log: log.into() };
        assert_eq!(
            refused(log).to_string(),
            "the kernel did not take program xdp_lb: EACCES: R3 pointer arithmetic prohibited for !root"
        );
        assert_eq!(refused("").to_string(), "the kernel did not take program xdp_lb: EACCES");
    }
}
