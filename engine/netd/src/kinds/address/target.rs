//! netd's addresses in the kernel: read whole, added and removed one by one, and announced when they have come.

use super::lease::CHANGES;
use super::{AddressSpec, Lease, NAME, Told, announce, key};
use crate::facts::{Facts, Mac, same_device};
use crate::kinds::masquerade::programs;
use crate::kinds::service::sentence;
use crate::netlink::{Answer, Connection, PROTOCOL, Request};
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_core::{Action, Observation, Outcome, Step};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
    CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// When a segment is told, after the address has come: some frames are lost, and IPv6 asks for a second or two whether
/// somebody else has the address before it has it.
const TOLD_AFTER: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// The target of addresses.
pub struct AddressTarget {
    /// Where the programs are pinned that turn answers around.
    bpf_dir: PathBuf,
    /// Away while it is in use; made anew when that was cancelled.
    connection: Option<Connection>,
}

/// An address that somebody has put on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) address: IpAddr,
    prefix_len: u8,
    ifindex: u32,
    pub(super) is_own: bool,
    pub(super) is_leased: bool,
    state: State,
}

/// Whether an address can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Usable,
    /// It is being asked for whether somebody else has it.
    Tentative,
    /// Somebody else has it.
    Duplicate,
}

#[async_trait]
impl Target for AddressTarget {
    async fn observe(&mut self, facts: &Facts) -> Result<Observation, String> {
        let mut connection = self.open()?;
        let found = held(&mut connection).await?;
        self.connection = Some(connection);
        Ok(observed(&found, facts))
    }

    async fn apply(&mut self, steps: &[Step], facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(self.step(step, facts).await.unwrap_or_else(|outcome| outcome));
        }
        if steps.iter().any(|step| matches!(step.action, Action::Delete { .. }))
            && let Err(why) = forget_gone(&self.bpf_dir).await
        {
            tracing::warn!(why, "answers to an address that is gone may still be turned around");
        }
        outcomes
    }

    /// Some addresses go without a step: their lease ends, or the watch of the gateways gives them up.
    async fn tend(&mut self) -> Result<(), String> {
        forget_gone(&self.bpf_dir).await
    }
}

/// The egress addresses that the node has now.
///
/// # Errors
///
/// A sentence, if that cannot be read.
pub async fn present() -> Result<BTreeSet<IpAddr>, String> {
    let mut connection = Connection::open().map_err(|error| format!("open netlink: {error}"))?;
    let found = held(&mut connection).await?;
    Ok(found.iter().filter(|held| held.is_own).map(|held| held.address).collect())
}

/// Has the programs forget the addresses that are gone: until now, answers to them were not for the host.
async fn forget_gone(bpf_dir: &Path) -> Result<(), String> {
    let there = present().await?;
    let Some(mut nat) = programs(bpf_dir)? else { return Ok(()) };
    nat.forget_addresses(&there).map_err(|error| sentence(&error))
}

fn observed(found: &[Held], facts: &Facts) -> Observation {
    let name = |held: &Held| {
        let link = facts.links.get(&held.ifindex);
        link.map_or_else(|| format!("interface {}", held.ifindex), |link| link.name.clone())
    };
    let mut own: BTreeMap<IpAddr, Vec<&Held>> = BTreeMap::new();
    let mut observation = Observation::default();
    for held in found {
        match held.is_own {
            true => own.entry(held.address).or_default().push(held),
            false => {
                let holder = format!("an address of {} that somebody else has put there", name(held));
                observation.foreign.insert(key(held.address), holder);
            }
        }
    }
    for (address, places) in own {
        let Some((first, others)) = places.split_first() else { continue };
        let is_duplicate = places.iter().any(|held| held.state == State::Duplicate);
        if is_duplicate {
            let note = "another machine on its segment has this address, too: nothing comes back here";
            observation.notes.insert(key(address), note.into());
        }
        let surplus = others.iter().map(|held| name(held)).collect();
        let (device, ifindex) = (name(first), first.ifindex);
        let (lease, told) = (Lease(first.is_leased.then_some(Duration::ZERO)), Told(false));
        let spec = AddressSpec { address, device, ifindex, surplus, lease, is_duplicate, told };
        observation.owned.insert(key(address), Arc::new(spec));
    }
    observation
}

pub(super) async fn held(connection: &mut Connection) -> Result<Vec<Held>, String> {
    let request = Message::GetAddress(AddressMessage::default());
    let found = connection.dump(&request, |message| match message {
        Message::NewAddress(address) => read(address),
        _ => None,
    });
    found.await.map_err(|error| format!("read addresses: {error}"))
}

