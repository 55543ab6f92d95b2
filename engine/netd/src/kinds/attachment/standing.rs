//! What pinned links say of devices, for each kind that attaches a program of its own.

use super::{AttachmentSpec, Mode, Program};
use crate::facts::Facts;
use crate::kinds::service::sentence;
use netd_bpf::Error;
use netd_bpf::links::LinkInfo;
use netd_bpf::tc::Side;
use netd_core::{Described, Key, Observation};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to be known of a device on which a program runs in the network stack.
const GENERIC_NOTE: &str =
    "generic mode: the driver has no native XDP, or the file says so; every packet costs several times more";

/// The links, as specs of a kind; `current` is the program that is to be in force. Other programs on devices are foreign.
pub(crate) fn standing<S: Described>(
    links: Vec<LinkInfo>,
    current: Option<u32>,
    facts: &Facts,
    spec: impl Fn(AttachmentSpec) -> S,
) -> Observation {
    let mut observation = Observation::default();
    for LinkInfo { device, ifindex, program_id } in links {
        let found = facts.links.get(&ifindex);
        // One of a device that was moved to another network namespace is there still, and nobody asks for it: packets would
        // leave by devices of these indices there. One whose device was deleted has none, and waits for it. Where another
        // device has the name now, attaching there takes the link off; a removal after that would take the new one.
        let is_elsewhere = found.is_none() && ifindex != 0 && facts.link_named(&device).is_none();
        let key = Key::new(&if is_elsewhere { format!("{device} (moved away)") } else { device.clone() });
        let mode = found.and_then(|link| link.xdp).map_or(Mode::Unknown, |xdp| xdp.mode.into());
        if mode == Mode::Generic {
            observation.notes.insert(key.clone(), GENERIC_NOTE.into());
        }
        // A device that was renamed keeps its link; it is then one of another name than is wanted.
        let is_renamed = found.is_some_and(|link| link.name != device);
        let ifindex = if is_renamed { 0 } else { ifindex };
        let program = if current == Some(program_id) { Program::Current } else { Program::Earlier };
        observation.owned.insert(key, Arc::new(spec(AttachmentSpec { device, ifindex, mode, program })));
    }
    for link in facts.links.values() {
        let key = Key::new(&link.name);
        if let Some(xdp) = link.xdp
            && !observation.owned.contains_key(&key)
        {
            observation.foreign.insert(key, format!("another XDP program (id {})", xdp.program_id));
        }
    }
    observation
}

/// A device with programs on what comes in and on what leaves.
pub(crate) struct Stand {
    pub device: String,
    /// What the links say.
    pub index: u32,
    /// The same; 0 if that is a device of another name now: one that was renamed keeps its links.
    pub ifindex: u32,
    /// Those that are to be in force only if they are on both sides.
    pub program: Program,
}

/// The devices with links of either side; `program_id` says which programs are to be in force.
pub(crate) fn on_both_sides(
    attached: &BTreeMap<(String, Side), LinkInfo>,
    facts: &Facts,
    program_id: impl Fn(Side) -> Option<u32>,
) -> Vec<Stand> {
    let names: BTreeSet<&String> = attached.keys().map(|(device, _)| device).collect();
    let stand = |device: &String| {
        let sides = [Side::Ingress, Side::Egress];
        let links = sides.map(|side| attached.get(&(device.clone(), side)));
        let index = links.iter().flatten().map(|link| link.ifindex).max().unwrap_or(0);
        let is_renamed = facts.links.get(&index).is_some_and(|link| link.name != *device);
        let is_current = sides.into_iter().zip(links).all(|(side, link)| {
            let running = link.filter(|link| link.ifindex == index).map(|link| link.program_id);
            running.is_some() && running == program_id(side)
        });
        Stand {
            device: device.clone(),
            index,
            ifindex: if is_renamed { 0 } else { index },
            program: if is_current { Program::Current } else { Program::Earlier },
        }
    };
    names.into_iter().map(stand).collect()
}

/// Programs that were found, if this version knows how their maps were made: others are as good as none.
///
/// # Errors
///
/// A sentence, if it cannot be said.
pub(crate) fn known<T>(found: netd_bpf::Result<Option<T>>) -> Result<Option<T>, String> {
    match found {
        Err(Error::Incompatible { .. }) => Ok(None),
        found => found.map_err(|error| sentence(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn k9_the_link_of_a_device_that_moved_away_is_that_of_the_device_that_took_its_name() {
        let keys = |facts: &Facts| {
            let links = vec![LinkInfo { device: "eth0".into(), ifindex: 2, program_id: 1 }];
            let owned = standing(links, Some(1), facts, |found| found).owned;
            owned.keys().map(|key| key.as_str().to_owned()).collect::<Vec<_>>()
        };
        let mut facts = Facts::default();
        assert_eq!(keys(&facts), ["eth0 (moved away)"]);
        facts.links.insert(7, fake::link(7, "eth0"));
        assert_eq!(keys(&facts), ["eth0"], "its removal would follow the new one's attachment");
    }
}
