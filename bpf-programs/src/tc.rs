//! Programs on what leaves by devices and on what comes in by them: by links that are pinned, and before Linux 6.6, which
//! brought these, by filters.

use std::collections::{BTreeMap, BTreeSet};
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

/// Attaches a program to a side of a device by a link that is pinned under `root`, which is of this side alone. One that
/// comes first is let no packet pass by.
///
/// What [`links::attach`] says of links that are there already goes for these, too; so do
/// [`links::list`], [`links::update`] and [`links::detach`].
///
/// # Errors
///
/// [`LinkError`]; nothing is attached or pinned then.
pub(crate) fn attach(
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

/// The devices of which a side runs another program than that with this side's number: their names and indices.
pub(crate) fn running_others(
    root: &Path,
    program_id: impl Fn(Side) -> Result<u32>,
) -> Result<BTreeSet<(String, u32)>> {
    let mut others = BTreeSet::new();
    for ((device, side), link) in attached(root)? {
        if link.ifindex > 0 && link.program_id != program_id(side)? {
            others.insert((device, link.ifindex));
        }
    }
    Ok(others)
}
