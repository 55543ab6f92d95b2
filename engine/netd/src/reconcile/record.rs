//! Keeps the records in step with what a pass found; writes only what changed.

use super::apply::Outcomes;
use super::status::Standing;
use crate::ledger::Ledger;
use netd_core::{Desired, Phase, ResourceId, Spec};
use netd_state::{Record, RecordKey};
use std::collections::{BTreeMap, BTreeSet};

/// What of the records was written, so that a pass that changes nothing writes nothing.
#[derive(Debug, Default)]
pub(crate) struct Records {
    written: Option<BTreeMap<RecordKey, Record>>,
    /// Resources whose records may have to change back when they are ready again.
    unsettled: BTreeSet<ResourceId>,
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
        let written = self.written.get_or_insert_with(|| ledger.records());
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
            let record = wanted_record(written.get(&key), spec_of(desired, id), standing, id);
            if record.as_ref() != written.get(&key) {
                changes.push((key, record));
            }
        }
        for (key, record) in &changes {
            match record {
                Some(record) => written.insert(key.clone(), record.clone()),
                None => written.remove(key),
            };
        }
        ledger.record(&changes);
        self.unsettled = standing.not_ready.keys().cloned().collect();
    }
}

/// The record that a resource should have; `None` for one that is neither wanted nor left behind.
fn wanted_record(
    before: Option<&Record>,
    spec: Option<&dyn Spec>,
    standing: &Standing,
    id: &ResourceId,
) -> Option<Record> {
    let status = standing.not_ready.get(id);
    if spec.is_none() && status.is_none() {
        return None;
    }
    let spec = match spec {
        Some(spec) => spec.to_json(),
        None => before.map(|record| record.spec.clone()).unwrap_or_default(),
    };
    let (phase, message) = match status {
        Some(status) => (status.phase, status.message.clone()),
        None => (Phase::Ready, String::new()),
    };
    let generation = match before {
        Some(before) if before.spec == spec => before.generation,
        Some(before) => before.generation.saturating_add(1),
        None => 1,
    };
    let since_unix_ms = match before {
        Some(before) if before.status == phase.word() && before.message == message => before.since_unix_ms,
        _ => crate::clock::unix_ms(),
    };
    Some(Record { spec, generation, status: phase.word().to_owned(), message, since_unix_ms })
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
    written: &'a BTreeMap<RecordKey, Record>,
    desired: &'a Desired,
    standing: &'a Standing,
) -> impl Iterator<Item = RecordKey> + 'a {
    let is_kept = |key: &RecordKey| match desired.0.get_key_value(key.kind.as_str()) {
        Some((_, Ok(wanted))) => {
            wanted.table.contains_key(key.key.as_str()) || wanted.held.contains_key(key.key.as_str())
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
