//! Datagrams as their messages, and messages as their attributes, without copying and without judging.

use netlink_packet_core::NlasIterator;

/// Bytes of the netlink header.
pub(super) const HEADER_LEN: usize = 16;

/// Bytes of the header of an attribute.
pub(super) const ATTRIBUTE_HEADER_LEN: usize = 4;

/// The bits of an attribute's type that are not flags.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// One message of a datagram.
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The error number that the message carries as its first word, positive; 0 if none.
    pub(super) fn code(&self) -> i32 {
        match self.payload.first_chunk::<4>() {
            Some(word) => i32::from_ne_bytes(*word).wrapping_neg(),
            None => 0,
        }
    }
}

/// The messages of a datagram, in order; stops at the first that does not fit.
pub(crate) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.first_chunk::<HEADER_LEN>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = self.0.get(HEADER_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    }
}

/// The attributes up to the first that is torn, as (type, value).
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| {
        let (kind, end) = (nla.kind() & ATTRIBUTE_TYPE, ATTRIBUTE_HEADER_LEN + nla.value_length());
        (kind, nla.into_inner().get(ATTRIBUTE_HEADER_LEN..end).unwrap_or_default())
    })
}
