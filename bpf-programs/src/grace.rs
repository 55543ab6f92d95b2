//! Waits until no packet is under way through what was unreferenced before.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::error::{Error, Result};
use crate::sys;

/// Waits until no packet is under way that began before the call: what no frontend named then is free now. Takes
/// about 10 ms.
///
/// The kernel's read-copy-update is asked to wait by membarrier(2), which refuses on a kernel with CPUs that take no
/// ticks (`nohz_full`); there by replacing an element of a map of maps, which waits in the same way.
///
/// # Errors
///
/// When neither is possible: nothing may be reused then.
pub fn grace() -> Result<()> {
    match sys::wait_for_programs() {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => by_map_of_maps(),
        Err(error) => Err(error),
    }
    .map_err(|error| Error::kernel("membarrier", "all CPUs", error))
}

fn by_map_of_maps() -> io::Result<()> {
    const ARRAY: u32 = 2;
    const ARRAY_OF_MAPS: u32 = 12;
    let inner = sys::map_create(ARRAY, 4, None)?;
    let outer: OwnedFd = sys::map_create(ARRAY_OF_MAPS, 4, Some(&inner))?;
    let value = inner.as_raw_fd() as u32;
    sys::map_set(&outer, 0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_membarrier_waits_by_a_map_of_maps() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: making maps needs root");
            return;
        }
        let waited = by_map_of_maps();
        assert!(waited.is_ok(), "{waited:?}");
        assert!(grace().is_ok());
    }
}
