//! Only services that differ from the last file are lowered again: of ten thousand a change mostly touches one.

use super::paths::Paths;
use super::{frontend_key, lower};
use crate::facts::Facts;
use crate::health::in_force;
use crate::target::Before;
use netd_core::{DesiredKind, Key};
use netd_schema::{Config, Service};
use std::collections::HashMap;
use std::sync::Arc;

/// See [`crate::target::Again`].
#[must_use]
pub fn again(config: &Config, facts: &Facts, before: &Before<'_>) -> Option<Arc<DesiredKind>> {
    if config.load_balancer != before.config.load_balancer || !facts.has_ways_of(before.facts) {
        return None;
    }
    let mut gone: HashMap<&str, &Service> =
        before.config.services.iter().map(|service| (service.name.as_str(), service)).collect();
    let mut new = Vec::new();
    for service in &config.services {
        match gone.get(service.name.as_str()) {
            Some(then) if is_same((service, facts), (then, before.facts)) => {
                gone.remove(service.name.as_str());
            }
            Some(_) | None => new.push(service),
        }
    }
    if new.is_empty() && gone.is_empty() {
        return Some(Arc::clone(before.desired));
    }
    // Beyond this, taking out and putting in one by one costs more than it saves.
    if (new.len() + gone.len()) * 4 > config.services.len() {
        return None;
    }
    let mut desired = DesiredKind::clone(before.desired);
    for key in gone.into_values().flat_map(keys) {
        desired.table.remove(&key);
        desired.notes.remove(&key);
        desired.coming.remove(&key);
    }
    let mut paths = Paths::new(config, facts);
    for service in new {
        lower(&mut desired, (config, service), facts, &mut paths);
    }
    Some(Arc::new(desired))
}

fn is_same((now, facts): (&Service, &Facts), (then, facts_then): (&Service, &Facts)) -> bool {
    let is_judged_alike = |vip| in_force(now, vip, &facts.health) == in_force(then, vip, &facts_then.health);
    now == then && (now.health_check.is_none() || now.vips.iter().copied().all(is_judged_alike))
}

fn keys(service: &Service) -> impl Iterator<Item = Key> {
    let of = |&vip| service.ports.iter().map(move |port| frontend_key(vip, port.port, port.protocol));
    service.vips.iter().flat_map(of)
}
