//! A socket that hands rtnetlink only what rtnetlink can decode, and nothing of what netd needs is missing then.
//!
//! rtnetlink drops a message in which one attribute is not as it expects, with no more than a line of the log. A link
//! that is not heard of would count as gone, and what netd has on it would be taken down. So attributes that nobody
//! here reads never get that far, whatever a newer kernel or a driver puts into them, and the others only if they have
//! the form that they must have. What cannot be handed on at all becomes an overrun: anything may have been in it.

use super::message::{ATTRIBUTE_HEADER_LEN, HEADER_LEN, Message, Messages, attributes};
use bytes::BufMut;
use netlink_packet_core::NLMSG_OVERRUN;
use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use std::borrow::Cow;
use std::io;
use std::task::{Context, Poll, ready};

/// The kernel fills at most 32 KiB per datagram of a dump and sends one announcement per datagram.
const RECEIVE_BYTES: usize = 64 * 1024;

/// Below are the control messages of netlink itself: acknowledgements, refusals, ends of dumps.
const NLMSG_MIN_TYPE: u16 = 16;
const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// `struct rtmsg` of a route of the main table of any family, and nothing else.
const MAIN_TABLE_ROUTE: [u8; 12] = [0, 0, 0, 0, 254, 0, 0, 0, 0, 0, 0, 0];

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What an attribute must be to be handed on.
enum Form {
    Bytes,
    /// Bytes that are not UTF-8 are replaced: a device may be called anything.
    Text,
    Byte,
    Word,
    /// `struct ifa_cacheinfo`.
    Lifetime,
    /// As long as addresses of the message's family are.
    Address,
    /// The attributes within.
    Nest(&'static [(u16, Form)]),
}

/// `IFLA_*`: the link-layer address, name, MTU, kind, alias, and the XDP program.
const LINK: &[(u16, Form)] = &[
    (1, Form::Bytes),
    (3, Form::Text),
    (4, Form::Word),
    (18, Form::Nest(&[(1, Form::Text)])),
    (20, Form::Text),
    (43, Form::Nest(&[(2, Form::Byte), (4, Form::Word)])),
];

/// `IFA_*`: the peer's address or the own one, the own one, its lifetime, flags, who made it.
const ADDRESS: &[(u16, Form)] =
    &[(1, Form::Address), (2, Form::Address), (6, Form::Lifetime), (8, Form::Word), (11, Form::Byte)];

/// `NDA_*`: the address, the link-layer address, who made it, further flags.
const NEIGHBOUR: &[(u16, Form)] = &[(1, Form::Address), (2, Form::Bytes), (12, Form::Byte), (15, Form::Word)];

/// `FRA_*`: everything that a rule may ask for, since one that asks for more than netd's is another.
const RULE: &[(u16, Form)] = &[
    (1, Form::Address),
    (2, Form::Address),
    (3, Form::Text),
    (6, Form::Word),
    (10, Form::Word),
    (12, Form::Bytes),
    (13, Form::Word),
    (14, Form::Word),
    (15, Form::Word),
    (16, Form::Word),
    (17, Form::Text),
    (19, Form::Byte),
    (20, Form::Bytes),
    (21, Form::Byte),
    (22, Form::Byte),
    (23, Form::Bytes),
    (24, Form::Bytes),
    (25, Form::Bytes),
    (26, Form::Bytes),
    (27, Form::Bytes),
    (28, Form::Bytes),
    (29, Form::Bytes),
    (30, Form::Bytes),
];

/// A socket whose datagrams are sifted.
pub(super) struct Sieve(TokioSocket);

impl AsyncSocket for Sieve {
    fn socket_ref(&self) -> &Socket {
        self.0.socket_ref()
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.0.socket_mut()
    }

    fn new(protocol: isize) -> io::Result<Self> {
        TokioSocket::new(protocol).map(Self)
    }

    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, buf)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], addr: &SocketAddr) -> Poll<io::Result<usize>> {
        self.0.poll_send_to(cx, buf, addr)
    }

    fn poll_recv<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(|_from| ())
    }

    fn poll_recv_from<B: BufMut>(&self, cx: &mut Context<'_>, buf: &mut B) -> Poll<io::Result<SocketAddr>> {
        let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
        let from = ready!(self.0.poll_recv_from(cx, &mut datagram))?;
        buf.put_slice(&sift(&datagram));
        Poll::Ready(Ok(from))
    }

    fn poll_recv_from_full(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        self.0.poll_recv_from_full(cx).map_ok(|(datagram, from)| (sift(&datagram), from))
    }
}

