//! Whether what is pinned outlives netd: finds out whose mount namespace the bpf file system is in.
//!
//! A bpf file system, and with it every program and map that is pinned there, ends with the last mount of it. One that
//! only processes of a mount namespace of their own see ends with the last of them: with netd.

use netd_core::KindName;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

/// Why what is pinned ends with netd, and for which kinds that matters.
#[derive(Clone, Debug)]
pub struct Fleeting {
    /// A sentence without its full stop: why, and what to do about it.
    pub why: String,
    /// The kinds whose resources are pinned.
    pub kinds: &'static [KindName],
}

/// Whose bpf file system it was before netd looked for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there.
    Mounted,
    /// netd mounted it.
    Missing,
}

/// Why what is pinned below `bpf` ends with this process; `None` if it does not, or there is nothing there.
#[must_use]
pub fn fleeting(bpf: &Path, found: Found) -> Option<String> {
    let own = Sight::of(std::process::id(), bpf)?;
    // Whoever lives longer; a sandbox may hide the first of them.
    let mut others =
        [1, parent_id()].into_iter().filter(|process| ![0, std::process::id()].contains(process));
    let witness = others.find_map(|process| Sight::of(process, bpf));
    is_fleeting(&own, witness.as_ref(), found).then(|| {
        format!(
            "the bpf file system at {} is in a mount namespace of its own, and ends with the last process there: where that \
             is netd, traffic stops when netd is stopped or killed; in a network namespace start it by \
             `nsenter --net=/run/netns/NAME netd run` and not by `ip netns exec`, in a container hand it the host's \
             /sys/fs/bpf",
            bpf.display()
        )
    })
}

/// What a process sees.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    mount_namespace: PathBuf,
    /// The device of the file system at the place of the pins; each mount of a new bpf file system has its own.
    device: Option<u64>,
}

impl Sight {
    /// `None` if there is no such process, or the kernel does not let this one look.
    fn of(process: u32, bpf: &Path) -> Option<Self> {
        let process = Path::new("/proc").join(process.to_string());
        let mount_namespace = fs::read_link(process.join("ns/mnt")).ok()?;
        let inside = bpf.strip_prefix("/").unwrap_or(bpf);
        let device = fs::metadata(process.join("root").join(inside)).ok().map(|found| found.dev());
        Some(Self { mount_namespace, device })
    }
}

/// Without a witness, as where netd is all that runs in a container, a file system that was there is somebody's.
fn is_fleeting(own: &Sight, witness: Option<&Sight>, found: Found) -> bool {
    match witness {
        None => found == Found::Missing,
        Some(other) => own.mount_namespace != other.mount_namespace && own.device != other.device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(namespace: &str, device: Option<u64>) -> Sight {
        Sight { mount_namespace: namespace.into(), device }
    }

    #[test]
    fn pins_end_with_netd_where_those_that_outlive_it_do_not_see_them() {
        let own = sight("mnt:[1]", Some(30));
        for (witness, expected) in [
            (sight("mnt:[1]", Some(30)), false),
            (sight("mnt:[2]", Some(30)), false),
            (sight("mnt:[2]", Some(31)), true),
            (sight("mnt:[2]", None), true),
        ] {
            for found in [Found::Mounted, Found::Missing] {
                assert_eq!(is_fleeting(&own, Some(&witness), found), expected, "{witness:?}");
            }
        }
    }

    #[test]
    fn where_nobody_can_be_compared_with_a_file_system_that_was_there_is_somebodys() {
        let own = sight("mnt:[1]", Some(30));
        assert!(!is_fleeting(&own, None, Found::Mounted) && is_fleeting(&own, None, Found::Missing));
    }
}
