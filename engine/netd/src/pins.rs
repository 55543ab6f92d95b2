//! Whether what is pinned outlives netd: finds out whose mount namespace the bpf file system is in.
//!
//! A bpf file system, and with it every program and map that is pinned there, ends with the last mount of it. One that
//! only processes of a mount namespace of their own see ends with the last of them: with netd.

use netd_core::KindName;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
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
    let is_init = std::process::id() == 1;
    let own = Sight::of(Path::new("/proc/self"), bpf)?;
    let of_init = Sight::of(Path::new("/proc/1"), bpf);
    is_fleeting(own, of_init.as_ref(), is_init, found).then(|| {
        format!(
            "the bpf file system at {} is one of netd's own mount namespace, and ends with netd: if it is stopped or \
             killed, traffic stops; in a network namespace start it by `nsenter --net=/run/netns/NAME netd run` and not by \
             `ip netns exec`, in a container hand it the host's /sys/fs/bpf",
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
    /// `process` is its folder in /proc. `None` if the kernel does not let this process look there.
    fn of(process: &Path, bpf: &Path) -> Option<Self> {
        let mount_namespace = fs::read_link(process.join("ns/mnt")).ok()?;
        let inside = bpf.strip_prefix("/").unwrap_or(bpf);
        let device = fs::metadata(process.join("root").join(inside)).ok().map(|found| found.dev());
        Some(Self { mount_namespace, device })
    }
}

/// Who is the init process itself, as in a container, has nobody to compare with.
fn is_fleeting(own: Sight, of_init: Option<&Sight>, is_init: bool, found: Found) -> bool {
    match of_init.filter(|_| !is_init) {
        None => found == Found::Missing,
        Some(init) => own.mount_namespace != init.mount_namespace && own.device != init.device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(namespace: &str, device: Option<u64>) -> Sight {
        Sight { mount_namespace: namespace.into(), device }
    }

    #[test]
    fn pins_end_with_netd_where_init_does_not_see_them() {
        for (init, expected) in [
            (sight("mnt:[1]", Some(30)), false),
            (sight("mnt:[2]", Some(30)), false),
            (sight("mnt:[2]", Some(31)), true),
            (sight("mnt:[2]", None), true),
        ] {
            let own = sight("mnt:[1]", Some(30));
            assert_eq!(is_fleeting(own, Some(&init), false, Found::Mounted), expected, "{init:?}");
        }
    }

    #[test]
    fn without_an_init_to_compare_with_a_file_system_that_was_there_is_somebodys() {
        for (found, expected) in [(Found::Mounted, false), (Found::Missing, true)] {
            let own = || sight("mnt:[1]", Some(30));
            assert_eq!(is_fleeting(own(), None, false, found), expected);
            assert_eq!(is_fleeting(own(), Some(&own()), true, found), expected);
        }
    }
}