/// The datagram with nothing in it that rtnetlink could stumble over.
fn sift(datagram: &[u8]) -> Vec<u8> {
    let mut sifted = Vec::with_capacity(datagram.len());
    let mut messages = Messages(datagram);
    for message in messages.by_ref() {
        if sift_message(&message, &mut sifted).is_none() {
            put_overrun(&mut sifted);
        }
    }
    // The datagram was longer than there was room for.
    if !messages.0.is_empty() {
        put_overrun(&mut sifted);
    }
    sifted
}

/// `None` if the message is shorter than its type demands.
fn sift_message(message: &Message<'_>, sifted: &mut Vec<u8>) -> Option<()> {
    let (kind, fixed_len, forms): (u16, usize, &[(u16, Form)]) = match message.kind {
        ..NLMSG_MIN_TYPE => {
            put_message(sifted, message, message.kind, message.payload);
            return Some(());
        }
        kind @ RTM_NEWLINK..=RTM_SETLINK => (kind, 16, LINK),
        kind @ RTM_NEWADDR..=RTM_GETADDR => (kind, 8, ADDRESS),
        // Announcements only: whoever reads routes does not come here.
        kind @ RTM_NEWROUTE..=RTM_GETROUTE => (kind, 12, &[]),
        kind @ RTM_NEWNEIGH..=RTM_GETNEIGH => (kind, 12, NEIGHBOUR),
        kind @ RTM_NEWRULE..=RTM_GETRULE => (kind, 12, RULE),
        // rtnetlink knows no next-hop objects. What changes with one are the routes that use it.
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            put_message(sifted, message, RTM_NEWROUTE, &MAIN_TABLE_ROUTE);
            return Some(());
        }
        // Nobody asked for it.
        _ => return Some(()),
    };
    let (fixed, rest) = message.payload.split_at_checked(fixed_len)?;
    let mut payload = fixed.to_vec();
    sift_attributes(rest, forms, fixed.first().copied().unwrap_or_default(), &mut payload);
    put_message(sifted, message, kind, &payload);
    Some(())
}

fn sift_attributes(bytes: &[u8], forms: &[(u16, Form)], family: u8, sifted: &mut Vec<u8>) {
    for (kind, value) in attributes(bytes) {
        let Some((_, form)) = forms.iter().find(|(known, _)| *known == kind) else { continue };
        let value: Cow<'_, [u8]> = match form {
            Form::Bytes => value.into(),
            Form::Text => match String::from_utf8_lossy(value) {
                Cow::Borrowed(text) => text.as_bytes().into(),
                Cow::Owned(text) => text.into_bytes().into(),
            },
            Form::Byte if value.len() == 1 => value.into(),
            Form::Word if value.len() == 4 => value.into(),
            Form::Lifetime if value.len() == 16 => value.into(),
            Form::Address if Some(value.len()) == address_len(family) => value.into(),
            Form::Nest(within) => {
                let mut nested = Vec::new();
                sift_attributes(value, within, family, &mut nested);
                // rtnetlink takes an empty one for a broken message.
                if nested.is_empty() {
                    continue;
                }
                nested.into()
            }
            Form::Byte | Form::Word | Form::Lifetime | Form::Address => continue,
        };
        put_attribute(sifted, kind, &value);
    }
}

fn address_len(family: u8) -> Option<usize> {
    match family {
        AF_INET => Some(4),
        AF_INET6 => Some(16),
        _ => None,
    }
}

fn put_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let Ok(length) = u16::try_from(ATTRIBUTE_HEADER_LEN + value.len()) else { return };
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Appends a message with the flags and the sequence number of `like`.
fn put_message(bytes: &mut Vec<u8>, like: &Message<'_>, kind: u16, payload: &[u8]) {
    put_header(bytes, kind, like.flags, like.sequence, payload.len());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn put_overrun(bytes: &mut Vec<u8>) {
    put_header(bytes, NLMSG_OVERRUN, 0, 0, 0);
}

fn put_header(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload_len: usize) {
    // A datagram is far shorter than what the field can say.
    let length = u32::try_from(HEADER_LEN + payload_len.next_multiple_of(4)).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    // From the kernel.
    bytes.extend_from_slice(&0u32.to_ne_bytes());
}

#[cfg(test)]
#[path = "sieve_tests.rs"]
mod tests;
