//! The tunnel of health checks: packets of marked sockets are put into outer headers on their way out of the node.
//!
//! Nothing is pinned: with the process the programs leave the devices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use aya::programs::tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcError};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use crate::error::{Error, Result};
use crate::kernel::loader;
use crate::loader::not_loaded;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tc_probe.o"));

/// The program's name in the object, and that of its filters where links are not known.
const PROGRAM: &str = "tc_probe";

/// The mark of a probe's socket: the upper half is this, the lower half the number of its path.
const MARK: u32 = 0x4e44_0000;

/// The bytes of a path in the map.
const VALUE_BYTES: usize = 52;

/// What a probe's packet is put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The device that it leaves by.
    pub ifindex: u32,
    /// The next hop's Ethernet address.
    pub destination_mac: [u8; 6],
    /// The device's Ethernet address.
    pub source_mac: [u8; 6],
    /// The outer source.
    pub source: IpAddr,
    /// The outer destination, of the same family: the backend.
    pub destination: IpAddr,
    /// The UDP destination port of GUE; `None` is IP in IP.
    pub gue_port: Option<u16>,
    /// The TTL or hop limit.
    pub hop_limit: u8,
}

/// The program, its paths, and the devices that it is on.
pub struct ProbeTunnel {
    object: Ebpf,
    hook: Hook,
    devices: BTreeMap<u32, SchedClassifierLinkId>,
}

/// How the program is put on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// By a link, which goes with its process; as from Linux 6.6 on.
    Link,
    /// As a filter of the device's clsact qdisc.
    Filter,
}

impl Hook {
    /// What the running kernel has.
    fn of_kernel() -> Self {
        match KernelVersion::current() {
            Ok(version) if version >= KernelVersion::new(6, 6, 0) => Self::Link,
            Ok(_) | Err(_) => Self::Filter,
        }
    }
}

/// The mark for the sockets whose packets take the path of this number.
#[must_use]
pub fn mark(path: u16) -> u32 {
    MARK | u32::from(path)
}

impl ProbeTunnel {
    /// Loads the program.
    ///
    /// # Errors
    ///
    /// [`Error::NoPermission`] and [`Error::Rejected`].
    pub fn load() -> Result<Self> {
        Self::load_for(Hook::of_kernel())
    }

    /// As [`ProbeTunnel::load`], for this hook; every kernel has that of filters.
    ///
    /// # Errors
    ///
    /// As [`ProbeTunnel::load`].
    pub fn load_for(hook: Hook) -> Result<Self> {
        let rejected = |error: ProgramError| not_loaded(PROGRAM, error.into());
        let mut object = loader()?.load(OBJECT).map_err(|error| not_loaded(PROGRAM, error))?;
        program(&mut object)?.load().map_err(rejected)?;
        Ok(Self { object, hook, devices: BTreeMap::new() })
    }

    /// Sets the outer headers for packets of this path.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn set(&mut self, path: u16, outer: &Outer) -> Result<()> {
        self.paths()?.insert(u32::from(path), value(outer), 0).map_err(|error| of_map("update", error))
    }

    /// Forgets a path: its packets are dropped. That there is none is success.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn remove(&mut self, path: u16) -> Result<()> {
        match self.paths()?.remove(&u32::from(path)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            Err(error) => Err(of_map("delete", error)),
        }
    }

    /// Lets the program see what leaves by a device. Doing it twice is the same as doing it once.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`], also when the device is gone.
    pub fn attach(&mut self, device: &str, ifindex: u32) -> Result<()> {
        if self.devices.contains_key(&ifindex) {
            if self.is_on(device)? {
                return Ok(());
            }
            // The device is gone, and another one has its index.
            self.detach(ifindex)?;
        }
        let failed = |error: ProgramError| of_program(device, &error);
        let program = program(&mut self.object)?;
        // Before all others: one of them may end the walk with its verdict.
        let link = match self.hook {
            Hook::Link => {
                let options = TcAttachOptions::TcxOrder(LinkOrder::first());
                program.attach_with_options(device, TcAttachType::Egress, options)
            }
            Hook::Filter => attach_as_filter(program, device),
        };
        self.devices.insert(ifindex, link.map_err(failed)?);
        Ok(())
    }

    /// Whether the program sees what leaves by the device that has this name now.
    fn is_on(&mut self, device: &str) -> Result<bool> {
        if self.hook == Hook::Filter {
            // Filters are not asked for: where one is gone, the device is, too, and its routes.
            return Ok(true);
        }
        let program = program(&mut self.object)?;
        let own = program.info().map_err(|error| of_program(device, &error))?.id();
        let (_, found) = SchedClassifier::query_tcx(device, TcAttachType::Egress)
            .map_err(|error| of_program(device, &error))?;
        Ok(found.iter().any(|program| program.id() == own))
    }

    /// The devices that the program is on, by index.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.devices.keys().copied()
    }

    /// Takes the program off a device. That it is not there, or that the device is gone, is success.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`], when the object has no such program.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        let Some(link) = self.devices.remove(&ifindex) else { return Ok(()) };
        if let Err(error) = program(&mut self.object)?.detach(link) {
            tracing::debug!(ifindex, %error, "the device is gone, and the program with it");
        }
        Ok(())
    }

    fn paths(&mut self) -> Result<HashMap<&mut MapData, u32, [u8; VALUE_BYTES]>> {
        let map =
            self.object.map_mut("probe_paths").ok_or_else(|| missing("its map is not in the object"))?;
        HashMap::try_from(map).map_err(|error| of_map("open", error))
    }
}

