//! Programs on devices by filters of tc, for kernels that have no links for that (before Linux 6.6).
//!
//! A filter needs no pin to stay. It is known by its name, which has the folder whose program it runs; a record of where it
//! is lies in that folder, where a link would be pinned. A program is replaced in its filter: every packet meets the old
//! one or the new one. Filters of others, and the qdisc `clsact` that all of them share, stay as they are.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, Parseable,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use rustix::net::sockopt;

use crate::error::{Error, Result};
use crate::sys::{self, Hash};
use crate::tc::Side;

/// What the name of a record ends with; no device's name has a colon.
pub(crate) const RECORD: &str = ":filter";

/// Priorities from here on are taken for those that are to be behind others; a lower one is asked first.
const PRIORITY_BEHIND: u16 = 0x8000;

/// The one filter of a priority that netd takes for itself.
const HANDLE: u32 = 1;

/// `ETH_P_ALL`, as filters have it.
const EVERY_PROTOCOL: u16 = 0x0003u16.to_be();

/// The kernel takes names of 256 bytes, with the one that ends them.
const NAME_BYTES_MAX: usize = 255;

/// Bytes of the header of a netlink message.
const HEADER_LEN: usize = 16;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// The kernel answers at once; a socket that stays silent this long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Where a filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The device.
    pub(crate) ifindex: u32,
    /// Which packets of it.
    pub(crate) side: Side,
}

/// Which of the filters on a side comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those that are there already.
    Behind,
    /// This one.
    First,
}

/// Puts a program on a side of a device, and a record of it under the folder.
pub(crate) fn attach(
    root: &Path,
    record: &Path,
    place: Place,
    order: Order,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    // First, so that a filter is never without its record.
    write_record(record, place)?;
    let done = Talk::open().and_then(|mut talk| {
        talk.make_qdisc(place.ifindex)?;
        talk.put(root, place, order, program)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(record);
    }
    done
}

/// Replaces the program of the filter at a place.
pub(crate) fn replace(root: &Path, place: Place, program: BorrowedFd<'_>) -> io::Result<()> {
    Talk::open()?.put(root, place, Order::Behind, program)
}

/// The kernel's number for the program that runs at a place; `None` if the filter or its device is gone.
pub(crate) fn running(root: &Path, place: Place) -> io::Result<Option<u32>> {
    Ok(Talk::open()?.own(root, place)?.map(|filter| filter.program_id))
}

/// Takes the filter off its device. That there is none is success.
pub(crate) fn detach(root: &Path, place: Place) -> io::Result<()> {
    let mut talk = Talk::open()?;
    let Some(found) = talk.own(root, place)? else { return Ok(()) };
    let message = message(place, found.priority, Vec::new());
    match talk.ask(Message::DelTrafficFilter(message), NLM_F_ACK) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads the record at a path, if there is one.
pub(crate) fn recorded(record: &Path) -> Result<Option<Place>> {
    let failed = |error| Error::kernel("read", record.display().to_string(), error);
    let map = match sys::pinned(record) {
        Ok(map) => map,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let value = Hash::<u32, [u32; 2]>::new(map).and_then(|map| map.get(&0)).map_err(failed)?;
    let [ifindex, egress] = value.unwrap_or_default();
    let side = if egress == 0 { Side::Ingress } else { Side::Egress };
    Ok(Some(Place { ifindex, side }))
}

fn write_record(path: &Path, place: Place) -> io::Result<()> {
    let map = sys::map_create(ARRAY, size_of::<[u32; 2]>() as u32, None)?;
    let map = Hash::<u32, [u32; 2]>::new(map)?;
    let value = [place.ifindex, u32::from(place.side == Side::Egress)];
    map.update(&[(0, value)]).1?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sys::pin(map.fd(), path)
}

/// A filter on a side of a device.
struct Filter {
    priority: u16,
    name: String,
    program_id: u32,
}

/// A conversation with the kernel.
struct Talk {
    socket: Socket,
    sequence: u32,
}

impl Talk {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_cap_ack(true)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SILENCE_MAX))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// What filters of both sides are on; others have made it already as often as not.
    fn make_qdisc(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = TcMessage::with_index(ifindex.cast_signed());
        message.header.handle = TcHandle { major: 0xffff, minor: 0 };
        message.header.parent = TcHandle { major: 0xffff, minor: 0xfff1 };
        message.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
        let made = self.ask(Message::NewQueueDiscipline(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn put(&mut self, root: &Path, place: Place, order: Order, program: BorrowedFd<'_>) -> io::Result<()> {
        let filters = self.filters(place)?;
        let name = name(root);
        let own = filters.iter().find(|filter| filter.name == name);
        let (priority, flags) = match own {
            Some(own) => (own.priority, 0),
            None => (free(&filters, order)?, NLM_F_CREATE | NLM_F_EXCL),
        };
        let options = [
            TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
            TcFilterBpfOption::ProgName(name),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let message = message(place, priority, options.map(TcOption::Bpf).into());
        self.ask(Message::NewTrafficFilter(message), NLM_F_ACK | flags).map(drop)
    }

    fn own(&mut self, root: &Path, place: Place) -> io::Result<Option<Filter>> {
        let name = name(root);
        Ok(self.filters(place)?.into_iter().find(|filter| filter.name == name))
    }

    /// The filters on a side of a device, of any kind; none where there is no such device.
    fn filters(&mut self, place: Place) -> io::Result<Vec<Filter>> {
        let mut request = TcMessage::with_index(place.ifindex.cast_signed());
        request.header.parent = parent(place.side);
        let found = self.ask(Message::GetTrafficFilter(request), NLM_F_DUMP)?;
        Ok(found.iter().filter_map(|payload| filter(payload)).collect())
    }

    /// Asks, and collects what the answers carry up to the last one.
    fn ask(&mut self, message: Message, flags: u16) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (flags | NLM_F_REQUEST, self.sequence);
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut found = Vec::new();
        loop {
            let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
            self.socket.recv(&mut datagram, 0)?;
            let mut rest = datagram.as_slice();
            while let Some((kind, sequence, payload, behind)) = split(rest) {
                rest = behind;
                if sequence != self.sequence {
                    continue;
                }
                let code = payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                match kind {
                    NLMSG_ERROR | NLMSG_DONE if code == 0 => return Ok(found),
                    NLMSG_ERROR | NLMSG_DONE => return Err(io::Error::from_raw_os_error(-code)),
                    _ => found.push(payload.to_vec()),
                }
            }
        }
    }
}

/// The first message of some: its kind, its number, what it carries, and what is behind it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    let length = usize::try_from(word(0)?).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk::<2>()?);
    let payload = bytes.get(HEADER_LEN..length)?;
    let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, word(8)?, payload, behind))
}

/// What is said of a filter; of one that cannot be read, at least that it has its priority.
fn filter(payload: &[u8]) -> Option<Filter> {
    let header = TcHeader::parse(payload).ok()?;
    let priority = u16::try_from(header.info >> 16).ok()?;
    let mut filter = Filter { priority, name: String::new(), program_id: 0 };
    for attribute in TcMessage::parse(payload).map(|message| message.attributes).unwrap_or_default() {
        let TcAttribute::Options(options) = attribute else { continue };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = name,
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program_id = id,
                _ => {}
            }
        }
    }
    Some(filter)
}

