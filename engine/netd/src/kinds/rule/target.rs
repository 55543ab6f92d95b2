//! netd's policy rules in the kernel: read whole, made and deleted one by one.

use super::{Packets, RuleSpec};
use crate::facts::Facts;
use crate::netlink::{Answer, Connection, PROTOCOL, Request};
use crate::target::Target;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use netd_core::{Action, Observation, Outcome, Spec, Step};
use netd_schema::Family;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, Nla as _};
use netlink_packet_route::IpProtocol;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// `FRA_DPORT_MASK`: since Linux 6.15.
const DPORT_MASK: u16 = 29;

/// `RT_TABLE_COMPAT`: the table's number does not fit, see the attribute.
const TABLE_COMPAT: u8 = 252;

/// Why a rule is not deleted that cannot be told apart from the one before it.
const BEHIND_ANOTHER: &str = "a rule that netd did not make has its priority, table and protocol number, and more \
                              conditions: the kernel would delete that one instead";

/// The target of rules.
#[derive(Default)]
pub struct RuleTarget {
    /// Away while it is in use; made anew when that was cancelled.
    connection: Option<Connection>,
}

#[async_trait]
impl Target for RuleTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let own = facts.rules.iter().map(|spec| (spec.key(), Arc::new(spec.clone()) as Arc<dyn Spec>));
        Ok(Observation { owned: own.collect(), ..Observation::default() })
    }

    fn exchanges(&self) -> bool {
        true
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(self.change(step).await);
        }
        outcomes
    }
}

impl RuleTarget {
    fn open(&mut self) -> Result<Connection, String> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open().map_err(|error| format!("open netlink: {error}")),
        }
    }

    async fn change(&mut self, step: &Step) -> Outcome {
        let typed = |spec: &Arc<dyn Spec>| spec.as_any().downcast_ref::<RuleSpec>().cloned();
        let (spec, is_deletion) = match &step.action {
            Action::Create { to } | Action::Update { to, .. } => (typed(to), false),
            Action::Delete { from } => (typed(from), true),
        };
        let Some(spec) = spec else { return Outcome::Failed("this is not a rule".into()) };
        let mut connection = match self.open() {
            Ok(connection) => connection,
            Err(reason) => return Outcome::Failed(reason),
        };
        if is_deletion {
            match going(&mut connection, &spec).await.map(|going| going.into_iter().next()) {
                Ok(Some(Some(own))) if own == spec => {}
                Ok(Some(_)) => return Outcome::Failed(BEHIND_ANOTHER.to_owned()),
                Ok(None) => return Outcome::Applied,
                Err(reason) => return Outcome::Failed(reason),
            }
        }
        let request = if is_deletion {
            Request { message: Message::DelRule(message(&spec)), flags: 0 }
        } else {
            Request { message: Message::NewRule(message(&spec)), flags: NLM_F_CREATE | NLM_F_EXCL }
        };
        let answer = connection.change(request).await;
        if !matches!(answer, Answer::Lost(_)) {
            self.connection = Some(connection);
        }
        match answer {
            Answer::Done => Outcome::Applied,
            Answer::Refused(Errno::NOENT) if is_deletion => Outcome::Applied,
            Answer::Refused(Errno::EXIST) => Outcome::Conflict("the same rule of somebody else".into()),
            Answer::Refused(error) => Outcome::Failed(std::io::Error::from(error).to_string()),
            Answer::Lost(error) => {
                Outcome::Failed(format!("the kernel's answer was lost: {}", std::io::Error::from(error)))
            }
        }
    }
}

/// netd's own rules, of both families.
///
/// # Errors
///
/// The kernel's.
pub(crate) async fn own_rules(connection: &mut Connection) -> io::Result<BTreeSet<RuleSpec>> {
    let request = Message::GetRule(RuleMessage::default());
    let found = connection.dump(&request, |message| match message {
        Message::NewRule(rule) => read(rule),
        _ => None,
    });
    let own = found.await?.into_iter().filter(|(_, protocol)| *protocol == PROTOCOL);
    Ok(own.map(|(spec, _)| spec).collect())
}

/// The rules that the kernel would delete when asked to delete this one, of which it takes the first; `None` for one that is
/// of no form of netd's.
async fn going(connection: &mut Connection, spec: &RuleSpec) -> Result<Vec<Option<RuleSpec>>, String> {
    let request = Message::GetRule(RuleMessage::default());
    let found = connection.dump(&request, |message| match message {
        Message::NewRule(rule) if would_go(rule, spec) => Some(read(rule).map(|(found, _)| found)),
        _ => None,
    });
    found.await.map_err(|error| format!("read rules: {error}"))
}

/// Whether a rule has all that a request to delete `spec` names. What that does not name, the kernel does not compare: a
/// rule with more conditions fits, too.
fn would_go(rule: &RuleMessage, spec: &RuleSpec) -> bool {
    let request = message(spec);
    // The table's number in the header is that of the attribute.
    let is_same = |asked: &RuleAttribute| rule.attributes.contains(asked);
    let (asked, found) = (&request.header, &rule.header);
    (asked.family, asked.action, asked.src_len) == (found.family, found.action, found.src_len)
        && request.attributes.iter().all(is_same)
}

