//! The counters of a service, in the order of their words in the map.

/// A reason to count a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    NoBackend,
    NoNextHop,
    KeptFlows,
    Malformed,
    TooBig,
    SourceDenied,
    Martian,
    UnknownPort,
    FragmentLost,
    RateLimited,
    Rejected,
    ToldTooBig,
    EchoReplies,
    IcmpRelayed,
    Fragments,
    Passed,
}

/// How often each was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; 16]);

impl Counts {
    pub fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }
}

impl Count {
    /// In the order of the words.
    pub const ALL: [Self; 16] = [
        Self::NoBackend,
        Self::NoNextHop,
        Self::KeptFlows,
        Self::Malformed,
        Self::TooBig,
        Self::SourceDenied,
        Self::Martian,
        Self::UnknownPort,
        Self::FragmentLost,
        Self::RateLimited,
        Self::Rejected,
        Self::ToldTooBig,
        Self::EchoReplies,
        Self::IcmpRelayed,
        Self::Fragments,
        Self::Passed,
    ];
}
