//! bpf(2), membarrier(2) and statfs(2): every system call of this crate, each behind a safe function.
#![allow(unsafe_code, reason = "the kernel takes addresses; each call says why its addresses are good")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

mod frame;
mod hash;
mod queue;
pub use frame::send_frame;
pub(crate) use hash::Hash;
pub(crate) use queue::Queue;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
const ATTACH_TYPE_TCX_EGRESS: u32 = 47;

/// Where a program is put among those of a device: behind them, or (`BPF_F_BEFORE`) before them.
pub(crate) const TCX_BEHIND: u32 = 0;
pub(crate) const TCX_BEFORE: u32 = 1 << 3;

const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Room for a frame that a program has made longer.
const FRAME_ROOM: usize = 256;

/// What the kernel says of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

/// What the kernel says of a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct ProgramInfo {
    pub kind: u32,
    pub id: u32,
    pub tag: [u8; 8],
}

/// What the kernel says of a link, read as one of XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct XdpLinkInfo {
    pub kind: u32,
    pub id: u32,
    pub program_id: u32,
    pub padding: u32,
    /// Zero when the device is gone.
    pub ifindex: u32,
    pub padding_2: u32,
}

/// Says which map it is.
pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// Says which program it is.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    info(program)
}

/// Says which link it is.
pub(crate) fn xdp_link_info(link: BorrowedFd<'_>) -> io::Result<XdpLinkInfo> {
    info(link)
}

/// Pins a map, a program or a link at a path of a BPF file system.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = PathAttr { pathname: path.as_ptr() as u64, fd: object.as_raw_fd() as u32, flags: 0 };
    // SAFETY: the path ends with a NUL and lives until after the call.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

/// Opens what is pinned at a path.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = PathAttr { pathname: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: as in `pin`; what comes back is a new descriptor that nobody else owns.
    unsafe { bpf(OBJ_GET, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd as RawFd)) }
}

/// Attaches an XDP program to a device by a link.
pub(crate) fn xdp_link_create(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd() as u32;
    let mut attr = LinkCreateAttr { program, ifindex, attach_type: ATTACH_TYPE_XDP, flags, rest: [0; 4] };
    // SAFETY: no addresses; what comes back is a new descriptor that nobody else owns.
    unsafe { bpf(LINK_CREATE, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd as RawFd)) }
}

/// Attaches a program to what comes in by a device, or to what leaves by it, in a place among those that are there already:
/// [`TCX_BEHIND`] or [`TCX_BEFORE`] them.
pub(crate) fn tcx_link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    is_egress: bool,
    place: u32,
) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd() as u32;
    let attach_type = if is_egress { ATTACH_TYPE_TCX_EGRESS } else { ATTACH_TYPE_TCX_INGRESS };
    let mut attr = LinkCreateAttr { program, ifindex, attach_type, flags: place, rest: [0; 4] };
    // SAFETY: no addresses; what comes back is a new descriptor that nobody else owns.
    unsafe { bpf(LINK_CREATE, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd as RawFd)) }
}

/// Replaces the program of a link; every packet meets the old one or the new one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0];
    // SAFETY: no addresses.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link, whoever else holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = [link.as_raw_fd() as u32];
    // SAFETY: no addresses.
    unsafe { bpf(LINK_DETACH, &mut attr) }.map(drop)
}

/// Runs an XDP program once on a frame: its verdict, and the frame as it left it. `ingress` is the device by which the
/// frame comes in; without one it is the loopback device.
pub(crate) fn xdp_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    ingress: Option<u32>,
) -> io::Result<(u32, Vec<u8>)> {
    let context =
        ingress.map(|ingress| XdpContext { end: frame.len() as u32, ingress, ..XdpContext::zeroed() });
    test_run(program, frame, context.as_ref().map_or(&[], bytemuck::bytes_of))
}

/// Runs a tc program once on a frame of the loopback device: its verdict, and the frame as it left it.
pub(crate) fn skb_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    test_run(program, frame, &[])
}

/// As [`skb_run`], on a frame that has a firewall mark.
pub(crate) fn skb_run_marked(program: BorrowedFd<'_>, frame: &[u8], mark: u32) -> io::Result<(u32, Vec<u8>)> {
    test_run(program, frame, bytemuck::bytes_of(&SkbContext { mark, ..SkbContext::zeroed() }))
}

/// As [`skb_run`], on a frame that came in by a device; zero: it is of a socket.
pub(crate) fn skb_run_from(
    program: BorrowedFd<'_>,
    frame: &[u8],
    came_in_by: u32,
) -> io::Result<(u32, Vec<u8>)> {
    test_run(program, frame, bytemuck::bytes_of(&SkbContext { came_in_by, ..SkbContext::zeroed() }))
}

/// Runs a program once on a frame, with the beginning of its context, which is of one kind for each kind of program.
fn test_run(program: BorrowedFd<'_>, frame: &[u8], context: &[u8]) -> io::Result<(u32, Vec<u8>)> {
    let mut out = vec![0; frame.len() + FRAME_ROOM];
    let mut attr = TestRunAttr {
        context_size_in: context.len() as u32,
        context_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
        program: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        ..TestRunAttr::zeroed()
    };
    // SAFETY: the buffers and the context live until after the call and have the lengths given.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    out.truncate(attr.data_size_out as usize);
    Ok((attr.verdict, out))
}

/// Waits until no program runs any more that ran before the call.
///
/// This is `synchronize_rcu`, which network programs run under. Fails with `EINVAL` on a kernel with `nohz_full`.
pub(crate) fn wait_for_programs() -> io::Result<()> {
    // SAFETY: no addresses.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a map of one element with keys of four bytes; `inner` is the template of a map of maps.
pub(crate) fn map_create(kind: u32, value_size: u32, inner: Option<&OwnedFd>) -> io::Result<OwnedFd> {
    let mut attr = MapCreateAttr {
        kind,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags: 0,
        inner_map: inner.map_or(0, |inner| inner.as_raw_fd() as u32),
    };
    // SAFETY: no addresses.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sets an element of a map with keys and values of four bytes.
pub(crate) fn map_set(map: &OwnedFd, key: u32, value: u32) -> io::Result<()> {
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: &raw const key as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: key and value have the four bytes that the map's are promised to have, and live until after the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PathAttr {
    pathname: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MapCreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkCreateAttr {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    rest: [u32; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct TestRunAttr {
    program: u32,
    verdict: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// `struct xdp_md`: where the frame begins and ends, and whence it comes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct XdpContext {
    begin: u32,
    end: u32,
    meta: u32,
    ingress: u32,
    queue: u32,
    egress: u32,
}

/// The beginning of `struct __sk_buff`; the first two are the kernel's to say.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SkbContext {
    length: u32,
    kind: u32,
    mark: u32,
    rest: [u32; 6],
    came_in_by: u32,
}

fn info<I: Pod>(object: BorrowedFd<'_>) -> io::Result<I> {
    let mut info = I::zeroed();
    let length = size_of::<I>() as u32;
    let mut attr = InfoAttr { fd: object.as_raw_fd() as u32, length, info: &raw mut info as u64 };
    // SAFETY: `info` has room for `length` bytes, any of which make an `I`, and lives until after the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// The system call.
///
/// # Safety
///
/// `attr` is what the kernel expects for `command`, and every address in it is good for what the kernel does with it.
unsafe fn bpf<A: Pod>(command: libc::c_long, attr: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; `attr` is as long as said.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