/// For kernels without links to this hook. A filter stays when its process is killed, so the one of an earlier process
/// is removed first.
fn attach_as_filter(
    program: &mut SchedClassifier,
    device: &str,
) -> std::result::Result<SchedClassifierLinkId, ProgramError> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        // Somebody's, or left by an earlier process: it is shared.
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // That there is none is an error, too.
    let _ = tc::qdisc_detach_program(device, TcAttachType::Egress, PROGRAM);
    let options = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
    program.attach_with_options(device, TcAttachType::Egress, options)
}

fn program(object: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let found = object.program_mut(PROGRAM).ok_or_else(|| missing("it is not in the object"))?;
    found.try_into().map_err(|error: ProgramError| not_loaded(PROGRAM, error.into()))
}

fn missing(reason: &str) -> Error {
    Error::Rejected { program: PROGRAM, reason: reason.into(), log: String::new() }
}

/// `struct probe_path` of tc_probe.bpf.c.
fn value(outer: &Outer) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    };
    value[..6].copy_from_slice(&outer.destination_mac);
    value[6..12].copy_from_slice(&outer.source_mac);
    value[12..28].copy_from_slice(&address(outer.destination));
    value[28..44].copy_from_slice(&address(outer.source));
    value[44..48].copy_from_slice(&outer.ifindex.to_ne_bytes());
    value[48..50].copy_from_slice(&outer.gue_port.unwrap_or(0).to_be_bytes());
    value[50] = u8::from(outer.destination.is_ipv6());
    value[51] = outer.hop_limit;
    value
}

fn of_map(call: &'static str, error: MapError) -> Error {
    match error {
        MapError::SyscallError(error) => Error::kernel(call, "probe_paths", error.io_error),
        other => missing(&other.to_string()),
    }
}

fn of_program(device: &str, error: &ProgramError) -> Error {
    let io = |error: &std::io::Error| match error.raw_os_error() {
        Some(number) => std::io::Error::from_raw_os_error(number),
        None => std::io::Error::new(error.kind(), error.to_string()),
    };
    match error {
        ProgramError::SyscallError(error) => Error::kernel("attach", device, io(&error.io_error)),
        ProgramError::TcError(TcError::IoError(error)) => Error::kernel("attach", device, io(error)),
        ProgramError::TcError(TcError::NetlinkError(error)) => match error.raw_os_error() {
            Some(number) => Error::kernel("attach", device, std::io::Error::from_raw_os_error(number)),
            None => Error::kernel("attach", device, std::io::Error::other(error.to_string())),
        },
        other => Error::kernel("attach", device, std::io::Error::other(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_the_program_reads_it() {
        let mut outer = Outer {
            ifindex: 7,
            destination_mac: [1; 6],
            source_mac: [2; 6],
            source: IpAddr::from([10, 0, 0, 1]),
            destination: IpAddr::from([10, 0, 0, 2]),
            gue_port: Some(6080),
            hop_limit: 64,
        };
        let bytes = value(&outer);
        assert_eq!((&bytes[..6], &bytes[6..12]), (&[1; 6][..], &[2; 6][..]));
        assert_eq!((&bytes[12..17], &bytes[28..33]), (&[10, 0, 0, 2, 0][..], &[10, 0, 0, 1, 0][..]));
        assert_eq!(bytes[44..48], 7u32.to_ne_bytes());
        assert_eq!(bytes[48..], [0x17, 0xc0, 0, 64]);
        outer = Outer { destination: "fd00::2".parse().unwrap_or(outer.source), gue_port: None, ..outer };
        assert_eq!((value(&outer)[12], &value(&outer)[48..]), (0xfd, &[0, 0, 1, 64][..]));
    }

    #[test]
    fn the_mark_carries_the_paths_number() {
        assert_eq!((mark(0), mark(0xffff)), (0x4e44_0000, 0x4e44_ffff));
    }
}
