//! What a rule of nftables consists of, as far as netd's rules do: written for the kernel, and read back.

use crate::netlink::{Attributes, attributes};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_FLAGS: u16 = 5;

/// `NFT_META_NFPROTO`, `NFT_CMP_EQ`, `NFT_PAYLOAD_NETWORK_HEADER`, and the one register that is used.
const META_FAMILY: u32 = 15;
const EQUAL: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const REGISTER: u32 = 1;

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Load the packet's family: `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    Family,
    /// Go on only if what was loaded is this.
    Equals(Vec<u8>),
    /// Load bytes of the IP header.
    Header {
        /// From where on.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// Go on only if what was loaded is in the set of this name.
    In(String),
    /// Do not track the packet.
    Notrack,
}

/// A rule, as an attribute holds it.
pub(super) fn written(rule: &[Expression]) -> Attributes {
    rule.iter().fold(Attributes::default(), |list, one| list.nest(NFTA_LIST_ELEM, &one.written()))
}

/// A rule as the kernel tells it; `None` where netd makes no such rules.
pub(super) fn read(list: &[u8]) -> Option<Vec<Expression>> {
    attributes(list).map(|(_, one)| Expression::read(one)).collect()
}

impl Expression {
    fn written(&self) -> Attributes {
        let inside = Attributes::default();
        let (name, data) = match self {
            Self::Family => {
                ("meta", inside.number(NFTA_META_KEY, META_FAMILY).number(NFTA_META_DREG, REGISTER))
            }
            Self::Equals(bytes) => {
                let value = Attributes::default().with(NFTA_DATA_VALUE, bytes);
                let inside = inside.number(NFTA_CMP_SREG, REGISTER).number(NFTA_CMP_OP, EQUAL);
                ("cmp", inside.nest(NFTA_CMP_DATA, &value))
            }
            Self::Header { offset, length } => {
                let inside =
                    inside.number(NFTA_PAYLOAD_DREG, REGISTER).number(NFTA_PAYLOAD_BASE, NETWORK_HEADER);
                ("payload", inside.number(NFTA_PAYLOAD_OFFSET, *offset).number(NFTA_PAYLOAD_LEN, *length))
            }
            Self::In(set) => ("lookup", inside.text(NFTA_LOOKUP_SET, set).number(NFTA_LOOKUP_SREG, REGISTER)),
            Self::Notrack => return Attributes::default().text(NFTA_EXPR_NAME, "notrack"),
        };
        Attributes::default().text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, &data)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let name = text(find(bytes, NFTA_EXPR_NAME)?);
        let data = find(bytes, NFTA_EXPR_DATA).unwrap_or_default();
        let is = |kind, wanted| find(data, kind).and_then(number) == Some(wanted);
        match name.as_str() {
            "meta" => {
                (is(NFTA_META_KEY, META_FAMILY) && is(NFTA_META_DREG, REGISTER)).then_some(Self::Family)
            }
            "cmp" => {
                let bytes = find(find(data, NFTA_CMP_DATA)?, NFTA_DATA_VALUE)?.to_vec();
                (is(NFTA_CMP_SREG, REGISTER) && is(NFTA_CMP_OP, EQUAL)).then_some(Self::Equals(bytes))
            }
            "payload" => {
                let offset = number(find(data, NFTA_PAYLOAD_OFFSET)?)?;
                let length = number(find(data, NFTA_PAYLOAD_LEN)?)?;
                let is_of_header = is(NFTA_PAYLOAD_DREG, REGISTER) && is(NFTA_PAYLOAD_BASE, NETWORK_HEADER);
                is_of_header.then_some(Self::Header { offset, length })
            }
            "lookup" => {
                let set = text(find(data, NFTA_LOOKUP_SET)?);
                let is_inverted = find(data, NFTA_LOOKUP_FLAGS).and_then(number).unwrap_or(0) != 0;
                (is(NFTA_LOOKUP_SREG, REGISTER) && !is_inverted).then_some(Self::In(set))
            }
            "notrack" => Some(Self::Notrack),
            _ => None,
        }
    }
}

/// The value of the first attribute of a kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number in network order.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A text, without the byte that ends it.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let rule = vec![
            Expression::Family,
            Expression::Equals(vec![2]),
            Expression::Header { offset: 16, length: 4 },
            Expression::In("pods_ipv4".into()),
            Expression::Notrack,
        ];
        assert_eq!(read(written(&rule).bytes()), Some(rule));
    }

    #[test]
    fn a_step_that_netd_never_makes_is_not_taken_for_one_of_its_own() {
        let inverted = Attributes::default()
            .text(NFTA_LOOKUP_SET, "pods_ipv4")
            .number(NFTA_LOOKUP_SREG, REGISTER)
            .number(NFTA_LOOKUP_FLAGS, 1);
        let inverted = Attributes::default().text(NFTA_EXPR_NAME, "lookup").nest(NFTA_EXPR_DATA, &inverted);
        let counter = Attributes::default().text(NFTA_EXPR_NAME, "counter");
        for step in [inverted, counter] {
            assert_eq!(read(Attributes::default().nest(NFTA_LIST_ELEM, &step).bytes()), None);
        }
    }
}
