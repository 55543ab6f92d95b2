//! What has to become of a packet, in plain Rust: written from `docs/nat.md`, not from the programs. One file for each
//! concern of the specification.

mod egress;
mod mappings;
mod packet;
mod rewrite;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netd_bpf::decap::Prefix;
use netd_bpf::nat::abi::Counts;
use netd_bpf::nat::{EgressRule, EgressRules, Outer, Ports, Rules, Verdict};

use mappings::{Refusal, Rule};
use packet::{Packet, Part, What};
use rewrite::End;

type Said = (Verdict, Vec<u8>);

/// A pod's flow; a ping's identifier is the inner port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub inner: IpAddr,
    pub inner_port: u16,
    pub remote: IpAddr,
    pub remote_port: u16,
    pub protocol: u8,
}

/// What a mapping is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub remote: IpAddr,
    pub remote_port: u16,
    pub outer: IpAddr,
    pub outer_port: u16,
    pub protocol: u8,
}

#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    pub inner: IpAddr,
    pub inner_port: u16,
    pub is_answered: bool,
    pub fin_out: bool,
    pub fin_in: bool,
    pub is_reset: bool,
    pub is_over: bool,
    pub seen: Duration,
}

/// How a fragment's packet is known: source, destination, identification, and for IPv4 the protocol.
type FragmentId = (IpAddr, IpAddr, u32, u8);

/// The rules, and everything that packets change.
pub struct Model {
    pub rules: Rules,
    pub egress: EgressRules,
    /// Egress addresses of former rules that the node still has.
    pub left: BTreeSet<IpAddr>,
    pub device: Option<Outer>,
    pub seed: u64,
    /// Protocols and ports that sockets of the host listen on.
    pub sockets: BTreeSet<(u8, u16)>,
    pub room: usize,
    pub mappings: BTreeMap<Key, Mapping>,
    /// By flow and outer address.
    pub moved: BTreeMap<(Flow, IpAddr), u16>,
    pub direct: BTreeMap<Flow, Duration>,
    pub fragments: BTreeMap<FragmentId, (IpAddr, Duration)>,
    pub counts: Counts,
    began: Instant,
    aged: Duration,
}

impl Flow {
    fn key(&self, outer: IpAddr, outer_port: u16) -> Key {
        let Self { remote, remote_port, protocol, .. } = *self;
        Key { remote, remote_port, outer, outer_port, protocol }
    }

    /// That of a packet that leaves.
    fn leaving(packet: &Packet) -> Self {
        let remote_port = if packet.is_echo() { 0 } else { packet.destination_port };
        let (inner, inner_port) = (packet.source, packet.source_port);
        Self { inner, inner_port, remote: packet.destination, remote_port, protocol: packet.protocol }
    }

    /// That of whom a packet comes to.
    fn coming(packet: &Packet) -> Self {
        let remote_port = if packet.is_echo() { 0 } else { packet.source_port };
        let (inner, inner_port) = (packet.destination, packet.destination_port);
        Self { inner, inner_port, remote: packet.source, remote_port, protocol: packet.protocol }
    }
}

impl Mapping {
    fn is_of(&self, flow: &Flow) -> bool {
        (self.inner, self.inner_port) == (flow.inner, flow.inner_port)
    }
}

impl Model {
    pub fn new(rules: Rules, device: u32, seed: u64, room: usize) -> Self {
        Self {
            device: rules.devices.get(&device).copied(),
            rules,
            egress: EgressRules::default(),
            left: BTreeSet::new(),
            seed,
            sockets: BTreeSet::new(),
            room,
            mappings: BTreeMap::new(),
            moved: BTreeMap::new(),
            direct: BTreeMap::new(),
            fragments: BTreeMap::new(),
            counts: Counts::default(),
            began: Instant::now(),
            // Nothing is older than this.
            aged: Duration::from_secs(1_000_000),
        }
    }

    /// The end of section 3.
    pub fn set_rules(&mut self, rules: Rules, device: u32) {
        let before = self.ranges();
        // What a device had and has no more is not known as an egress address either.
        for outer in self.rules.devices.values() {
            let own = [outer.v4.map(IpAddr::from), outer.v6.map(IpAddr::from)];
            own.into_iter().flatten().for_each(|address| _ = self.left.remove(&address));
        }
        self.device = rules.devices.get(&device).copied();
        self.rules = rules;
        self.keep_ports(before);
    }

