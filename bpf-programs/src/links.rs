//! Programs on devices, by links: pinned ones for the load balancer, held ones for laboratories.
//!
//! A pinned link outlives netd, and nobody else can replace its program. Replacing it goes through the link: every
//! packet meets the old program or the new one. Where the kernel has no links for what is to be attached, a filter of tc
//! and a record of it take a link's place, and everything here is about them as well.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::bpffs::make_folder;
use crate::decap;
use crate::error::{Error, Result};
use crate::filters::{self, Order, Place, RECORD};
use crate::loader;
use crate::sys;

const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// What stands for a dot in a pin's name.
const DOT: &str = "%2e";

/// Where on its way a device's packet meets the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// In the driver.
    Native,
    /// Behind the driver, in the kernel's own buffers: any device, several times slower.
    Generic,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkInfo {
    /// The device's name when it was attached.
    pub device: String,
    /// The device; zero when it is gone and the link is defunct.
    pub ifindex: u32,
    /// The kernel's number for the program that runs.
    pub program_id: u32,
}

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// There is no such device.
    #[error("there is no device with index {ifindex}")]
    NoDevice {
        /// The index asked for.
        ifindex: u32,
    },
    /// Another program is there, or one in the other mode.
    #[error("another XDP program is already on the device")]
    Busy(#[source] io::Error),
    /// The driver cannot.
    #[error("the device's driver does not take an XDP program in {mode:?} mode")]
    NotSupported {
        /// The mode asked for.
        mode: Mode,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The driver can, but not as the device is set up now.
    #[error(
        "the driver refused; the usual reason is an MTU above what it takes with XDP (about 3498 bytes with 4 KiB \
         pages), or an offload such as LRO that has to be switched off"
    )]
    MtuTooLarge(#[source] io::Error),
    /// Not a question of the device.
    #[error("attaching was not permitted: netd needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or root)")]
    NoPermission,
    /// Anything else, pins included.
    #[error(transparent)]
    Other(#[from] Error),
}

/// What holds a program on a device.
#[derive(Debug)]
enum Held {
    Link(OwnedFd),
    /// On kernels without links for what the program is.
    Filter(Place),
}

/// Attaches a program to a device by a link that is pinned under `root`.
///
/// If this device has a link there already, its program is replaced, in the mode in which it runs. A link under the
/// same name whose device is gone, or that is on another device, is detached first.
///
/// # Errors
///
/// [`LinkError`]; nothing is attached or pinned then.
pub fn attach(
    root: &Path,
    device: &str,
    ifindex: u32,
    mode: Mode,
    program: BorrowedFd<'_>,
) -> std::result::Result<(), LinkError> {
    attach_by(root, device, ifindex, program, || create(ifindex, mode, program))
}

/// As [`attach`], by a link that `create` makes.
pub(crate) fn attach_by(
    root: &Path,
    device: &str,
    ifindex: u32,
    program: BorrowedFd<'_>,
    create: impl FnOnce() -> std::result::Result<OwnedFd, LinkError>,
) -> std::result::Result<(), LinkError> {
    if keeps(root, device, ifindex, program)? {
        return Ok(());
    }
    let link = create()?;
    // When this fails, the link is dropped here, and with it the attachment.
    pin(&link, &path(root, device)).map_err(LinkError::Other)
}

/// As [`attach`], by a filter of tc.
pub(crate) fn attach_filter(
    root: &Path,
    device: &str,
    place: Place,
    order: Order,
    program: BorrowedFd<'_>,
) -> std::result::Result<(), LinkError> {
    if keeps(root, device, place.ifindex, program)? {
        return Ok(());
    }
    let record = record(root, device);
    filters::attach(root, &record, place, order, program).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => LinkError::NoDevice { ifindex: place.ifindex },
        Some(libc::EPERM | libc::EACCES) => LinkError::NoPermission,
        _ => LinkError::Other(Error::kernel("attach by a filter", device, error)),
    })
}

/// Whether what is there already runs the program now. What is there for another device is taken away, and there is a
/// folder for what comes instead.
fn keeps(
    root: &Path,
    device: &str,
    ifindex: u32,
    program: BorrowedFd<'_>,
) -> std::result::Result<bool, LinkError> {
    if let Some((held, info)) = open(root, device)? {
        if info.ifindex == ifindex && ifindex != 0 {
            replace(root, &held, device, program)?;
            return Ok(true);
        }
        drop(held);
        detach(root, device)?;
    }
    let folder = folder(root);
    make_folder(&folder).map_err(|error| Error::kernel("make", folder.display().to_string(), error))?;
    Ok(false)
}

/// Replaces the program of a device's link: not one packet passes without a program.
///
/// # Errors
///
/// `ENOENT` when the device has no link under `root`; `ENOLINK` when the device is gone.
pub fn update(root: &Path, device: &str, program: BorrowedFd<'_>) -> Result<()> {
    let Some((held, _)) = open(root, device)? else {
        return Err(Error::kernel("update", device, io::Error::from_raw_os_error(libc::ENOENT)));
    };
    replace(root, &held, device, program)
}

