//! Keeps the records in step with what a pass found; writes only what changed.

use super::apply::Outcomes;
use super::status::Standing;
use crate::ledger::Ledger;
use netd_core::{Desired, Phase, ResourceId, Spec};
use netd_state::{Record, RecordKey};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_128;

/// What of the records was written, so that a pass that changes nothing writes nothing.
#[derive(Debug, Default)]
pub(crate) struct Records {
    written: Option<BTreeMap<RecordKey, Written>>,
    /// Resources whose records may have to change back when they are ready again.
    unsettled: BTreeSet<ResourceId>,
}

/// A record as it was written. Of its spec, which may be kilobytes, only a digest.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    spec: u128,
    generation: u64,
    status: String,
    message: String,
    since_unix_ms: u64,
}

impl Written {
    fn of(record: &Record) -> Self {
        let Record { spec, generation, status, message, since_unix_ms } = record;
        let (status, message) = (status.clone(), message.clone());
        let (generation, since_unix_ms) = (*generation, *since_unix_ms);
        Self { spec: xxh3_128(spec.as_bytes()), generation, status, message, since_unix_ms }
    }
}

impl Records {
    /// Writes what differs after a pass. The first time every resource is compared, later only those that were
    /// touched or did not stand well.
    pub(crate) fn keep(
        &mut self,
        ledger: &Ledger,
        desired: &Desired,
        standing: &Standing,
        outcomes: &Outcomes,
    ) {
        let is_first = self.written.is_none();
        let read =
            || ledger.records().iter().map(|(key, record)| (key.clone(), Written::of(record))).collect();
        let written = self.written.get_or_insert_with(read);
        let mut touched: BTreeSet<ResourceId> = std::mem::take(&mut self.unsettled);
        touched.extend(outcomes.keys().cloned());
        touched.extend(standing.not_ready.keys().cloned());
        let mut changes = Vec::new();
        if is_first {
            touched.extend(ids(desired));
            changes.extend(forgotten(written, desired, standing).map(|key| (key, None)));
        }
        for id in &touched {
            if standing.unread.contains_key(id.kind) {
                continue;
            }
            let key = RecordKey { kind: id.kind.to_owned(), key: id.key.to_string() };
            let before = written.get(&key);
            let spec = match spec_of(desired, id) {
                Some(spec) => Some(spec.to_json()),
                // Left behind: what it was, as it was written.
                None if standing.not_ready.contains_key(id) => {
                    Some(ledger.record_of(&key).map(|record| record.spec).unwrap_or_default())
                }
                None => None,
            };
            let record = spec.map(|spec| wanted_record(before, spec, standing, id));
            if record.as_ref().map(Written::of).as_ref() != before {
                changes.push((key, record));
            }
        }
        for (key, record) in &changes {
            match record {
                Some(record) => written.insert(key.clone(), Written::of(record)),
                None => written.remove(key),
            };
        }
        ledger.record(&changes);
        self.unsettled = standing.not_ready.keys().cloned().collect();
    }
}

/// The record that a resource should have.
fn wanted_record(before: Option<&Written>, spec: String, standing: &Standing, id: &ResourceId) -> Record {
    let (phase, message) = match standing.not_ready.get(id) {
        Some(status) => (status.phase, status.message.clone()),
        None => (Phase::Ready, String::new()),
    };
    let generation = match before {
        Some(before) if before.spec == xxh3_128(spec.as_bytes()) => before.generation,
        Some(before) => before.generation.saturating_add(1),
        None => 1,
    };
    let since_unix_ms = match before {
        Some(before) if before.status == phase.word() && before.message == message => before.since_unix_ms,
        _ => crate::clock::unix_ms(),
    };
    Record { spec, generation, status: phase.word().to_owned(), message, since_unix_ms }
}

fn spec_of<'a>(desired: &'a Desired, id: &ResourceId) -> Option<&'a dyn Spec> {
    let Some(Ok(wanted)) = desired.0.get(id.kind) else { return None };
    wanted.table.get(&id.key).map(|spec| spec.as_ref())
}

fn ids(desired: &Desired) -> impl Iterator<Item = ResourceId> {
    desired
        .0
        .iter()
        .filter_map(|(kind, wanted)| wanted.as_ref().ok().map(|wanted| (*kind, wanted)))
        .flat_map(|(kind, wanted)| wanted.table.keys().map(move |key| ResourceId { kind, key: key.clone() }))
}

/// Records of resources that are neither wanted nor there any more.
fn forgotten<'a>(
    written: &'a BTreeMap<RecordKey, Written>,
    desired: &'a Desired,
    standing: &'a Standing,
) -> impl Iterator<Item = RecordKey> + 'a {
    let is_kept = |key: &RecordKey| match desired.0.get_key_value(key.kind.as_str()) {
        Some((_, Ok(wanted))) => {
            let key = key.key.as_str();
            wanted.table.contains_key(key) || wanted.held.contains_key(key) || wanted.kept.contains(key)
        }
        // What is not known is not forgotten.
        Some((_, Err(_))) => true,
        None => false,
    };
    let stands = |key: &RecordKey| {
        standing.not_ready.keys().any(|id| id.kind == key.kind && id.key.as_str() == key.key)
    };
    written.keys().filter(move |key| !is_kept(key) && !stands(key)).cloned()
}