fn read(message: &AddressMessage) -> Option<Held> {
    let header = &message.header;
    let (mut local, mut peer, mut has_number, mut is_leased) = (None, None, false, false);
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::CacheInfo(lifetime) => is_leased = lifetime.ifa_valid != u32::MAX,
            AddressAttribute::Protocol(protocol) => has_number = u8::from(*protocol) == PROTOCOL,
            _ => {}
        }
    }
    let state = match (flags.contains(AddressFlags::Dadfailed), flags.contains(AddressFlags::Tentative)) {
        (true, _) => State::Duplicate,
        (false, true) => State::Tentative,
        (false, false) => State::Usable,
    };
    let address = local.or(peer)?;
    // Others may use the number; nobody makes addresses like these.
    let is_alone = header.prefix_len == prefix_len(address) && flags.contains(AddressFlags::Noprefixroute);
    let is_own = has_number && is_alone;
    Some(Held { address, prefix_len: header.prefix_len, ifindex: header.index, is_own, is_leased, state })
}

impl AddressTarget {
    /// The target whose programs are pinned below this folder.
    #[must_use]
    pub fn new(bpf_dir: &Path) -> Self {
        Self { bpf_dir: bpf_dir.to_owned(), connection: None }
    }

    fn open(&mut self) -> Result<Connection, String> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open().map_err(|error| format!("open netlink: {error}")),
        }
    }

    async fn step(&mut self, step: &Step, facts: &Facts) -> Result<Outcome, Outcome> {
        let spec: &AddressSpec = spec_of(step, NAME)?;
        let _alone = CHANGES.lock().await;
        let mut connection = self.open().map_err(Outcome::Failed)?;
        let there = held(&mut connection).await.map_err(Outcome::Failed)?;
        let wanted = match &step.action {
            Action::Create { .. } | Action::Update { .. } => Some(spec),
            Action::Delete { .. } => None,
        };
        let address = spec.address;
        let places = || there.iter().filter(|held| held.address == address);
        if let Some(wanted) = &wanted {
            if let Some(other) = places().find(|held| !held.is_own) {
                return Ok(Outcome::Conflict(format!(
                    "interface {} has it, by somebody else",
                    other.ifindex
                )));
            }
            same_device(&facts.links, wanted.ifindex, &wanted.device).map_err(Outcome::Failed)?;
            // The kernel asks for an address once, when it is added: the other machine may be gone.
            for other in places().filter(|held| held.state == State::Duplicate) {
                remove(&mut connection, other).await?;
            }
            let message = Message::NewAddress(message(address, wanted.ifindex, wanted.lease));
            let is_good = |held: &&Held| held.ifindex == wanted.ifindex && held.state != State::Duplicate;
            match places().find(is_good) {
                None => {
                    let request = Request { message, flags: NLM_F_CREATE | NLM_F_EXCL };
                    change(&mut connection, request, &[Errno::EXIST]).await?;
                    tell(wanted, facts);
                }
                Some(held) if held.is_leased == wanted.lease.0.is_none() => {
                    change(&mut connection, Request { message, flags: NLM_F_REPLACE }, &[]).await?;
                }
                Some(_) => {}
            }
        }
        let kept = wanted.map(|wanted| wanted.ifindex);
        for other in places().filter(|held| held.is_own && Some(held.ifindex) != kept) {
            remove(&mut connection, other).await?;
        }
        self.connection = Some(connection);
        Ok(Outcome::Applied)
    }
}

/// Takes an address of netd's off its device.
pub(super) async fn remove(connection: &mut Connection, own: &Held) -> Result<(), Outcome> {
    let request =
        Request { message: Message::DelAddress(message(own.address, own.ifindex, Lease(None))), flags: 0 };
    change(connection, request, &[Errno::ADDRNOTAVAIL, Errno::NODEV]).await
}

/// Makes a change; that it is made already is success.
async fn change(connection: &mut Connection, request: Request, already: &[Errno]) -> Result<(), Outcome> {
    match connection.change(request).await {
        Answer::Done => Ok(()),
        Answer::Refused(error) if already.contains(&error) => Ok(()),
        Answer::Refused(error) => Err(Outcome::Failed(std::io::Error::from(error).to_string())),
        Answer::Lost(error) => {
            Err(Outcome::Failed(format!("the kernel's answer was lost: {}", std::io::Error::from(error))))
        }
    }
}

/// Alone, without a route of its own, and such that the node's own sockets do not choose it.
fn message(address: IpAddr, ifindex: u32, lease: Lease) -> AddressMessage {
    let mut message = AddressMessage::default();
    let header = &mut message.header;
    header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    header.prefix_len = prefix_len(address);
    (header.flags, header.scope, header.index) =
        (AddressHeaderFlags::empty(), AddressScope::Universe, ifindex);
    let mut lifetime = CacheInfo::default();
    let seconds = |lease: Duration| u32::try_from(lease.as_secs()).unwrap_or(u32::MAX - 1);
    (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, lease.0.map_or(u32::MAX, seconds));
    let mut flags = AddressFlags::Noprefixroute;
    // The one that it moves from may have it for a moment more, and would answer that it is taken: for ever.
    flags.set(AddressFlags::Nodad, lease.0.is_some() && address.is_ipv6());
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::CacheInfo(lifetime),
        AddressAttribute::Flags(flags),
        AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL)),
    ];
    message
}

/// Says of an address that it is to stay for so long.
pub(super) fn lifetime(held: &Held, lease: Duration) -> AddressMessage {
    message(held.address, held.ifindex, Lease(Some(lease)))
}

