//! How a service treats its packets, besides its ring: what the file says once for all of its frontends.

use ipnetwork::IpNetwork;
use netd_bpf::abi::{self, Frontend, SOURCE_ALLOWED, SOURCE_DENIED, Source, SourceKey};
use netd_core::FieldChange;
use netd_schema::{Algorithm, HashNames, Mode, NoBackend, Service};
use serde::{Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// What a frontend does besides choosing by its ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How a backend is chosen for a new flow.
    pub algorithm: Algorithm,
    /// For how many seconds a client keeps its backend; 0: each flow is for itself.
    pub affinity_seconds: u32,
    /// For how many seconds after its last packet a UDP flow keeps its backend through changes; 0: it does not.
    pub udp_idle_seconds: u32,
    /// Prefixes of clients that are let in, sorted; if there are any, others are not.
    pub allow: Vec<IpNetwork>,
    /// Prefixes of clients that are not let in, sorted.
    pub deny: Vec<IpNetwork>,
    /// What clients are told without a backend.
    pub no_backend: NoBackend,
    /// How packets get to a backend.
    pub mode: Mode,
    /// The names that the ring is made from.
    pub hash_names: HashNames,
}

/// In [`Frontend::notes`]: the mode, for the reader of an entry without backends.
const MODE_NOTE: usize = 0;

/// In [`Frontend::notes`]: the seconds of `udp_idle` plus one; 0 stands for [`UDP_IDLE_SECONDS`].
const UDP_IDLE_NOTE: usize = 1;

/// For so long Cilium remembers a flow of UDP.
const UDP_IDLE_SECONDS: u32 = 60;

/// The first IPv4-mapped address.
const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());

impl Default for Policy {
    /// What a service does of which the file does not say more.
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            affinity_seconds: 0,
            udp_idle_seconds: UDP_IDLE_SECONDS,
            allow: Vec::new(),
            deny: Vec::new(),
            no_backend: NoBackend::default(),
            mode: Mode::default(),
            hash_names: HashNames::default(),
        }
    }
}

impl Policy {
    /// The policy that the file gives a service.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        Self {
            algorithm: service.algorithm,
            affinity_seconds: service
                .affinity
                .map_or(0, |timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
            udp_idle_seconds: whole_seconds(service.udp_idle),
            allow: sorted(&service.source_ranges.allow),
            deny: sorted(&service.source_ranges.deny),
            no_backend: service.no_backend,
            mode: service.mode,
            hash_names: service.hash_names,
        }
    }

    /// The policy that an entry of the maps holds, without the sources, which its service has.
    #[must_use]
    pub fn held(frontend: &Frontend) -> Self {
        let has = |flag: u32| frontend.flags & flag != 0;
        Self {
            algorithm: if has(abi::RANDOM) { Algorithm::Random } else { Algorithm::Maglev },
            affinity_seconds: if has(abi::AFFINITY) { frontend.affinity_seconds } else { 0 },
            udp_idle_seconds: udp_idle_seconds(frontend),
            allow: Vec::new(),
            deny: Vec::new(),
            no_backend: if has(abi::REJECT_NO_BACKEND) { NoBackend::Reject } else { NoBackend::Drop },
            mode: if frontend.notes[MODE_NOTE] == 1 { Mode::DsrGue } else { Mode::DsrIpip },
            hash_names: if frontend.hash_names == 1 { HashNames::Cilium110 } else { HashNames::Cilium },
        }
    }

    /// Writes the policy into an entry.
    pub fn write(&self, frontend: &mut Frontend) {
        let mut flags = 0;
        if self.algorithm == Algorithm::Random {
            flags |= abi::RANDOM | abi::CAREFUL;
        }
        if self.affinity_seconds > 0 {
            flags |= abi::AFFINITY | abi::CAREFUL;
        }
        if !self.allow.is_empty() || !self.deny.is_empty() {
            flags |= abi::SOURCES | abi::CAREFUL;
        }
        if !self.allow.is_empty() {
            flags |= abi::SOURCES_LISTED;
        }
        if self.no_backend == NoBackend::Reject {
            flags |= abi::REJECT_NO_BACKEND;
        }
        frontend.flags |= flags;
        frontend.affinity_seconds = self.affinity_seconds;
        frontend.hash_names = u32::from(self.hash_names == HashNames::Cilium110);
        frontend.notes[MODE_NOTE] = u64::from(self.mode == Mode::DsrGue);
        frontend.notes[UDP_IDLE_NOTE] = match self.udp_idle_seconds {
            UDP_IDLE_SECONDS => 0,
            other => u64::from(other) + 1,
        };
    }

    /// The policy, shared with others: most services only have the defaults.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<Policy>> = LazyLock::new(Arc::default);
        if self == **DEFAULT { Arc::clone(&DEFAULT) } else { Arc::new(self) }
    }

    /// What `sources` has to hold for the service with this number.
    #[must_use]
    pub fn sources(&self, service: u32) -> Vec<(SourceKey, Source)> {
        let key = |prefix: &IpNetwork| SourceKey::new(service, prefix.ip(), prefix.prefix());
        let listed = |prefixes: &[IpNetwork], verdict: u32| -> Vec<_> {
            prefixes.iter().map(|prefix| (key(prefix), Source::new(verdict))).collect()
        };
        let mut sources = listed(&self.allow, SOURCE_ALLOWED);
        sources.extend(listed(&self.deny, SOURCE_DENIED));
        let all_v4 = SourceKey::new(service, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let covers_v4 = |prefix: &IpNetwork| prefix.is_ipv6() && prefix.contains(MAPPED);
        let is_covered = self.allow.iter().chain(&self.deny).any(covers_v4);
        if is_covered && !sources.iter().any(|(key, _)| *key == all_v4) {
            // IPv4 clients are looked up as IPv4-mapped ones: what the file says of IPv6 must not be said of them.
            let verdict = if self.allow.is_empty() { SOURCE_ALLOWED } else { SOURCE_DENIED };
            sources.push((all_v4, Source::between_families(verdict)));
        }
        sources
    }

    /// Adds what `sources` holds for the service of an entry with [`abi::SOURCES`].
    pub fn add_sources<'a>(&mut self, sources: impl IntoIterator<Item = &'a (SourceKey, Source)>) {
        for (key, source) in sources.into_iter().filter(|(_, source)| source.added == 0) {
            let (address, bits) = key.prefix();
            let Ok(prefix) = IpNetwork::new(address, bits) else { continue };
            let list = if source.verdict == SOURCE_ALLOWED { &mut self.allow } else { &mut self.deny };
            list.push(prefix);
        }
        self.allow.sort_unstable();
        self.deny.sort_unstable();
    }

    /// What differs from `observed`, a line each.
    #[must_use]
    pub fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        FieldChange::among(observed.words(), self.words())
    }

    /// What it says besides the defaults, a line each.
    #[must_use]
    pub fn parts(&self) -> Vec<FieldChange> {
        let own = FieldChange::among(Self::default().words(), self.words());
        own.into_iter().map(FieldChange::as_new).collect()
    }

    /// The fields by the words of the file.
    fn words(&self) -> [(&'static str, String); 8] {
        let algorithm = match self.algorithm {
            Algorithm::Maglev => "maglev",
            Algorithm::Random => "random",
        };
        let affinity = match self.affinity_seconds {
            0 => "off".to_owned(),
            seconds => format!("{seconds}s"),
        };
        let no_backend = match self.no_backend {
            NoBackend::Reject => "reject",
            NoBackend::Drop => "drop",
        };
        let mode = match self.mode {
            Mode::DsrIpip => "dsr-ipip",
            Mode::DsrGue => "dsr-gue",
        };
        let hash_names = match self.hash_names {
            HashNames::Cilium => "cilium",
            HashNames::Cilium110 => "cilium-1.10",
        };
        [
            ("algorithm", algorithm.into()),
            ("affinity", affinity),
            ("udp idle", format!("{}s", self.udp_idle_seconds)),
            ("allowed sources", prefixes(&self.allow, "all")),
            ("denied sources", prefixes(&self.deny, "none")),
            ("no backend", no_backend.into()),
            ("mode", mode.into()),
            ("hash names", hash_names.into()),
        ]
    }
}

