//! Programs on what leaves by devices and on what comes in by them, by links that are pinned (Linux 6.6 and newer).

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::error::Error;
use crate::links::{self, LinkError};
use crate::sys;

/// What a program sees of a device's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// What comes in, before routing.
    Ingress,
    /// What leaves, after routing.
    Egress,
}

/// Attaches a program to a side of a device by a link that is pinned under `root`, which is of this side alone.
///
/// Others are before it. What [`links::attach`] says of links that are there already goes for these, too; so do
/// [`links::list`], [`links::update`] and [`links::detach`].
///
/// # Errors
///
/// [`LinkError`]; nothing is attached or pinned then.
pub fn attach(
    root: &Path,
    device: &str,
    ifindex: u32,
    side: Side,
    program: BorrowedFd<'_>,
) -> Result<(), LinkError> {
    let create = || {
        sys::tcx_link_create(program, ifindex, side == Side::Egress).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::ENODEV) => LinkError::NoDevice { ifindex },
                Some(libc::EPERM | libc::EACCES) => LinkError::NoPermission,
                _ => LinkError::Other(Error::kernel("attach", device, error)),
            }
        })
    };
    links::attach_by(root, device, ifindex, program, create)
}
