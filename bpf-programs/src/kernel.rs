//! Whether the kernel lets netd make maps at all, before it is asked what it can do.
//!
//! The loader finds that out once, by maps and programs that it makes for a try, takes every refusal for something that
//! the kernel does not have, and remembers it for as long as the process lives. A kernel that was short of memory at that
//! moment would be taken for one of long ago until netd is restarted. So each time before something is loaded a map is
//! made first, and where that is refused the loader is not asked.

use std::io;

use aya::EbpfLoader;

use crate::error::{Error, Result};
use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// Fails if the kernel refuses bpf(2), or what every program needs.
///
/// # Errors
///
/// [`Error::NoBpf`], with what the kernel answered; [`Error::Forgotten`].
pub fn check_kernel() -> Result<()> {
    sys::map_create(ARRAY, size_of::<u64>() as u32, None).map_err(|source| Error::NoBpf { source })?;
    let features = aya::features();
    // Every kernel that knows XDP links has both.
    if features.bpf_global_data() && features.btf().is_some() { Ok(()) } else { Err(Error::Forgotten) }
}

/// A loader of objects, where the kernel takes any.
pub(crate) fn loader<'a>() -> Result<EbpfLoader<'a>> {
    check_kernel()?;
    Ok(EbpfLoader::new())
}

/// What to do about a bpf(2) that is refused.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "netd needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or root), and a sandbox that lets bpf(2) through: in systemd \
             SystemCallFilter=, in a container its seccomp profile"
        }
        Some(libc::ENOSYS) => {
            "the kernel was built without it, or a sandbox does not let it through: in systemd SystemCallFilter=, in a \
             container its seccomp profile"
        }
        Some(libc::ENOMEM | libc::EAGAIN) => {
            "there is no memory for it, or the cgroup's limit is reached (memory.max)"
        }
        _ => "netd needs a Linux of 6.1 or later, with CONFIG_BPF_SYSCALL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_named_with_what_allows_it() {
        let said = |errno| Error::NoBpf { source: io::Error::from_raw_os_error(errno) }.to_string();
        assert!(said(libc::EPERM).contains("CAP_BPF"), "{}", said(libc::EPERM));
        assert!(said(libc::ENOSYS).contains("sandbox"), "{}", said(libc::ENOSYS));
        assert!(said(libc::ENOMEM).contains("memory"), "{}", said(libc::ENOMEM));
        assert!(said(libc::EINVAL).contains("CONFIG_BPF_SYSCALL"), "{}", said(libc::EINVAL));
    }
}