/// For how many seconds a UDP flow of an entry may be silent and go on.
#[must_use]
pub fn udp_idle_seconds(frontend: &Frontend) -> u32 {
    let noted = frontend.notes[UDP_IDLE_NOTE].checked_sub(1);
    noted.map_or(UDP_IDLE_SECONDS, |seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// What began counts.
fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn sorted(prefixes: &[IpNetwork]) -> Vec<IpNetwork> {
    let mut prefixes = prefixes.to_vec();
    prefixes.sort_unstable();
    prefixes
}

fn prefixes(prefixes: &[IpNetwork], none: &str) -> String {
    match prefixes {
        [] => none.to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.words().map(|(name, text)| (name.replace(' ', "_"), text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Policy {
        Policy {
            algorithm: Algorithm::Random,
            affinity_seconds: 10_800,
            udp_idle_seconds: 0,
            allow: vec!["10.0.0.0/8".parse().expect("a prefix")],
            deny: vec!["10.1.0.0/16".parse().expect("a prefix")],
            no_backend: NoBackend::Drop,
            mode: Mode::DsrGue,
            hash_names: HashNames::Cilium110,
        }
    }

    #[test]
    fn an_entry_and_its_sources_say_the_whole_policy() {
        for policy in [some(), Policy::default()] {
            let mut frontend = Frontend::default();
            policy.write(&mut frontend);
            let mut held = Policy::held(&frontend);
            held.add_sources(&policy.sources(7));
            assert_eq!(held, policy);
        }
    }

    #[test]
    fn a_service_that_only_has_the_defaults_takes_the_short_way() {
        let mut frontend = Frontend::default();
        Policy::default().write(&mut frontend);
        assert_eq!(frontend.flags & abi::CAREFUL, 0);
    }

    #[test]
    fn a_prefix_of_ipv6_says_nothing_of_ipv4_clients() {
        let policy = Policy { allow: vec!["::/0".parse().expect("a prefix")], ..Policy::default() };
        let sources = policy.sources(7);
        assert!(sources.iter().any(|(key, source)| {
            key.prefix() == ("0.0.0.0".parse().expect("an address"), 0) && source.verdict == SOURCE_DENIED
        }));
        let mut held = Policy::default();
        held.add_sources(&sources);
        assert_eq!(held, policy);
    }

    #[test]
    fn every_difference_is_a_line() {
        assert_eq!(some().changes(&Policy::default()).len(), 8);
        assert_eq!(some().changes(&some()), []);
        assert_eq!(some().parts().len(), 8);
    }
}