/// A rule and who made it; `None` for one that is of no form of netd's.
fn read(message: &RuleMessage) -> Option<(RuleSpec, u8)> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return None,
    };
    let (mut table, mut priority, mut protocol) = (u32::from(header.table), 0, 0);
    let (mut source, mut mark, mut mask, mut is_strange) =
        (None, None, u32::MAX, header.dst_len > 0 || header.tos > 0);
    let (mut is_udp, mut port) = (false, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(it) => source = IpNetwork::new(*it, header.src_len).ok(),
            RuleAttribute::FwMark(it) => mark = Some(*it),
            RuleAttribute::FwMask(it) => mask = *it,
            RuleAttribute::IpProtocol(IpProtocol::Udp) => is_udp = true,
            RuleAttribute::DestinationPortRange(it) if it.start == it.end => port = Some(it.start),
            RuleAttribute::Table(it) => table = *it,
            RuleAttribute::Priority(it) => priority = *it,
            RuleAttribute::Protocol(it) => protocol = u8::from(*it),
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::Other(it) if is_mask_of_one_port(it) => {}
            _ => is_strange = true,
        }
    }
    let is_inverted = header.flags.contains(RuleFlags::Invert);
    let packets = match (source, mark, port.filter(|_| is_udp), is_inverted) {
        (Some(prefix), None, None, false) => Packets::From(prefix),
        (None, Some(mark), None, true) if mask == u32::MAX => Packets::NotMarked(mark),
        (None, None, Some(port), false) => Packets::UdpTo(port),
        _ => return None,
    };
    is_strange |= is_udp != port.is_some();
    let is_ours = header.action == RuleAction::ToTable && !is_strange;
    is_ours.then_some((RuleSpec { family, priority, packets, table }, protocol))
}

/// Newer kernels say of one port that all of its bits count.
fn is_mask_of_one_port(attribute: &DefaultNla) -> bool {
    let mut mask = [0; 2];
    let is_whole = attribute.kind() == DPORT_MASK && attribute.value_len() == mask.len();
    if is_whole {
        attribute.emit_value(&mut mask);
    }
    mask == [0xff; 2]
}

fn message(spec: &RuleSpec) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = match spec.family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    };
    // The field has eight bits; the attribute below has the whole number.
    header.table = u8::try_from(spec.table).unwrap_or(TABLE_COMPAT);
    header.action = RuleAction::ToTable;
    let attributes = &mut message.attributes;
    match spec.packets {
        Packets::From(prefix) => {
            header.src_len = prefix.prefix();
            attributes.push(RuleAttribute::Source(prefix.network()));
        }
        Packets::NotMarked(mark) => {
            header.flags = RuleFlags::Invert;
            attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(u32::MAX)]);
        }
        Packets::UdpTo(port) => {
            let port = RulePortRange { start: port, end: port };
            attributes.extend([
                RuleAttribute::IpProtocol(IpProtocol::Udp),
                RuleAttribute::DestinationPortRange(port),
            ]);
        }
    }
    attributes.push(RuleAttribute::Table(spec.table));
    attributes.push(RuleAttribute::Priority(spec.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_made() {
        let rules = [
            (Family::Ipv4, Packets::From("10.244.1.0/24".parse().unwrap()), 201),
            (Family::Ipv6, Packets::From("fd00:244:1::/64".parse().unwrap()), 100_000),
            (Family::Ipv6, Packets::NotMarked(0xe00), 201),
            (Family::Ipv4, Packets::UdpTo(8472), 201),
        ];
        for (family, packets, table) in rules {
            let spec = RuleSpec { family, priority: 7, packets, table };
            assert_eq!(read(&message(&spec)), Some((spec, PROTOCOL)));
        }
    }

    #[test]
    fn a_rule_for_one_port_is_read_as_newer_kernels_say_it_and_one_for_some_bits_is_not() {
        let packets = Packets::UdpTo(8472);
        let spec = RuleSpec { family: Family::Ipv4, priority: 1, packets, table: 201 };
        let said = |mask: u16| {
            let mut said = message(&spec);
            let mask = DefaultNla::new(DPORT_MASK, mask.to_ne_bytes().to_vec());
            said.attributes.push(RuleAttribute::Other(mask));
            read(&said).map(|(spec, _)| spec)
        };
        assert_eq!(said(0xffff), Some(spec.clone()));
        assert_eq!(said(0xfff0), None);
    }

    #[test]
    fn a_rule_with_more_conditions_is_not_taken_for_one_of_netds() {
        let spec = RuleSpec {
            family: Family::Ipv4,
            priority: 7,
            packets: Packets::From("10.244.1.0/24".parse().unwrap()),
            table: 201,
        };
        let mut more = message(&spec);
        more.attributes.push(RuleAttribute::Iifname("eth0".into()));
        assert_eq!(read(&more), None);
        assert!(would_go(&more, &spec), "the kernel deletes it when it is the first");
        let mut other = message(&spec);
        other.header.action = RuleAction::Unreachable;
        assert_eq!(read(&other), None);
        assert!(!would_go(&other, &spec));
        let mut of_service = message(&spec);
        of_service.header.tos = 8;
        assert_eq!(read(&of_service), None);
    }
}
