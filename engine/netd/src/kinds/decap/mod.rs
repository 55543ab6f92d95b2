//! Taking packets out of the load balancer's tunnel, on a backend: a program on the devices where they arrive.
//!
//! Key: the device's name. Mark of ownership: a link pinned under netd's own directory. An update costs no packet: what
//! the program goes by changes entry by entry, and another program is filled before the links are turned over to it. A
//! program that somebody else attached is left alone, and the device is a conflict.

mod rules;
mod target;

pub use rules::Rules;
pub use target::{DecapTarget, counts};

use crate::facts::Facts;
use crate::kinds::attachment::{Program, index_word};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::Config;
use serde::Serialize;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "decap";

/// The program on one device, and what it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecapSpec {
    /// The device's name.
    pub device: String,
    /// The device's interface index; 0 for a link whose device is gone.
    pub ifindex: u32,
    /// Which program it is.
    pub program: Program,
    /// The same for all devices.
    pub rules: Arc<Rules>,
}

/// The devices of the file.
///
/// # Errors
///
/// None: a device that is missing is held.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(decap) = &config.decap else { return Ok(desired) };
    let rules = Arc::new(Rules::wanted(config, decap, facts));
    for device in &decap.devices {
        let key = Key::new(device);
        match facts.link_named(device) {
            Some(link) => {
                let spec = DecapSpec {
                    device: device.clone(),
                    ifindex: link.index,
                    program: Program::Current,
                    rules: Arc::clone(&rules),
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

impl Described for DecapSpec {
    fn summary(&self) -> String {
        self.rules.summary()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let compared = [
            FieldChange::between("interface index", index_word(observed.ifindex), index_word(self.ifindex)),
            FieldChange::between("program", observed.program.word(), self.program.word()),
        ];
        compared.into_iter().flatten().chain(self.rules.changes(&observed.rules)).collect()
    }

    /// Without the node's addresses, which may come and go while an operator looks.
    fn identity(&self) -> String {
        let own = std::collections::BTreeSet::new();
        let rules = Arc::new(Rules { own, ..Rules::clone(&self.rules) });
        serde_json::to_string(&Self { rules, ..self.clone() }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