    fn keep_ports(&mut self, before: BTreeSet<(IpAddr, Ports)>) {
        let after = self.ranges();
        let addresses: BTreeSet<IpAddr> = before.iter().map(|(address, _)| *address).collect();
        if !after.is_subset(&before) || addresses.len() < before.len() {
            self.write_down_ports();
        }
    }

    /// The ranges of every outer address.
    fn ranges(&self) -> BTreeSet<(IpAddr, Ports)> {
        let devices = self.rules.devices.values().flat_map(|outer| {
            let addresses = [outer.v4.map(IpAddr::from), outer.v6.map(IpAddr::from)];
            addresses.into_iter().flatten().map(|address| (address, outer.ports))
        });
        let egress = self.egress.rules.values().filter_map(|rule| match *rule {
            EgressRule::Translate { address, ports } => Some((address, ports)),
            _ => None,
        });
        devices.chain(egress).collect()
    }

    pub fn age(&mut self, seconds: u64) {
        self.aged += Duration::from_secs(seconds);
    }

    /// Section 2.
    pub fn leaving(&mut self, frame: &[u8], came_in_by: u32) -> Said {
        let Some(packet) = Packet::of_frame(frame) else { return pass(frame) };
        let is_forwarded = came_in_by != 0;
        if is_forwarded {
            match self.egress_rule(packet.source, packet.destination) {
                Some(EgressRule::Translate { address, ports }) => {
                    return self.leaving_as(frame, &packet, &Rule { outer: address, ports });
                }
                Some(EgressRule::Tunnel { ifindex, .. }) if ifindex == came_in_by => {
                    return drop(frame, &mut self.counts.looped);
                }
                Some(EgressRule::Tunnel { .. } | EgressRule::NextHop { .. }) => {
                    self.counts.steered += 1;
                    return (Verdict::Steer, frame.to_vec());
                }
                Some(EgressRule::Drop) => return drop(frame, &mut self.counts.no_gateway),
                Some(EgressRule::Pass) | None => {}
            }
        }
        if !is_in(&self.rules.sources, packet.source) {
            return self.leaving_of_others(frame, &packet, is_forwarded);
        }
        if is_in(&self.rules.exclude, packet.destination) || self.device.is_none() {
            return pass(frame);
        }
        let Some(rule) = self.rule(&packet) else { return drop(frame, &mut self.counts.no_address) };
        self.leaving_as(frame, &packet, &rule)
    }

    fn leaving_as(&mut self, frame: &[u8], packet: &Packet, rule: &Rule) -> Said {
        self.forget_fragment(packet);
        if packet.what == What::Unreadable {
            return drop(frame, &mut self.counts.malformed);
        }
        if packet.part == Part::Later {
            return self.later_leaving(frame, packet);
        }
        match packet.what {
            What::Error if packet.part == Part::Whole => self.error_leaving(frame, packet, true),
            What::Error | What::Unsupported => drop(frame, &mut self.counts.unsupported),
            What::Reply => self.goes_as_it_is(frame, packet),
            _ => self.translate(frame, packet, rule),
        }
    }

    fn translate(&mut self, frame: &[u8], packet: &Packet, rule: &Rule) -> Said {
        let flow = Flow::leaving(packet);
        let key = match self.find(&flow, rule) {
            Some(key) => key,
            None => {
                let is_transport = matches!(packet.what, What::Tcp | What::Udp);
                if is_transport && !packet.begins() && self.is_direct(&flow) {
                    self.direct.insert(flow, self.now());
                    return self.goes_as_it_is(frame, packet);
                }
                if packet.resets() {
                    return drop(frame, &mut self.counts.no_mapping);
                }
                if packet.accepts() {
                    self.record_direct(flow);
                    return self.goes_as_it_is(frame, packet);
                }
                let key = match self.make(&flow, rule) {
                    Ok(key) => key,
                    Err(Refusal::Exhausted) => return drop(frame, &mut self.counts.exhausted),
                    Err(Refusal::Full) => return drop(frame, &mut self.counts.table_full),
                };
                if packet.begins() {
                    self.direct.remove(&flow);
                }
                key
            }
        };
        self.saw(&key, packet, true);
        self.note(packet, key.outer);
        self.counts.out_packets += 1;
        let out = rewrite::translated(frame, packet, End::Source, (key.outer, Some(key.outer_port)));
        (Verdict::Pass, out)
    }

