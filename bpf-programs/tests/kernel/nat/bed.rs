//! The translating programs with rules, and the model of them; every frame is shown to both.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use netd_bpf::nat::abi::{self, ANSWERED, Counts, FIN_IN, FIN_OUT, IS_OVER, RESET};
use netd_bpf::nat::{EgressRules, Nat, Outer, Ports, Rules, Size, Verdict};
use netd_bpf::tc::Side;

use super::model::{Key, Model};
use crate::bed::{INGRESS, hex};
use crate::cases::layers::Family;
use crate::decap::bed::prefixes;

pub const SIZE: Size = Size { flows: 65_536, direct: 4096, fragments: 4096, has_egress: true };
pub const SEED: u64 = 0x0123_4567_89ab_cdef;
pub const PORTS: Ports = Ports { first: 1024, last: 32_767 };

/// Two addresses of a family each.
pub struct Both(pub &'static str, pub &'static str);

pub const POD: Both = Both("10.244.1.5", "fd00:244:1::5");
pub const OTHER_POD: Both = Both("10.244.1.6", "fd00:244:1::6");
pub const NODE: Both = Both("192.0.2.1", "2001:db8:1::1");
/// An address of the node that no rule has.
pub const OTHER_OF_NODE: Both = Both("192.0.2.2", "2001:db8:1::2");
pub const REMOTE: Both = Both("198.51.100.7", "2001:db8:9::7");
pub const OTHER_REMOTE: Both = Both("198.51.100.8", "2001:db8:9::8");
pub const ROUTER: Both = Both("203.0.113.1", "2001:db8:ffff::1");
/// The egress address of policies.
pub const EGRESS: Both = Both("203.0.113.77", "2001:db8:77::77");
/// In the cluster.
pub const EXCLUDED: Both = Both("10.244.2.9", "fd00:244:2::9");

impl Both {
    pub fn of(&self, family: Family) -> &'static str {
        if family == Family::V4 { self.0 } else { self.1 }
    }
}

pub fn outer() -> Outer {
    Outer { v4: NODE.0.parse().ok(), v6: NODE.1.parse().ok(), ports: PORTS }
}

pub fn rules() -> Rules {
    Rules {
        sources: prefixes(&["10.244.1.0/24", "fd00:244:1::/64"]),
        exclude: prefixes(&["10.0.0.0/8", "fd00::/8", "224.0.0.0/4", "ff00::/8"]),
        devices: [(INGRESS, outer())].into(),
    }
}

pub struct Bed {
    pub nat: Nat,
    pub model: Model,
    /// The device by which frames that leave came in; zero: they are the host's.
    pub came_in_by: u32,
    /// What was counted before the model began.
    before: Counts,
}

impl Bed {
    pub fn new(root: &Path) -> Self {
        Self::with(root, rules(), SIZE)
    }

    pub fn with(root: &Path, rules: Rules, size: Size) -> Self {
        let mut nat = Nat::prepare(root, size, SEED, None).unwrap_or_else(|error| panic!("{error}"));
        nat.set_rules(&rules).unwrap();
        let model = Model::new(rules, INGRESS, SEED, size.flows as usize);
        Self { nat, model, came_in_by: 0, before: Counts::default() }
    }

    /// Everything is forgotten, and the rules are these.
    pub fn restart(&mut self, rules: Rules) {
        self.nat.forget().unwrap();
        self.nat.set_rules(&rules).unwrap();
        self.nat.set_egress(&EgressRules::default()).unwrap();
        self.nat.forget_addresses(&BTreeSet::new()).unwrap();
        self.came_in_by = 0;
        self.before = self.nat.counts();
        self.model = Model::new(rules, INGRESS, SEED, self.nat.size().flows as usize);
    }

    /// The rules are these from now on; what is remembered stays.
    pub fn set_rules(&mut self, rules: Rules) {
        self.nat.set_rules(&rules).unwrap();
        self.model.set_rules(rules, INGRESS);
    }

    /// The rules of egress policies are these from now on.
    pub fn set_egress(&mut self, egress: EgressRules) {
        self.nat.set_egress(&egress).unwrap();
        self.model.set_egress(egress);
    }

    /// The node has no address any more that no rule has.
    pub fn forget_addresses(&mut self) {
        self.nat.forget_addresses(&BTreeSet::new()).unwrap();
        self.model.left.clear();
    }

    pub fn age(&mut self, seconds: u64) {
        self.nat.age(seconds).unwrap();
        self.model.age(seconds);
    }

    /// What the program says; it has to be what the model says.
    pub fn run(&mut self, side: Side, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let ran = self.nat.run_from(side, frame, self.came_in_by).unwrap();
        let expected = match side {
            Side::Egress => self.model.leaving(frame, self.came_in_by),
            Side::Ingress => self.model.coming(frame),
        };
        assert!(
            ran == expected,
            "{side:?}\nframe   {}\nprogram {:?} {}\nmodel   {:?} {}",
            hex(frame),
            ran.0,
            hex(&ran.1),
            expected.0,
            hex(&expected.1)
        );
        ran
    }

    /// What was counted since the model began; it has to be what the model counted.
    pub fn counts(&self) -> Counts {
        let (now, before) = (self.nat.counts().named(), self.before.named());
        let modelled = self.model.counts.named();
        for (((name, now), (_, before)), (_, modelled)) in now.into_iter().zip(before).zip(modelled) {
            assert_eq!(now - before, modelled, "{name}");
        }
        self.model.counts
    }

    /// What is remembered has to be the same, too.
    pub fn compare_tables(&self) {
        let found: Vec<_> = self.nat.mappings().unwrap().iter().map(|(key, it)| shown(key, it)).collect();
        let mut modelled: Vec<_> = self.model.mappings.iter().map(|(key, it)| modelled(key, it)).collect();
        let mut found = found;
        found.sort();
        modelled.sort();
        assert_eq!(found, modelled);
    }
}

type Row = (Key, IpAddr, u16, u8, bool);

fn shown(key: &abi::Key, mapping: &abi::Mapping) -> Row {
    let address = |bytes: [u8; 16]| std::net::Ipv6Addr::from(bytes).to_canonical();
    let key = Key {
        remote: address(key.remote),
        remote_port: u16::from_be_bytes(key.remote_port),
        outer: address(key.outer),
        outer_port: u16::from_be_bytes(key.outer_port),
        protocol: key.protocol,
    };
    let port = u16::from_be_bytes(mapping.inner_port);
    (key, address(mapping.inner), port, mapping.state, mapping.seen_ns <= IS_OVER)
}

fn modelled(key: &Key, it: &super::model::Mapping) -> Row {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let state = flag(it.is_answered, ANSWERED)
        | flag(it.fin_out, FIN_OUT)
        | flag(it.fin_in, FIN_IN)
        | flag(it.is_reset, RESET);
    (*key, it.inner, it.inner_port, state, it.is_over)
}
