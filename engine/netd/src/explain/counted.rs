//! What the program counted while it ran on a packet: the reason of a drop is the kernel's own.

use netd_bpf::Maps;
use netd_bpf::abi::ServiceCounter;

/// The counters of the service that a packet is for, before the program runs on it.
pub(super) struct Counting {
    service: u32,
    before: ServiceCounter,
}

impl Counting {
    /// Begins for a service.
    pub(super) fn begin(maps: &dyn Maps, service: u32) -> netd_bpf::Result<Self> {
        Ok(Self { service, before: maps.service_counter(service)? })
    }

    /// The names of the counts that have grown since. Traffic meanwhile may have made more of them grow.
    pub(super) fn end(&self, maps: &dyn Maps) -> netd_bpf::Result<Vec<&'static str>> {
        let before = self.before.named();
        let now = maps.service_counter(self.service)?;
        let grown = now.named().into_iter().zip(before).filter(|((_, now), (_, before))| now != before);
        Ok(grown.map(|((name, _), _)| name).collect())
    }
}

/// Why packets are counted by a name, as a clause; `None` for counts that say no reason.
pub(super) fn because(name: &str) -> Option<&'static str> {
    Some(match name {
        "no_backend" => "the service has no backend that may be used",
        "no_next_hop" => "the way to its backend is not known",
        "malformed" => "its lengths contradict each other",
        "too_big" => "it is longer than the way to its backend takes",
        "source_denied" => "the service does not let its client in",
        "martian" => "no client has its source",
        "unknown_port" => "no service of the VIP has its port",
        "fragment_lost" => "the first fragment of its packet was not seen",
        "rate_limited" => "so many answers were sent in this second already",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::service::ServiceTraffic;

    #[test]
    fn every_reason_to_drop_has_words() {
        for (name, _) in ServiceTraffic::default().drops() {
            assert!(because(name).is_some(), "{name}");
        }
        assert_eq!(because("echo_replies"), None);
    }
}