fn message(place: Place, priority: u16, options: Vec<TcOption>) -> TcMessage {
    let mut message = TcMessage::with_index(place.ifindex.cast_signed());
    message.header.handle = TcHandle::from(HANDLE);
    message.header.parent = parent(place.side);
    message.header.info = u32::from(priority) << 16 | u32::from(EVERY_PROTOCOL);
    message.attributes = vec![TcAttribute::Kind("bpf".to_owned())];
    if !options.is_empty() {
        message.attributes.push(TcAttribute::Options(options));
    }
    message
}

fn parent(side: Side) -> TcHandle {
    let minor = match side {
        Side::Ingress => 0xfff2,
        Side::Egress => 0xfff3,
    };
    TcHandle { major: 0xffff, minor }
}

/// A priority that no other filter of the side has.
fn free(filters: &[Filter], order: Order) -> io::Result<u16> {
    let taken = || filters.iter().map(|filter| filter.priority);
    let priority = match order {
        Order::Behind => taken().max().map_or(Some(PRIORITY_BEHIND), |last| last.checked_add(1)),
        Order::First => taken().min().map_or(Some(PRIORITY_BEHIND), |first| first.checked_sub(1)),
    };
    let priority = priority.map(|priority| match order {
        Order::Behind => priority.max(PRIORITY_BEHIND),
        Order::First => priority,
    });
    // The kernel takes zero for "any".
    priority.filter(|priority| *priority > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::EBUSY))
}

/// The name of the filters that run what lies in a folder.
fn name(root: &Path) -> String {
    let root = root.to_string_lossy();
    let from = root.char_indices().map(|(at, _)| at).find(|at| root.len() - at + 5 <= NAME_BYTES_MAX);
    format!("netd {}", root.get(from.unwrap_or_default()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use netlink_packet_core::Emitable as _;

    fn filters(priorities: &[u16]) -> Vec<Filter> {
        let filter = |priority: &u16| Filter { priority: *priority, name: String::new(), program_id: 0 };
        priorities.iter().map(filter).collect()
    }

    #[test]
    fn a_filter_goes_behind_all_others_or_before_all_of_them() {
        for (there, behind, first) in [
            (&[][..], Some(0x8000), Some(0x8000)),
            (&[1], Some(0x8000), None),
            (&[0x8000, 0xc000], Some(0xc001), Some(0x7fff)),
            (&[0xffff], None, Some(0xfffe)),
        ] {
            assert_eq!(free(&filters(there), Order::Behind).ok(), behind, "{there:?}");
            assert_eq!(free(&filters(there), Order::First).ok(), first, "{there:?}");
        }
    }

    #[test]
    fn a_filter_is_read_as_it_is_written() {
        let place = Place { ifindex: 7, side: Side::Egress };
        let options = vec![
            TcOption::Bpf(TcFilterBpfOption::ProgName(name(Path::new("/sys/fs/bpf/netd/default/nat/out")))),
            TcOption::Bpf(TcFilterBpfOption::ProgId(9)),
        ];
        let message = message(place, 0x8001, options);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let read = filter(&bytes).unwrap();
        assert_eq!((read.priority, read.program_id), (0x8001, 9));
        assert_eq!(read.name, "netd /sys/fs/bpf/netd/default/nat/out");
    }

    #[test]
    fn a_long_folder_is_named_by_its_end() {
        let name = name(Path::new(&format!("/{}/nat/out", "x".repeat(400))));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with("x/nat/out"), "{name}");
    }
}