    fn later_leaving(&mut self, frame: &[u8], packet: &Packet) -> Said {
        match self.noted(packet) {
            None => drop(frame, &mut self.counts.fragment_lost),
            Some(address) if address == packet.source => pass(frame),
            Some(address) => {
                self.counts.out_packets += 1;
                (Verdict::Pass, rewrite::translated(frame, packet, End::Source, (address, None)))
            }
        }
    }

    /// Section 4, on the way out.
    fn error_leaving(&mut self, frame: &[u8], packet: &Packet, is_of_pod: bool) -> Said {
        let no_flow = |counts: &mut Counts| {
            if is_of_pod { drop(frame, &mut counts.no_mapping) } else { pass(frame) }
        };
        let Some(quoted) = Packet::quoted_by(frame, packet) else { return no_flow(&mut self.counts) };
        if quoted.what == What::Request {
            return pass(frame);
        }
        let rule = match self.egress_rule(quoted.destination, quoted.source) {
            Some(EgressRule::Translate { address, ports }) => Some(Rule { outer: address, ports }),
            _ => self.rule(packet).filter(|_| is_in(&self.rules.sources, quoted.destination)),
        };
        let Some(rule) = rule else { return no_flow(&mut self.counts) };
        let flow = Flow::coming(&quoted);
        let Some(key) = self.find(&flow, &rule) else {
            return if !quoted.is_echo() && self.is_direct(&flow) {
                pass(frame)
            } else {
                no_flow(&mut self.counts)
            };
        };
        self.counts.errors_out += 1;
        let to = (key.outer, key.outer_port);
        let mut out = rewrite::quoting(frame, packet, &quoted, End::Destination, to);
        if is_of_pod {
            out = rewrite::error(&out, packet, End::Source, key.outer);
        }
        (Verdict::Pass, out)
    }

    /// Section 6.
    fn leaving_of_others(&mut self, frame: &[u8], packet: &Packet, is_forwarded: bool) -> Said {
        if packet.what == What::Error && packet.part == Part::Whole {
            return self.error_leaving(frame, packet, false);
        }
        let own = Flow::leaving(packet);
        let is_asked_for = matches!(packet.what, What::Tcp | What::Udp | What::Request);
        if is_asked_for && !is_forwarded && self.is_outer(packet.source) {
            let key = own.key(own.inner, own.inner_port);
            if self.alive(&key).is_some() {
                self.end(&key);
                self.counts.yielded += 1;
            }
        }
        pass(frame)
    }

    /// Section 7.
    pub fn coming(&mut self, frame: &[u8]) -> Said {
        let Some(packet) = Packet::of_frame(frame) else { return pass(frame) };
        if self.is_outer(packet.destination) {
            return self.coming_to_outer(frame, &packet);
        }
        let records = matches!(packet.what, What::Tcp | What::Udp) && !packet.resets();
        if records
            && is_in(&self.rules.sources, packet.destination)
            && !is_in(&self.rules.exclude, packet.source)
        {
            self.came_for_pod(&packet);
        }
        pass(frame)
    }

    fn coming_to_outer(&mut self, frame: &[u8], packet: &Packet) -> Said {
        self.forget_fragment(packet);
        match (packet.part, packet.what) {
            (Part::Later, _) => match self.noted(packet) {
                None => pass(frame),
                Some(address) => {
                    self.counts.in_packets += 1;
                    let to = (address, None);
                    (Verdict::Pass, rewrite::translated(frame, packet, End::Destination, to))
                }
            },
            (Part::Whole, What::Error) => self.error_coming(frame, packet),
            (_, What::Tcp | What::Udp | What::Reply) => {
                let to = Flow::coming(packet);
                let key = to.key(to.inner, to.inner_port);
                let Some((inner, port)) = self.alive(&key).map(|m| (m.inner, m.inner_port)) else {
                    return pass(frame);
                };
                self.saw(&key, packet, false);
                self.note(packet, inner);
                self.counts.in_packets += 1;
                let to = (inner, Some(port));
                (Verdict::Pass, rewrite::translated(frame, packet, End::Destination, to))
            }
            _ => pass(frame),
        }
    }

