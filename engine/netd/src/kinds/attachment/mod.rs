//! The load balancer's program on the devices that receive traffic for VIPs.
//!
//! Key: the device's name. Mark of ownership: a link pinned under netd's own directory. An update costs no packet while
//! the device stays the same: the link's program is replaced in one step. A program that somebody else attached is left
//! alone, and the device is a conflict.

mod attach;
mod standing;
mod target;

pub(crate) use attach::attach;
pub(crate) use standing::{Stand, known, on_both_sides, standing};
pub use target::AttachmentTarget;

use crate::facts::{AttachedMode, Facts, Link, RouteAction};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, XdpMode};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "attachment";

/// The key under which the lack of a default route is reported.
const DEFAULT_DEVICES: &str = "default-route-devices";

/// The program on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttachmentSpec {
    /// The device's name.
    pub device: String,
    /// The device's interface index; 0 for a link whose device is gone.
    pub ifindex: u32,
    /// Where the program runs.
    pub mode: Mode,
    /// Which program it is.
    pub program: Program,
}

/// Where a program is to run, or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Wanted: in the driver if it can, else in the network stack.
    Auto,
    /// In the driver, or on the device.
    Native,
    /// In the network stack.
    Generic,
    /// Found: the kernel did not say.
    Unknown,
}

/// Which program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// The one that this netd carries, with the maps that it writes.
    Current,
    /// Another one: an earlier version's, or an earlier generation's.
    Earlier,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Unknown => "unknown",
        }
    }
}

impl Program {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Current => "the current one",
            Self::Earlier => "an earlier one",
        }
    }
}

/// The interface index of a device on which a link is, or was.
pub(crate) fn index_word(ifindex: u32) -> String {
    match ifindex {
        0 => "gone".to_owned(),
        index => index.to_string(),
    }
}

impl From<XdpMode> for Mode {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Auto => Self::Auto,
            XdpMode::Native => Self::Native,
            XdpMode::Generic => Self::Generic,
        }
    }
}

impl From<AttachedMode> for Mode {
    fn from(mode: AttachedMode) -> Self {
        match mode {
            AttachedMode::Native | AttachedMode::Offloaded => Self::Native,
            AttachedMode::Generic => Self::Generic,
        }
    }
}

impl Described for AttachmentSpec {
    fn summary(&self) -> String {
        format!("XDP, {} mode", self.mode.word())
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        changes.extend(FieldChange::between(
            "interface index",
            index_word(observed.ifindex),
            index_word(self.ifindex),
        ));
        if !self.mode_satisfied_by(observed.mode) {
            changes.push(FieldChange::changed("mode", observed.mode.word(), self.mode.word()));
        }
        changes.extend(FieldChange::between("program", observed.program.word(), self.program.word()));
        changes
    }

    fn satisfied_by(&self, observed: &Self) -> bool {
        self.device == observed.device
            && self.ifindex == observed.ifindex
            && self.program == observed.program
            && self.mode_satisfied_by(observed.mode)
    }
}

impl AttachmentSpec {
    /// Automatic takes what there is; a mode that the kernel does not report cannot be held against it.
    fn mode_satisfied_by(&self, observed: Mode) -> bool {
        self.mode == Mode::Auto || observed == Mode::Unknown || self.mode == observed
    }
}

/// The devices on which the program is wanted: those of the file, else those of the default routes that do not
/// decapsulate.
///
/// What is attached stays so as long as it exists and the file lists no device, or none that is there. Without services
/// and pools there is nothing to attach.
///
/// # Errors
///
/// None: a device that is missing is held.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    if config.services.is_empty() && config.balanced_pools().next().is_none() {
        return Ok(desired);
    }
    let listed = &config.load_balancer.devices;
    let decapsulates = |device: &String| config.decap.iter().any(|decap| decap.devices.contains(device));
    let mut names = devices(config, facts);
    let has_any = !names.is_empty();
    if listed.is_empty() {
        names.retain(|device| !decapsulates(device));
    }
    if listed.iter().all(|device| facts.link_named(device).is_none()) {
        // Neither a route that comes and goes nor a name that was mistyped must take the program off the devices that
        // packets for VIPs arrive at.
        // One without a program has nothing to keep; that it took the name of one that has, and that was renamed, must
        // not keep the program from the name that this one has now.
        let has_program = |link: &&Link| link.xdp.is_some() && !decapsulates(&link.name);
        let links = facts.links.values().filter(has_program);
        desired.kept = links.map(|link| Key::new(&link.name)).collect();
    }
    if !has_any && config.decap.is_none() {
        let reason = "there is no default route whose device could be taken; list [load_balancer] devices";
        desired.held.insert(Key::new(DEFAULT_DEVICES), reason.into());
    }
    for device in names {
        let key = Key::new(&device);
        match facts.link_named(&device) {
            Some(link) => {
                let spec = AttachmentSpec {
                    ifindex: link.index,
                    mode: config.load_balancer.mode.into(),
                    program: Program::Current,
                    device,
                };
                desired.table.insert(key, Arc::new(spec));
            }
            None => {
                desired.held.insert(key, format!("there is no device {device}"));
            }
        }
    }
    Ok(desired)
}

/// The names of the devices whose packets are balanced, whether or not they exist.
#[must_use]
pub fn devices(config: &Config, facts: &Facts) -> BTreeSet<String> {
    match config.load_balancer.devices.as_slice() {
        [] => default_devices(facts),
        listed => listed.iter().cloned().collect(),
    }
}