fn prefix_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Tells the segment, in the background, as long as the address is there and the node's.
fn tell(spec: &AddressSpec, facts: &Facts) {
    let mac = facts.links.get(&spec.ifindex).and_then(|link| link.mac);
    let (true, Some(mac)) = (spec.told.0, mac) else { return };
    let (address, ifindex) = (spec.address, spec.ifindex);
    tokio::spawn(async move {
        for pause in TOLD_AFTER {
            tokio::time::sleep(pause).await;
            match tell_once(address, ifindex, mac).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => tracing::warn!(%address, why, "an egress address could not be announced"),
            }
        }
    });
}

/// Whether it is still to be told.
async fn tell_once(address: IpAddr, ifindex: u32, mac: Mac) -> Result<bool, String> {
    let mut connection = Connection::open().map_err(|error| format!("open netlink: {error}"))?;
    let is_meant = |held: &&Held| held.is_own && held.address == address && held.ifindex == ifindex;
    let found = held(&mut connection).await?;
    let Some(there) = found.iter().find(is_meant) else { return Ok(false) };
    if there.state == State::Usable {
        let sent = netd_bpf::send_frame(ifindex, &announce::frame(address, mac));
        sent.map_err(|error| format!("send: {error}"))?;
    }
    Ok(there.state != State::Duplicate)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::fake::link;
    use netd_core::Described as _;

    #[test]
    fn an_address_is_read_as_it_is_made() {
        for address in ["192.168.33.100", "2001:db8:33::100"] {
            let address: IpAddr = address.parse().unwrap();
            let prefix_len = if address.is_ipv4() { 32 } else { 128 };
            let expected = Held {
                address,
                prefix_len,
                ifindex: 7,
                is_own: true,
                is_leased: false,
                state: State::Usable,
            };
            assert_eq!(read(&message(address, 7, Lease(None))), Some(expected));
        }
    }

    #[test]
    fn an_address_with_a_lease_is_another_one_than_without() {
        let read = |lease| {
            let found = read(&message("192.168.33.100".parse().unwrap(), 7, Lease(lease))).unwrap();
            let observed = observed(&[found], &Facts::default());
            let spec = observed.owned.get("192.168.33.100").unwrap();
            spec.as_any().downcast_ref::<AddressSpec>().unwrap().clone()
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(read(seconds(3)), read(seconds(9)));
        assert_ne!(read(seconds(3)), read(None));
    }

    #[test]
    fn an_address_without_the_mark_is_somebody_elses() {
        let mut message = message("192.168.33.100".parse().unwrap(), 7, Lease(None));
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Protocol(_)));
        let facts = Facts { links: BTreeMap::from([(7, link(7, "eth0"))]), ..Facts::default() };
        let observation = observed(&[read(&message).unwrap()], &facts);
        assert!(observation.owned.is_empty());
        let holder = observation.foreign.get("192.168.33.100").unwrap();
        assert_eq!(holder, "an address of eth0 that somebody else has put there");
    }

    #[test]
    fn an_address_with_the_number_that_netd_would_not_make_is_somebody_elses() {
        let address = "2001:db8:33::100".parse().unwrap();
        let mut with_network = message(address, 7, Lease(None));
        with_network.header.prefix_len = 64;
        let mut with_route = message(address, 7, Lease(None));
        with_route.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Flags(_)));
        for message in [with_network, with_route] {
            assert!(!read(&message).unwrap().is_own);
        }
    }

    #[test]
    fn an_address_that_another_machine_has_is_added_anew() {
        let address: IpAddr = "2001:db8:33::100".parse().unwrap();
        let there = Held { state: State::Duplicate, ..read(&message(address, 7, Lease(None))).unwrap() };
        let facts = Facts { links: BTreeMap::from([(7, link(7, "eth0"))]), ..Facts::default() };
        let changes = |there: Held| {
            let observation = observed(&[there], &facts);
            let spec = observation.owned.get("2001:db8:33::100").unwrap();
            let found = spec.as_any().downcast_ref::<AddressSpec>().unwrap();
            let wanted = AddressSpec { is_duplicate: false, ..found.clone() };
            wanted.changes(found).len()
        };
        assert_eq!((changes(there), changes(Held { state: State::Tentative, ..there })), (1, 0));
    }

    #[test]
    fn an_address_that_an_update_left_on_two_devices_is_one_with_a_surplus() {
        let facts =
            Facts { links: BTreeMap::from([(7, link(7, "eth0")), (8, link(8, "eth1"))]), ..Facts::default() };
        let address = "192.168.33.100".parse().unwrap();
        let found = [7, 8].map(|ifindex| read(&message(address, ifindex, Lease(None))).unwrap());
        let observation = observed(&found, &facts);
        let spec = observation.owned.get("192.168.33.100").unwrap();
        let spec = spec.as_any().downcast_ref::<AddressSpec>().unwrap();
        assert_eq!((spec.device.as_str(), spec.surplus.as_slice()), ("eth0", ["eth1".to_owned()].as_slice()));
    }
}