    /// Section 4, on the way in.
    fn error_coming(&mut self, frame: &[u8], packet: &Packet) -> Said {
        let Some(quoted) = Packet::quoted_by(frame, packet) else { return pass(frame) };
        if quoted.what == What::Reply || quoted.source != packet.destination {
            return pass(frame);
        }
        let sent = Flow::leaving(&quoted);
        let Some(mapping) = self.alive(&sent.key(sent.inner, sent.inner_port)).copied() else {
            return pass(frame);
        };
        self.counts.errors_in += 1;
        let to = (mapping.inner, mapping.inner_port);
        let out = rewrite::quoting(frame, packet, &quoted, End::Source, to);
        (Verdict::Pass, rewrite::error(&out, packet, End::Destination, mapping.inner))
    }

    /// Whether it is an outer address of any rule, or was.
    fn is_outer(&self, address: IpAddr) -> bool {
        let mut outers = self.rules.devices.values();
        outers.any(|at| at.v4.map(IpAddr::from) == Some(address) || at.v6.map(IpAddr::from) == Some(address))
            || self.egress_addresses().contains(&address)
            || self.left.contains(&address)
    }

    fn rule(&self, packet: &Packet) -> Option<Rule> {
        let device = self.device?;
        let outer = if packet.is_v4() { device.v4?.into() } else { device.v6?.into() };
        Some(Rule { outer, ports: device.ports })
    }

    fn saw(&mut self, key: &Key, packet: &Packet, leaves: bool) {
        let now = self.now();
        let mapping = self.mappings.get_mut(key).expect("it was found");
        mapping.seen = now;
        mapping.is_answered |= !leaves;
        if leaves && packet.begins() && mapping.is_closing() {
            (mapping.is_answered, mapping.fin_out, mapping.fin_in) = (false, false, false);
        }
        if packet.what == What::Tcp {
            mapping.is_reset = packet.resets();
            mapping.fin_out |= leaves && packet.ends();
            mapping.fin_in |= !leaves && packet.ends();
        }
    }

    fn is_direct(&self, flow: &Flow) -> bool {
        let lives = if flow.protocol == 6 { 7440 } else { 300 };
        self.direct.get(flow).is_some_and(|seen| self.seconds_since(*seen) <= lives)
    }

    fn record_direct(&mut self, flow: Flow) {
        self.counts.direct += u64::from(!self.is_direct(&flow));
        self.direct.insert(flow, self.now());
    }

    fn goes_as_it_is(&mut self, frame: &[u8], packet: &Packet) -> Said {
        self.note(packet, packet.source);
        pass(frame)
    }

    /// Section 5.
    fn note(&mut self, packet: &Packet, address: IpAddr) {
        if packet.part == Part::First {
            self.fragments.insert(fragment_id(packet), (address, self.now()));
        }
    }

    fn forget_fragment(&mut self, packet: &Packet) {
        if packet.part == Part::First {
            self.fragments.remove(&fragment_id(packet));
        }
    }

    fn noted(&self, packet: &Packet) -> Option<IpAddr> {
        let (address, seen) = *self.fragments.get(&fragment_id(packet))?;
        (self.seconds_since(seen) <= 30).then_some(address)
    }

    fn now(&self) -> Duration {
        self.aged + self.began.elapsed()
    }

    fn seconds_since(&self, then: Duration) -> u64 {
        (self.now() - then).as_secs()
    }
}

fn fragment_id(packet: &Packet) -> FragmentId {
    let protocol = if packet.is_v4() { packet.protocol } else { 0 };
    (packet.source, packet.destination, packet.id, protocol)
}

fn pass(frame: &[u8]) -> Said {
    (Verdict::Pass, frame.to_vec())
}

fn drop(frame: &[u8], count: &mut u64) -> Said {
    *count += 1;
    (Verdict::Drop, frame.to_vec())
}

fn is_in(prefixes: &BTreeSet<Prefix>, address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| has(prefix, address))
}

fn has((network, bits): &Prefix, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}
