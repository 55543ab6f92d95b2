//! Counters, and what the programs count to keep limits.

use bytemuck::{Pod, Zeroable};

/// One element of `counters`: of one backend on one CPU, or their sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// Packets sent to the backend.
    pub packets: u64,
    /// Bytes of these packets as the client sent them, from the IP header to the end of its payload.
    pub bytes: u64,
}

/// One element of `service_counters`: of one service on one CPU, or their sum. All in packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceCounter {
    /// Dropped: the service has no usable backend.
    pub no_backend: u64,
    /// Dropped: the way to the backend is not known.
    pub no_next_hop: u64,
    /// Flow records made.
    pub kept_flows: u64,
    /// Dropped: lengths that lie, headers cut off, or longer with the outer headers than IP can say.
    pub malformed: u64,
    /// Dropped: longer with the outer headers than the path takes.
    pub too_big: u64,
    /// Dropped: the service does not let the client in.
    pub source_denied: u64,
    /// Dropped: a source address that no client can have.
    pub martian: u64,
    /// Dropped or rejected: for the VIP, but for none of its services.
    pub unknown_port: u64,
    /// Dropped: a later fragment whose first one was not seen.
    pub fragment_lost: u64,
    /// Answers that were not made, and ICMP errors that were not relayed, because there were too many.
    pub rate_limited: u64,
    /// RSTs and ICMP errors that were made, those about size aside.
    pub rejected: u64,
    /// ICMP errors that were made about size.
    pub told_too_big: u64,
    /// Pings answered.
    pub echo_replies: u64,
    /// ICMP errors sent on to the backend that they are for.
    pub icmp_relayed: u64,
    /// Later fragments sent to the backend of the first one.
    pub fragments: u64,
    /// Passed to the kernel: for the VIP, but for none of its services.
    pub passed: u64,
}

/// A line of `limits`: what one CPU has sent in one second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Limit {
    /// When the second began: nanoseconds since boot, without sleep.
    pub second: u64,
    /// Errors and RSTs made in it.
    pub errors: u32,
    /// ICMP errors relayed in it.
    pub relayed: u32,
    /// Zero.
    pub reserved: [u64; 6],
}

impl Counter {
    /// The sum of two.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

impl ServiceCounter {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sum: [u64; 16] = bytemuck::cast(self);
        let add: [u64; 16] = bytemuck::cast(other);
        for (word, add) in sum.iter_mut().zip(add) {
            *word = word.wrapping_add(add);
        }
        bytemuck::cast(sum)
    }

    /// Each count with its name, in the order of the members.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("no_backend", self.no_backend),
            ("no_next_hop", self.no_next_hop),
            ("kept_flows", self.kept_flows),
            ("malformed", self.malformed),
            ("too_big", self.too_big),
            ("source_denied", self.source_denied),
            ("martian", self.martian),
            ("unknown_port", self.unknown_port),
            ("fragment_lost", self.fragment_lost),
            ("rate_limited", self.rate_limited),
            ("rejected", self.rejected),
            ("told_too_big", self.told_too_big),
            ("echo_replies", self.echo_replies),
            ("icmp_relayed", self.icmp_relayed),
            ("fragments", self.fragments),
            ("passed", self.passed),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_own_name() {
        let all: ServiceCounter = bytemuck::cast(std::array::from_fn::<u64, 16, _>(|k| k as u64));
        assert_eq!(all.named().map(|(_, count)| count), std::array::from_fn(|k| k as u64));
        assert_eq!(all.plus(all).passed, 30);
    }
}
