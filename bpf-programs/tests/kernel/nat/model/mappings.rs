//! Section 3 of `docs/nat.md`: which mapping a flow has, and which one it gets.

use std::net::IpAddr;

use super::{Flow, Key, Mapping, Model};
use netd_bpf::nat::{Ports, abi};

const CANDIDATES: u64 = 128;

const STEPS: [u64; 8] = [65_537, 92_821, 131_071, 174_763, 524_287, 611_953, 746_773, 999_983];

/// What a rule says.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub outer: IpAddr,
    pub ports: Ports,
}

/// Why a flow gets no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Exhausted,
    Full,
}

impl Mapping {
    pub fn is_closing(&self) -> bool {
        self.is_reset || (self.fin_out && self.fin_in)
    }

    fn lifetime(&self, key: &Key) -> u64 {
        match key.protocol {
            6 if self.is_closing() => 240,
            6 if self.is_answered => 7440,
            6 => 240,
            17 if key.remote_port == 53 => 30,
            17 if self.is_answered => 300,
            17 => 120,
            _ => 60,
        }
    }
}

impl Model {
    pub fn alive(&self, key: &Key) -> Option<&Mapping> {
        self.mappings
            .get(key)
            .filter(|mapping| !mapping.is_over && self.seconds_since(mapping.seen) <= mapping.lifetime(key))
    }

    pub fn find(&self, flow: &Flow, rule: &Rule) -> Option<Key> {
        let first = flow.key(rule.outer, self.candidates(flow, rule)[0]);
        let moved = self.moved.get(&(*flow, rule.outer)).map(|port| flow.key(rule.outer, *port));
        [Some(first), moved].into_iter().flatten().find(|key| self.alive(key).is_some_and(|m| m.is_of(flow)))
    }

    pub fn make(&mut self, flow: &Flow, rule: &Rule) -> Result<Key, Refusal> {
        let candidates = self.candidates(flow, rule);
        let mut takeable = None;
        for port in &candidates {
            let key = flow.key(rule.outer, *port);
            if let Some(found) = self.alive(&key) {
                if found.is_of(flow) {
                    return Ok(key);
                }
                if found.is_closing() && flow.protocol == 6 && self.seconds_since(found.seen) > 10 {
                    takeable.get_or_insert(key);
                }
                continue;
            }
            if self.sockets.contains(&(flow.protocol, *port)) {
                self.counts.ports_in_use += 1;
                continue;
            }
            self.remove(&key);
            return self.put(flow, key, *port != candidates[0]);
        }
        let Some(key) = takeable else { return Err(Refusal::Exhausted) };
        self.remove(&key);
        let made = self.put(flow, key, key.outer_port != candidates[0]);
        self.counts.reused += u64::from(made.is_ok());
        made
    }

    pub fn remove(&mut self, key: &Key) {
        self.forget_port(key);
        self.mappings.remove(key);
    }

    /// The mapping is over, but there until it is its turn.
    pub fn end(&mut self, key: &Key) {
        self.forget_port(key);
        self.mappings.entry(*key).and_modify(|mapping| mapping.is_over = true);
    }

    fn forget_port(&mut self, key: &Key) {
        let Some(mapping) = self.mappings.get(key) else { return };
        let given = given(key, mapping);
        if self.moved.get(&given) == Some(&key.outer_port) {
            self.moved.remove(&given);
        }
    }

    /// What netd does before a range changes.
    pub fn write_down_ports(&mut self) {
        let mut all: Vec<_> = self
            .mappings
            .iter()
            .map(|(key, it)| (!it.is_over, it.seen, given(key, it), key.outer_port))
            .collect();
        all.sort();
        self.moved.extend(all.into_iter().map(|(_, _, given, port)| (given, port)));
    }

    fn put(&mut self, flow: &Flow, key: Key, is_moved: bool) -> Result<Key, Refusal> {
        // The table of a test is never so large that one sweep is not enough for all of it.
        if self.mappings.len() >= self.room {
            let over: Vec<Key> =
                self.mappings.keys().copied().filter(|key| self.alive(key).is_none()).collect();
            over.iter().for_each(|key| self.remove(key));
        }
        if self.mappings.len() >= self.room {
            return Err(Refusal::Full);
        }
        let mapping = Mapping {
            inner: flow.inner,
            inner_port: flow.inner_port,
            is_answered: false,
            fin_out: false,
            fin_in: false,
            is_reset: false,
            is_over: false,
            seen: self.now(),
        };
        self.mappings.insert(key, mapping);
        if is_moved {
            self.moved.insert((*flow, key.outer), key.outer_port);
        }
        self.counts.created += 1;
        Ok(key)
    }

    /// The ports that are tried, in order.
    pub fn candidates(&self, flow: &Flow, rule: &Rule) -> Vec<u16> {
        let (first, last) = (u64::from(rule.ports.first), u64::from(rule.ports.last));
        let size = last - first + 1;
        let hash = self.hash(flow);
        let start = ((hash >> 32) * size) >> 32;
        let step = STEPS[(hash % 8) as usize];
        let own = (rule.ports.first..=rule.ports.last).contains(&flow.inner_port).then_some(flow.inner_port);
        let others = (0..CANDIDATES).map(|i| (first + (start + i * step) % size) as u16);
        own.into_iter().chain(others).take(CANDIDATES as usize).collect()
    }

    fn hash(&self, flow: &Flow) -> u64 {
        let mut bytes = [abi::mapped(flow.inner), abi::mapped(flow.remote)].concat();
        bytes.extend(flow.inner_port.to_be_bytes());
        bytes.extend(flow.remote_port.to_be_bytes());
        bytes.extend([flow.protocol, 0, 0, 0]);
        let words = bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        words.fold(self.seed, |hash, word| {
            let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^ (hash >> 32)
        })
    }
}

fn given(key: &Key, mapping: &Mapping) -> (Flow, IpAddr) {
    let Mapping { inner, inner_port, .. } = *mapping;
    let Key { remote, remote_port, protocol, .. } = *key;
    (Flow { inner, inner_port, remote, remote_port, protocol }, key.outer)
}
