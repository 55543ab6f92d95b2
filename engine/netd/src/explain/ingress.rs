//! By which device a packet that is asked about comes in: whether it leaves by the same one depends on it.

use super::Packet;
use crate::facts::{Facts, PathResolver};
use netd_bpf::links::LinkInfo;

/// A device that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ingress {
    pub(super) name: String,
    pub(super) ifindex: u32,
}

/// The device that was asked for; else that of the route to the sender; else the first. `None` if the program is on
/// none of this network namespace.
///
/// # Errors
///
/// A sentence, when the program is not on the device that was asked for.
pub(super) fn ingress(
    links: &[LinkInfo],
    facts: &Facts,
    packet: &Packet,
    asked: Option<&str>,
) -> Result<Option<Ingress>, String> {
    let here: Vec<Ingress> = links
        .iter()
        .filter_map(|link| facts.links.get(&link.ifindex))
        .map(|link| Ingress { name: link.name.clone(), ifindex: link.index })
        .collect();
    if let Some(name) = asked {
        let names: Vec<&str> = here.iter().map(|device| device.name.as_str()).collect();
        let on = if names.is_empty() { "none here".to_owned() } else { names.join(", ") };
        let found = here.iter().find(|device| device.name == name).cloned();
        return found.map(Some).ok_or_else(|| format!("the program is not on {name}; it is on {on}"));
    }
    let towards = PathResolver::new(facts).hop(packet.sender()).ok().map(|hop| hop.link.index);
    let likely = here.iter().find(|device| Some(device.ifindex) == towards).cloned();
    Ok(likely.or_else(|| here.into_iter().next()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::fake;

    fn facts() -> Facts {
        let mut facts = Facts::default();
        for index in [2, 3] {
            facts.links.insert(index, fake::link(index, &format!("eth{index}")));
        }
        facts.routes.push(fake::route("10.0.0.0/8".parse().unwrap(), 3, None));
        facts
    }

    fn link(ifindex: u32) -> LinkInfo {
        LinkInfo { device: format!("eth{ifindex}"), ifindex, program_id: 1 }
    }

    fn name(links: &[LinkInfo], client: &str, asked: Option<&str>) -> Result<Option<String>, String> {
        let packet = format!("tcp {client}:1 > 192.0.2.10:80").parse().unwrap();
        Ok(ingress(links, &facts(), &packet, asked)?.map(|found| found.name))
    }

    #[test]
    fn a_packet_comes_in_by_the_device_towards_its_client() {
        let both = [link(2), link(3)];
        assert_eq!(name(&both, "10.1.2.3", None), Ok(Some("eth3".into())));
        assert_eq!(name(&both, "203.0.113.7", None), Ok(Some("eth2".into())));
        assert_eq!(name(&both[..1], "10.1.2.3", None), Ok(Some("eth2".into())));
    }

    #[test]
    fn a_device_that_is_asked_for_has_to_have_the_program() {
        let both = [link(2), link(3)];
        assert_eq!(name(&both, "10.1.2.3", Some("eth2")), Ok(Some("eth2".into())));
        let why = name(&both, "10.1.2.3", Some("eth9")).unwrap_err();
        assert_eq!(why, "the program is not on eth9; it is on eth2, eth3");
    }

    #[test]
    fn devices_of_another_namespace_or_that_are_gone_do_not_count() {
        assert_eq!(name(&[link(0), link(77)], "10.1.2.3", None), Ok(None));
    }
}
