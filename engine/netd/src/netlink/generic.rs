//! What drivers can do with packets of XDP programs: the kernel's own list, over generic netlink (`netdev`, Linux 6.3).

use super::SILENCE_MAX;
use super::bulk::receive;
use super::message::{HEADER_LEN, Messages, attributes};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::{Socket, protocols::NETLINK_GENERIC};
use rustix::net::{SendFlags, sockopt};
use std::collections::BTreeMap;
use std::io;

/// The family that knows the numbers of all others, and what it is asked with.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// The family of devices, and what it says about each.
const DEVICES: &[u8] = b"netdev\0";
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;

/// Bytes of the header behind netlink's own: command, version, two of nothing.
const GENERIC_HEADER: [u8; 3] = [1, 0, 0];
const GENERIC_HEADER_LEN: usize = 4;

/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A generic netlink socket of the network namespace in which it was opened.
pub struct DriverFeatures {
    socket: Socket,
    family: u16,
    sequence: u32,
    buffer: Vec<u8>,
}

impl DriverFeatures {
    /// Opens a socket, and finds the family.
    ///
    /// # Errors
    ///
    /// The system call's; `ENOENT` before Linux 6.3.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SILENCE_MAX))?;
        let mut opened = Self { socket, family: CONTROL, sequence: 0, buffer: vec![0; RECEIVE_BYTES] };
        let mut family = None;
        opened.ask(GET_FAMILY, 0, &attribute(FAMILY_NAME, DEVICES), |answer| {
            family = attributes(answer)
                .find(|(kind, _)| *kind == FAMILY_ID)
                .and_then(|(_, id)| number(id))
                .or(family);
        })?;
        let family = family.and_then(|id| u16::try_from(id).ok());
        opened.family = family.ok_or(io::ErrorKind::NotFound)?;
        Ok(opened)
    }

    /// `NETDEV_XDP_ACT_*` of every device, by interface index.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn read(&mut self) -> io::Result<BTreeMap<u32, u64>> {
        let mut found = BTreeMap::new();
        self.ask(GET_DEVICE, NLM_F_DUMP, &[], |answer| {
            let value = |wanted| {
                attributes(answer).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| number(value))
            };
            if let (Some(ifindex), Some(features)) = (value(IFINDEX), value(XDP_FEATURES)) {
                found.extend(u32::try_from(ifindex).map(|ifindex| (ifindex, features)));
            }
        })?;
        Ok(found)
    }

    /// Sends one request, and shows the attributes of each answer.
    fn ask(&mut self, command: u8, flags: u16, body: &[u8], mut show: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER_LEN + GENERIC_HEADER_LEN + body.len();
        let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
        bytes.extend(self.family.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        // To the kernel.
        bytes.extend(0u32.to_ne_bytes());
        bytes.push(command);
        bytes.extend(GENERIC_HEADER);
        bytes.extend(body);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        loop {
            for message in Messages(receive(&self.socket, &mut self.buffer)?) {
                if message.sequence != self.sequence {
                    continue;
                }
                match (message.kind, message.code()) {
                    (NLMSG_DONE, 0) | (NLMSG_ERROR, 0) => return Ok(()),
                    (NLMSG_DONE | NLMSG_ERROR, code) => return Err(io::Error::from_raw_os_error(code)),
                    _ => show(message.payload.get(GENERIC_HEADER_LEN..).unwrap_or_default()),
                }
                if flags & NLM_F_DUMP == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// An attribute with its padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(GENERIC_HEADER_LEN + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A number of two, four or eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        2 => Some(u16::from_ne_bytes(*bytes.first_chunk()?).into()),
        4 => Some(u32::from_ne_bytes(*bytes.first_chunk()?).into()),
        8 => Some(u64::from_ne_bytes(*bytes.first_chunk()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_attributes_are_read_as_they_are_written() {
        assert_eq!(number(&7u16.to_ne_bytes()), Some(7));
        assert_eq!(number(&(1u64 << 40).to_ne_bytes()), Some(1 << 40));
        assert_eq!(number(&[1, 2, 3]), None);
        let bytes = attribute(FAMILY_NAME, DEVICES);
        assert_eq!(bytes.len(), 12);
        assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [(FAMILY_NAME, DEVICES)]);
    }
}
