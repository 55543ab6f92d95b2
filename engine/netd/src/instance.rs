//! The places of an instance: several netds on one host, and every test, have their own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The instance that is meant when none is named.
pub const DEFAULT_NAME: &str = "default";

/// Below it every instance has its folder.
pub const RUNTIME_ROOT: &str = "/run/netd";

/// Longer names would not fit where kernels and sockets bound them: 108 bytes for a socket's path.
const NAME_BYTES_MAX: usize = 32;

/// The name of an instance: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName(String);

impl InstanceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The alias of the instance's links, by which they are known.
    #[must_use]
    pub fn alias(&self) -> String {
        format!("netd:{}", self.0)
    }
}

impl Default for InstanceName {
    fn default() -> Self {
        Self(DEFAULT_NAME.to_owned())
    }
}

/// Why a name names no instance.
#[derive(Debug, thiserror::Error)]
#[error("an instance is named by 1 to {NAME_BYTES_MAX} of the characters a-z, 0-9 and -")]
pub struct BadName;

impl FromStr for InstanceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let is_allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let is_good = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_allowed);
        is_good.then(|| Self(text.to_owned())).ok_or(BadName)
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where an instance keeps what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub name: InstanceName,
    /// For the socket: mode 0750.
    pub runtime_dir: PathBuf,
    /// For what survives: mode 0700.
    pub state_dir: PathBuf,
    /// For pinned maps and links; on a bpf file system.
    pub bpf_dir: PathBuf,
}

impl Instance {
    /// The places of this name, where not told otherwise.
    #[must_use]
    pub fn new(name: InstanceName, state_dir: Option<PathBuf>, bpf_dir: Option<PathBuf>) -> Self {
        let below = |base: &str| Path::new(base).join(name.0.as_str());
        Self {
            runtime_dir: below(RUNTIME_ROOT),
            state_dir: state_dir.unwrap_or_else(|| below("/var/lib/netd")),
            bpf_dir: bpf_dir.unwrap_or_else(|| below("/sys/fs/bpf/netd")),
            name,
        }
    }

    /// Where the files of captures are.
    #[must_use]
    pub fn captures_dir(&self) -> PathBuf {
        self.state_dir.join(netd_state::CAPTURES_NAME)
    }

    /// Where the daemon of this instance listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join("netd.sock")
    }
}

/// The name of this machine, by which it finds itself in the file.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_its_directories() {
        for bad in ["", "..", "a/b", "A", "a.b", "a b", "\u{e9}", &"a".repeat(33)] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
        assert_eq!("edge-2".parse::<InstanceName>().unwrap().to_string(), "edge-2");
    }

    #[test]
    fn every_instance_has_its_own_places() {
        let instance = Instance::new("a".parse().unwrap(), None, None);
        assert_eq!(instance.socket(), Path::new("/run/netd/a/netd.sock"));
        assert_eq!(instance.bpf_dir, Path::new("/sys/fs/bpf/netd/a"));
        assert_eq!(instance.state_dir, Path::new("/var/lib/netd/a"));
    }
}