/// The links that are pinned under `root`, by name.
pub fn list(root: &Path) -> Result<Vec<LinkInfo>> {
    let folder = folder(root);
    let failed = |error| Error::kernel("read", folder.display().to_string(), error);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some(device) = device_of(&entry.map_err(failed)?.file_name()) else { continue };
        found.extend(open(root, &device)?.map(|(_, info)| info));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Takes the program off a device and removes the pin. That there is none is success.
pub fn detach(root: &Path, device: &str) -> Result<()> {
    match open(root, device)? {
        None => Ok(()),
        Some((Held::Link(link), _)) => {
            unpin(&path(root, device))?;
            // The link goes with its last holder; another process may hold it, so it is also emptied.
            sys::link_detach(link.as_fd()).map_err(|error| Error::kernel("detach", device, error))
        }
        Some((Held::Filter(place), _)) => {
            filters::detach(root, place).map_err(|error| Error::kernel("detach", device, error))?;
            unpin(&record(root, device))
        }
    }
}

fn unpin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::kernel("unpin", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// A program on a device for as long as this value lives, or its pin.
#[derive(Debug)]
pub struct OwnedLink {
    link: OwnedFd,
}

impl OwnedLink {
    /// Pins the link at a path of a BPF file system: it stays until that is removed.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pin(&self.link, path)
    }
}

/// Attaches the program that strips outer headers, for laboratories: whatever tunnel comes is taken.
pub fn attach_decap(ifindex: u32, mode: Mode) -> std::result::Result<OwnedLink, LinkError> {
    Ok(OwnedLink { link: create(ifindex, mode, decap::for_everything()?.as_fd())? })
}

/// Attaches the program that lets everything pass, in the driver: the other end of a veth takes frames from a program
/// only while this one has one.
pub fn attach_pass(ifindex: u32) -> std::result::Result<OwnedLink, LinkError> {
    Ok(OwnedLink { link: create(ifindex, Mode::Native, loader::pass()?.as_fd())? })
}

fn create(ifindex: u32, mode: Mode, program: BorrowedFd<'_>) -> std::result::Result<OwnedFd, LinkError> {
    let flags = match mode {
        Mode::Native => XDP_FLAGS_DRV_MODE,
        Mode::Generic => XDP_FLAGS_SKB_MODE,
    };
    sys::xdp_link_create(program, ifindex, flags).map_err(|error| refused(ifindex, mode, error))
}

/// Sorts the kernel's answer. Its words go to netlink only, so the number has to do.
fn refused(ifindex: u32, mode: Mode, error: io::Error) -> LinkError {
    /// The kernel's own ENOTSUPP, which is not meant for user space and yet comes.
    const KERNEL_ENOTSUPP: i32 = 524;
    match error.raw_os_error() {
        // A device that goes while it is being attached to answers EINVAL; an index that never was does, too.
        Some(libc::ENODEV) => LinkError::NoDevice { ifindex },
        Some(libc::EINVAL) if !exists(ifindex) => LinkError::NoDevice { ifindex },
        Some(libc::EBUSY | libc::EEXIST) => LinkError::Busy(error),
        Some(libc::ENOTSUP | KERNEL_ENOTSUPP) => LinkError::NotSupported { mode, source: error },
        Some(libc::ERANGE | libc::EMSGSIZE | libc::EINVAL) => LinkError::MtuTooLarge(error),
        Some(libc::EPERM | libc::EACCES) => LinkError::NoPermission,
        _ => LinkError::Other(Error::kernel("attach", format!("the device with index {ifindex}"), error)),
    }
}

fn exists(ifindex: u32) -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    socket.is_ok_and(|socket| rustix::net::netdevice::index_to_name(socket, ifindex).is_ok())
}

fn replace(root: &Path, held: &Held, device: &str, program: BorrowedFd<'_>) -> Result<()> {
    let done = match held {
        Held::Link(link) => sys::link_update(link.as_fd(), program),
        Held::Filter(place) => filters::replace(root, *place, program),
    };
    done.map_err(|error| Error::kernel("update", device, error))
}

fn pin(link: &OwnedFd, path: &Path) -> Result<()> {
    sys::pin(link.as_fd(), path).map_err(|error| Error::kernel("pin", path.display().to_string(), error))
}

fn open(root: &Path, device: &str) -> Result<Option<(Held, LinkInfo)>> {
    let path = path(root, device);
    let failed = |call, error| Error::kernel(call, path.display().to_string(), error);
    let link = match sys::pinned(&path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return open_filter(root, device),
        Err(error) => return Err(failed("open", error)),
    };
    let info = sys::xdp_link_info(link.as_fd()).map_err(|error| failed("describe", error))?;
    let info = LinkInfo { device: device.to_owned(), ifindex: info.ifindex, program_id: info.program_id };
    Ok(Some((Held::Link(link), info)))
}

/// One that is gone from its device is like a link whose device is gone.
fn open_filter(root: &Path, device: &str) -> Result<Option<(Held, LinkInfo)>> {
    let Some(place) = filters::recorded(&record(root, device))? else { return Ok(None) };
    let running = filters::running(root, place).map_err(|error| Error::kernel("look for", device, error))?;
    let (ifindex, program_id) = running.map_or((0, 0), |program_id| (place.ifindex, program_id));
    let info = LinkInfo { device: device.to_owned(), ifindex, program_id };
    Ok(Some((Held::Filter(place), info)))
}

/// Where the record of a filter is.
fn record(root: &Path, device: &str) -> PathBuf {
    folder(root).join(device.replace('.', DOT) + RECORD)
}

fn folder(root: &Path) -> PathBuf {
    root.join("links")
}

/// A BPF file system allows no dots in names, and names of VLAN devices have them; a percent sign they cannot have.
fn path(root: &Path, device: &str) -> PathBuf {
    folder(root).join(device.replace('.', DOT))
}

fn device_of(file: &OsStr) -> Option<String> {
    let name = file.to_str()?;
    Some(name.strip_suffix(RECORD).unwrap_or(name).replace(DOT, "."))
}