pub(crate) fn default_devices(facts: &Facts) -> BTreeSet<String> {
    let defaults = facts.routes.iter().filter(|route| route.destination.prefix() == 0);
    let hops = defaults.filter_map(|route| match &route.action {
        RouteAction::Forward(hops) => Some(hops),
        RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => None,
    });
    hops.flatten().filter_map(|hop| facts.links.get(&hop.link)).map(|link| link.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::facts::Xdp;
    use crate::fake::{link, route};
    use netd_schema::{Decap, LoadBalancer, Service};

    const PROGRAM: Xdp = Xdp { mode: AttachedMode::Native, program_id: 1 };

    fn config(devices: &[&str]) -> Config {
        Config {
            services: vec![Service { name: "web".into(), ..Service::default() }],
            load_balancer: LoadBalancer {
                devices: devices.iter().map(|name| (*name).into()).collect(),
                ..LoadBalancer::default()
            },
            ..Config::default()
        }
    }

    fn facts(default_over: Option<u32>) -> Facts {
        let mut facts = Facts::default();
        for (index, name) in [(2, "eth0"), (3, "eth1")] {
            facts.links.insert(index, Link { xdp: Some(PROGRAM), ..link(index, name) });
        }
        let all = "0.0.0.0/0".parse().unwrap();
        facts.routes.extend(default_over.map(|link| route(all, link, None)));
        facts
    }

    fn keys(desired: &DesiredKind) -> (Vec<&str>, Vec<&str>) {
        (desired.table.keys().map(Key::as_str).collect(), desired.held.keys().map(Key::as_str).collect())
    }

    #[test]
    fn without_a_list_the_devices_of_the_default_routes_are_taken() {
        let desired = desired(&config(&[]), &facts(Some(3))).unwrap();
        assert_eq!(keys(&desired), (vec!["eth1"], vec![]));
    }

    #[test]
    fn without_a_list_and_a_default_route_something_is_said() {
        let desired = desired(&config(&[]), &facts(None)).unwrap();
        assert_eq!(keys(&desired), (vec![], vec![DEFAULT_DEVICES]));
    }

    #[test]
    fn k15_a_default_route_that_is_lost_leaves_the_program_where_it_is() {
        let desired = desired(&config(&[]), &facts(None)).unwrap();
        assert!(desired.kept.contains("eth1"));
        assert!(super::desired(&config(&["eth0"]), &facts(None)).unwrap().kept.is_empty());
    }

    /// What was attached to the device of that name before is on the renamed one, and would be a conflict there.
    #[test]
    fn a_device_with_the_name_of_one_that_was_renamed_keeps_nothing() {
        let mut facts = facts(Some(3));
        facts.links.insert(7, link(7, "eth0"));
        facts.links.insert(2, Link { xdp: Some(PROGRAM), ..link(2, "wan0") });
        let desired = desired(&config(&[]), &facts).unwrap();
        assert!(!desired.kept.contains("eth0"), "{:?}", desired.kept);
        assert!(desired.kept.contains("wan0"), "{:?}", desired.kept);
    }

    #[test]
    fn k5_a_device_that_is_missing_waits_and_the_others_do_not() {
        let desired = desired(&config(&["eth0", "eth7"]), &facts(None)).unwrap();
        assert_eq!(keys(&desired), (vec!["eth0"], vec!["eth7"]));
        assert!(desired.kept.is_empty());
    }

    #[test]
    fn k5_devices_none_of_which_is_there_take_the_program_off_no_other() {
        let desired = desired(&config(&["eth7"]), &facts(None)).unwrap();
        assert_eq!(keys(&desired), (vec![], vec!["eth7"]));
        assert!(desired.kept.contains("eth0"));
    }

    #[test]
    fn a_device_that_decapsulates_does_not_balance_because_of_a_default_route() {
        let decap = Some(Decap { devices: vec!["eth1".into()], ..Decap::default() });
        let of_backend = Config { decap, ..config(&[]) };
        let desired = desired(&of_backend, &facts(Some(3))).unwrap();
        assert_eq!(keys(&desired), (vec![], vec![]));
        // What a file before this one attached there goes.
        assert!(desired.kept.contains("eth0") && !desired.kept.contains("eth1"));
        let desired = super::desired(&of_backend, &facts(Some(2))).unwrap();
        assert_eq!(keys(&desired), (vec!["eth0"], vec![]));
    }

    #[test]
    fn without_services_nothing_is_attached() {
        let desired = desired(&Config { services: vec![], ..config(&["eth0"]) }, &facts(None)).unwrap();
        assert_eq!(keys(&desired), (vec![], vec![]));
    }

    #[test]
    fn k8_another_interface_index_is_a_change_and_automatic_mode_takes_what_there_is() {
        let spec = |ifindex, mode| AttachmentSpec {
            device: "eth0".into(),
            ifindex,
            mode,
            program: Program::Current,
        };
        assert!(spec(2, Mode::Auto).satisfied_by(&spec(2, Mode::Generic)));
        assert!(!spec(2, Mode::Native).satisfied_by(&spec(2, Mode::Generic)));
        assert!(!spec(2, Mode::Auto).satisfied_by(&spec(5, Mode::Native)));
    }
}
