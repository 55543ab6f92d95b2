//! nftables through netlink: what is there, and changes that come about together or not at all.
//!
//! Blocking: use it off the async threads. Only what all of nftables has in common is here; what tables consist of is
//! said by whoever has them.

use super::bulk::receive;
use super::message::{HEADER_LEN, Messages};
use super::{DUMP_ATTEMPTS, DUMP_PAUSE, SILENCE_MAX, kept_changing};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use rustix::net::{SendFlags, sockopt};
use std::io;

/// `NFNL_SUBSYS_NFTABLES`: the high byte of the type of every message.
const NFTABLES: u16 = 10;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// Bytes of `struct nfgenmsg`: family, version, and a number that only batches have.
const FAMILY_HEADER_LEN: usize = 4;

/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Attributes, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// With one more.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        // No value of netd's comes near 64 KiB; a longer one would be refused by the kernel.
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The attributes as they are sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// With a text.
    #[must_use]
    pub fn text(self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.with(kind, &bytes)
    }

    /// With a number, as nftables has all of them: in network order.
    #[must_use]
    pub fn number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_be_bytes())
    }

    /// With attributes inside of one.
    #[must_use]
    pub fn nest(self, kind: u16, inside: &Self) -> Self {
        self.with(kind | NESTED, &inside.0)
    }
}

/// A message of nftables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfRequest {
    /// `NFT_MSG_*`.
    pub kind: u8,
    /// `NFPROTO_*`.
    pub family: u8,
    /// `NLM_F_CREATE` and so on.
    pub flags: u16,
    /// What it is about.
    pub attributes: Attributes,
}

/// A netfilter socket of the network namespace in which it was opened.
pub struct Netfilter {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netfilter {
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// The system call's; `EPROTONOSUPPORT` on a kernel without netfilter's netlink.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.set_cap_ack(true)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(SILENCE_MAX))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Asks for one object: its attributes, or `None` if it is not there.
    ///
    /// # Errors
    ///
    /// The kernel's refusal; `EINVAL` or `EOPNOTSUPP` where it has no nftables.
    pub fn get(&mut self, request: &NfRequest) -> io::Result<Option<Vec<u8>>> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK)?;
        let mut found = None;
        loop {
            let datagram = receive(&self.socket, &mut self.buffer)?;
            for message in Messages(datagram).filter(|message| message.sequence == self.sequence) {
                match (message.kind, message.code()) {
                    (NLMSG_ERROR, 0) => return Ok(found),
                    (NLMSG_ERROR, code) => {
                        let error = Errno::from_raw_os_error(code);
                        return if error == Errno::NOENT { Ok(None) } else { Err(error.into()) };
                    }
                    (NLMSG_OVERRUN, _) => return Err(Errno::NOBUFS.into()),
                    _ => found = message.payload.get(FAMILY_HEADER_LEN..).map(<[u8]>::to_vec),
                }
            }
        }
    }

    /// Lists objects: `each` gets the attributes of every one, of a list that did not change meanwhile.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, or that the list kept changing.
    pub fn dump<T>(
        &mut self,
        request: &NfRequest,
        mut each: impl FnMut(u8, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for attempt in 1..=DUMP_ATTEMPTS {
            let mut found = Vec::new();
            if self.dump_once(request, &mut |family, payload| found.extend(each(family, payload)))? {
                return Ok(found);
            }
            std::thread::sleep(DUMP_PAUSE * attempt);
        }
        Err(kept_changing())
    }

    /// Whether the list is whole.
    fn dump_once(&mut self, request: &NfRequest, each: &mut dyn FnMut(u8, &[u8])) -> io::Result<bool> {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut whole = true;
        loop {
            let datagram = receive(&self.socket, &mut self.buffer)?;
            for message in Messages(datagram).filter(|message| message.sequence == self.sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match message.code() {
                            0 => Ok(whole),
                            // The list is of something that went away.
                            code if Errno::from_raw_os_error(code) == Errno::INTR => Ok(false),
                            code => Err(io::Error::from_raw_os_error(code)),
                        };
                    }
                    NLMSG_OVERRUN => return Err(Errno::NOBUFS.into()),
                    _ => {
                        if let Some((header, payload)) = message.payload.split_at_checked(FAMILY_HEADER_LEN) {
                            each(header.first().copied().unwrap_or_default(), payload);
                        }
                    }
                }
            }
        }
    }

    /// Makes all of the changes at once, or none of them.
    ///
    /// # Errors
    ///
    /// The first refusal.
    pub fn commit(&mut self, requests: &[NfRequest]) -> io::Result<()> {
        let Some((last, others)) = requests.split_last() else { return Ok(()) };
        let mut bytes = Vec::new();
        let begin = self.append(&mut bytes, BATCH_BEGIN, NLM_F_REQUEST, [0, 0], &[]);
        for request in others {
            self.append_request(&mut bytes, request, NLM_F_REQUEST);
        }
        // Refusals come unasked, and before the answer to the last one.
        let last = self.append_request(&mut bytes, last, NLM_F_REQUEST | NLM_F_ACK);
        self.append(&mut bytes, BATCH_END, NLM_F_REQUEST, [0, 0], &[]);
        // A whole batch is one datagram.
        if sockopt::set_socket_send_buffer_size_force(&self.socket, bytes.len() * 2).is_err() {
            let _ = sockopt::set_socket_send_buffer_size(&self.socket, bytes.len() * 2);
        }
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        self.outcome(begin, last)
    }

    /// What came of the batch with these numbers, from its beginning to its last change.
    fn outcome(&mut self, begin: u32, last: u32) -> io::Result<()> {
        let mut refused = None;
        loop {
            let datagram = receive(&self.socket, &mut self.buffer)?;
            let answers = Messages(datagram).filter(|message| message.kind == NLMSG_ERROR);
            for answer in answers.filter(|answer| (begin..=last).contains(&answer.sequence)) {
                if answer.code() != 0 && refused.is_none() {
                    refused = Some(io::Error::from_raw_os_error(answer.code()));
                }
                // What is said of the beginning is said of the batch as a whole.
                if answer.sequence == last || answer.sequence == begin {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn send(&mut self, request: &NfRequest, flags: u16) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.append_request(&mut bytes, request, flags);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        Ok(())
    }

    fn append_request(&mut self, bytes: &mut Vec<u8>, request: &NfRequest, flags: u16) -> u32 {
        let NfRequest { kind, family, flags: more, attributes } = request;
        self.append(bytes, NFTABLES << 8 | u16::from(*kind), flags | more, [*family, 0], &attributes.0)
    }

    /// Appends a message, and says its number.
    fn append(
        &mut self,
        bytes: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        family: [u8; 2],
        attributes: &[u8],
    ) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER_LEN + FAMILY_HEADER_LEN + attributes.len();
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        // To the kernel.
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&family);
        let resource = if kind == BATCH_BEGIN || kind == BATCH_END { NFTABLES } else { 0 };
        bytes.extend_from_slice(&resource.to_be_bytes());
        bytes.extend_from_slice(attributes);
        self.sequence
    }
}
