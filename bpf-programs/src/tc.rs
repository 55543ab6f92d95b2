//! Programs on what leaves by devices and on what comes in by them: by links that are pinned, and before Linux 6.6, which
//! brought these, by filters.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::filters::{Order, Place};
use crate::links::{self, LinkError, LinkInfo};
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
) -> std::result::Result<(), LinkError> {
    attach_in(root, device, Place { ifindex, side }, Order::Behind, program)
}

/// As [`attach`], before those that are there: none of them can let a packet pass by it.
pub(crate) fn attach_first(
    root: &Path,
    device: &str,
    ifindex: u32,
    side: Side,
    program: BorrowedFd<'_>,
) -> std::result::Result<(), LinkError> {
    attach_in(root, device, Place { ifindex, side }, Order::First, program)
}

fn attach_in(
    root: &Path,
    device: &str,
    place: Place,
    order: Order,
    program: BorrowedFd<'_>,
) -> std::result::Result<(), LinkError> {
    let linked =
        links::attach_by(root, device, place.ifindex, program, || create(device, place, order, program));
    match linked {
        Err(LinkError::Other(Error::Kernel { source, .. }))
            if source.raw_os_error() == Some(libc::EINVAL) =>
        {
            links::attach_filter(root, device, place, order, program)
        }
        done => done,
    }
}

fn create(
    device: &str,
    Place { ifindex, side }: Place,
    order: Order,
    program: BorrowedFd<'_>,
) -> std::result::Result<OwnedFd, LinkError> {
    let before = match order {
        Order::Behind => sys::TCX_BEHIND,
        Order::First => sys::TCX_BEFORE,
    };
    let link = match has_links() {
        true => sys::tcx_link_create(program, ifindex, side == Side::Egress, before),
        // As the kernel says it.
        false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    link.map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => LinkError::NoDevice { ifindex },
        Some(libc::EPERM | libc::EACCES) => LinkError::NoPermission,
        _ => LinkError::Other(Error::kernel("attach", device, error)),
    })
}

/// Whether links are tried at all: tests of what an older kernel is given say no, where netd was built for tests.
fn has_links() -> bool {
    !(cfg!(debug_assertions) && std::env::var_os("NETD_TEST_WITHOUT_TCX").is_some())
}

/// Where the links of one side are, of programs that have both.
pub(crate) fn side_root(root: &Path, side: Side) -> PathBuf {
    root.join(match side {
        Side::Ingress => "in",
        Side::Egress => "out",
    })
}

/// The devices with links of both sides under a folder, and on each side which program is there.
pub(crate) fn attached(root: &Path) -> Result<BTreeMap<(String, Side), LinkInfo>> {
    let mut attached = BTreeMap::new();
    for side in [Side::Ingress, Side::Egress] {
        for link in links::list(&side_root(root, side))? {
            attached.insert((link.device.clone(), side), link);
        }
    }
    Ok(attached)
}

/// Removes the folder of programs that have both sides, and those of their links; what is not netd's stays.
pub(crate) fn remove_folders(root: &Path) {
    for side in [Side::Ingress, Side::Egress].map(|side| side_root(root, side)) {
        let _ = fs::remove_dir(side.join("links"));
        let _ = fs::remove_dir(side);
    }
    let _ = fs::remove_dir(root);
}
