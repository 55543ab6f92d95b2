//! Captures of the file: packets of the load balancer that the daemon writes.
//!
//! Key: the name. Mark of ownership: a folder of that name in netd's own directory, with what is remembered of it. One that
//! is over stays what it is until something else is wanted; one that was interrupted is changed into one that goes on. Only
//! a daemon records: without one they are looked at, and wait.

mod target;

pub use target::CaptureTarget;

use crate::facts::Facts;
use crate::kinds::this_node;
use crate::recorder::file::Format;
use crate::recorder::{Captures, Order, Wanted};
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{CAPTURE_SNAPLEN_MAX, Capture, CaptureFormat, Config};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "capture";

/// Who records.
#[derive(Clone)]
pub enum Recording {
    /// This process.
    Here(Arc<Captures>),
    /// A daemon, whose folder this is; this process only looks.
    Elsewhere(PathBuf),
    /// Nobody while this process has the node; captures that it is told to end are forgotten.
    Nowhere(PathBuf),
}

/// A capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaptureSpec {
    /// What is recorded, and until when.
    pub wanted: Wanted,
    /// It was cut off, and is to go on: only seen, never wanted.
    pub is_interrupted: bool,
}

/// The captures that the file wants of this node.
///
/// # Errors
///
/// When captures name nodes, and the file does not list this one.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    if config.captures.iter().any(|capture| !capture.nodes.is_empty()) {
        this_node(config, facts)?;
    }
    for capture in config.captures.iter().filter(|capture| is_of(capture, facts)) {
        let key = Key::new(&capture.name);
        if config.services.is_empty() {
            desired.held.insert(key, "there is no service whose packets could be recorded".into());
            continue;
        }
        desired.table.insert(key, Arc::new(CaptureSpec { wanted: wanted(capture), is_interrupted: false }));
    }
    Ok(desired)
}

/// The same for a command that has the node to itself: they wait for a daemon.
///
/// # Errors
///
/// As for [`desired`].
pub fn desired_without_daemon(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = desired(config, facts)?;
    let waiting = std::mem::take(&mut desired.table).into_keys();
    desired.held.extend(waiting.map(|key| (key, "packets are recorded by `netd run`".into())));
    Ok(desired)
}

fn is_of(capture: &Capture, facts: &Facts) -> bool {
    capture.nodes.is_empty() || capture.nodes.contains(&facts.node)
}

fn wanted(capture: &Capture) -> Wanted {
    let Capture { name: _, nodes: _, filters, snaplen, packets, bytes, duration, format, file_bytes, files } =
        capture;
    Wanted {
        order: Order {
            filters: filters.iter().map(ToString::to_string).collect(),
            snaplen: Some(*snaplen),
            packets: *packets,
            bytes: *bytes,
            duration_ms: duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            format: match format {
                CaptureFormat::Pcapng => Format::Pcapng,
                CaptureFormat::Pcap => Format::Pcap,
            },
        },
        file_bytes: *file_bytes,
        files: *files,
    }
}

/// The lines of a plan for what differs, each a name and how it is said.
fn said(wanted: &Wanted) -> [(&'static str, String); 8] {
    let Wanted { order, file_bytes, files } = wanted;
    let Order { filters, snaplen, packets, bytes, duration_ms, format } = order;
    let counted = |limit: &Option<u64>, unit: &str| {
        limit.map_or_else(|| "no limit".to_owned(), |limit| format!("{limit}{unit}"))
    };
    [
        ("filters", filters.join("; ")),
        ("snaplen", snaplen.unwrap_or(CAPTURE_SNAPLEN_MAX).to_string()),
        ("packets", counted(packets, "")),
        ("bytes", counted(bytes, "")),
        ("duration", counted(duration_ms, " ms")),
        ("format", format.ending().to_owned()),
        ("bytes of a file", counted(file_bytes, "")),
        ("files", files.to_string()),
    ]
}

impl Described for CaptureSpec {
    fn summary(&self) -> String {
        let Wanted { order, .. } = &self.wanted;
        let limits = [
            order.packets.map(|packets| format!("{packets} packets")),
            order.bytes.map(|bytes| format!("{bytes} bytes")),
            order.duration_ms.map(|ms| format!("{ms} ms")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let until =
            if limits.is_empty() { String::new() } else { format!(", until {}", limits.join(" or ")) };
        format!("{}{until}", order.filters.join("; "))
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let state = |spec: &Self| if spec.is_interrupted { "interrupted" } else { "in force" }.to_owned();
        let now = said(&observed.wanted).into_iter().zip(said(&self.wanted));
        let compared =
            now.filter_map(|((name, before), (_, after))| FieldChange::between(name, before, after));
        FieldChange::between("state", state(observed), state(self)).into_iter().chain(compared).collect()
    }

    /// Without whether it was interrupted, which may change while an operator looks.
    fn identity(&self) -> String {
        serde_json::to_string(&self.wanted).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
