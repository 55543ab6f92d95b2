//! What came of a pass, as it is published, printed and served: plain values, the same bytes for the same facts.

mod bgp;
mod gateways;

pub use bgp::{BgpReport, SessionReport};
pub use gateways::{GatewayReport, GatewaysReport};

use netd_core::Phase;
use netd_state::Accepted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The version of what is printed and served as JSON. It grows when a field goes or changes its meaning, not when one
/// comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FormatVersion(pub u32);

impl Default for FormatVersion {
    fn default() -> Self {
        Self(1)
    }
}

/// How the node stands against its file, after the last pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form.
    #[serde(default)]
    pub version: FormatVersion,
    /// The whole in one word.
    pub word: Word,
    /// The name by which the node finds itself in the file.
    pub node: String,
    /// The instance of netd.
    pub instance: String,
    /// The file.
    pub config: ConfigReport,
    /// The plan that waits for an operator's word, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// Counts by kind.
    pub kinds: BTreeMap<String, KindReport>,
    /// The resources that are not ready, sorted by kind and key; at most [`LISTED_MAX`].
    pub not_ready: Vec<ResourceReport>,
    /// What an operator should know about resources that are ready, sorted; at most [`LISTED_MAX`].
    pub notes: Vec<ResourceNote>,
    /// The BGP sessions; absent when the file has no peer for the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpReport>,
    /// The gateways of egress policies; absent where nobody watches them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<GatewaysReport>,
    /// Changes made behind netd's back that were found and repaired.
    pub drift: Drift,
    /// The last pass.
    pub pass: PassReport,
    /// The last pass that made changes; absent when none did since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_change: Option<PassReport>,
    /// In how many milliseconds what failed is tried again; absent when nothing failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_ms: Option<u64>,
    /// Why what netd remembers would not survive a restart; absent when it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_not_durable: Option<String>,
    /// Why programs and maps would not outlive netd; absent when they would, or there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datapath_not_durable: Option<String>,
}

/// So many resources are listed one by one; the rest is in the counts.
pub const LISTED_MAX: usize = 1000;

/// The whole in one word, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// No pass has ended yet.
    #[default]
    Starting,
    /// Everything owned was removed, and stays removed.
    TornDown,
    /// There is no file; the last good one stays in force.
    ConfigMissing,
    /// The file is not acceptable or not readable; the last good one stays in force.
    ConfigInvalid,
    /// The file asks for a change that an operator has to allow first; the last good one stays in force.
    HeldBack,
    /// Something failed, is in conflict, or could not be read.
    Degraded,
    /// Something waits for what is not there yet.
    Pending,
    /// The node is as the file says.
    Ok,
}

impl Word {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::TornDown => "torn-down",
            Self::ConfigMissing => "config-missing",
            Self::ConfigInvalid => "config-invalid",
            Self::HeldBack => "held-back",
            Self::Degraded => "degraded",
            Self::Pending => "pending",
            Self::Ok => "ok",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What became of the file at its last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileState {
    /// It was not read yet.
    #[default]
    Unseen,
    /// It has no mistakes, and no pass has put it in force yet.
    Acceptable,
    /// It is in force.
    Accepted,
    /// It is acceptable, and its plan is held back.
    HeldBack,
    /// It has mistakes.
    Invalid,
    /// It is not there.
    Missing,
    /// It is there and will not be read: not a regular file, too large.
    Refused,
    /// The system did not let netd read it, or it keeps changing.
    Unreadable,
}

impl FileState {
    /// The state in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unseen => "not read yet",
            Self::Acceptable => "acceptable, not in force yet",
            Self::Accepted => "in force",
            Self::HeldBack => "held back",
            Self::Invalid => "invalid",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The file, and what is in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigReport {
    /// Where it is looked for.
    pub path: String,
    /// What became of it.
    pub state: FileState,
    /// Why it is not in force; empty if it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its mistakes or doubts, rendered for a person; empty if there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diagnostics: String,
    /// What is worrying about the file itself: who may change it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The SHA-256 of its content, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What is in force; absent when nothing was ever accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForceReport>,
}

/// The file that is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForceReport {
    /// The SHA-256 of its content.
    pub sha256: String,
    /// Its number in the history.
    pub number: u64,
}

/// An entry of the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The file that was accepted.
    #[serde(flatten)]
    pub accepted: Accepted,
    /// Whether it is in force now.
    #[serde(default)]
    pub in_force: bool,
}

impl HistoryEntry {
    /// The history, with the entry marked that is in force.
    #[must_use]
    pub fn mark(history: Vec<Accepted>, in_force: Option<u64>) -> Vec<Self> {
        let entry = |accepted: Accepted| Self { in_force: in_force == Some(accepted.number), accepted };
        history.into_iter().map(entry).collect()
    }
}

/// A plan that waits to be allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// The plan's identifier.
    pub plan: String,
    /// Why it is held back, a clause each.
    pub brakes: Vec<String>,
    /// The command that allows it.
    pub command: String,
}

/// The resources of one kind, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindReport {
    /// Wanted.
    pub desired: usize,
    /// As wanted.
    pub ready: usize,
    /// Waiting for something.
    pub pending: usize,
    /// Failed, and tried again.
    pub failed: usize,
    /// Held by something that is not netd's.
    pub conflict: usize,
    /// Why nothing of the kind is known; absent when it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// A resource and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// Its kind.
    pub kind: String,
    /// Its key within the kind.
    pub key: String,
    /// In one word.
    pub phase: Phase,
    /// Why; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A remark on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceNote {
    /// Its kind.
    pub kind: String,
    /// Its key within the kind.
    pub key: String,
    /// The remark.
    pub note: String,
    /// Whether something of what is wanted is missing still, and may come within moments: a neighbour's answer.
    #[serde(default)]
    pub incomplete: bool,
}

/// Changes made behind netd's back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// How many resources were found changed, since the start.
    pub resources: u64,
    /// When that was last the case, in milliseconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_unix_ms: Option<u64>,
    /// What was found then, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<String>,
}

/// Why a pass ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// netd started.
    #[default]
    Startup,
    /// Somebody asked.
    Asked,
    /// The file changed.
    ConfigChanged,
    /// The node changed.
    FactsChanged,
    /// A backend became unhealthy, or healthy again.
    HealthChanged,
    /// Something failed before.
    Retry,
    /// It was time to look.
    Resync,
}

impl Reason {
    /// The reason in one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Asked => "asked",
            Self::ConfigChanged => "config-changed",
            Self::FactsChanged => "facts-changed",
            Self::HealthChanged => "health-changed",
            Self::Retry => "retry",
            Self::Resync => "resync",
        }
    }
}

/// One pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PassReport {
    /// Counts up from 1 since the start.
    pub number: u64,
    /// Why it ran.
    pub reason: Reason,
    /// When it ended, in milliseconds of Unix time.
    pub ended_unix_ms: u64,
    /// Changes that were made.
    pub applied: usize,
    /// Changes that failed, were skipped, or hit a conflict.
    pub not_applied: usize,
    /// How often changes were applied: 0 to 2.
    pub rounds: usize,
    /// How long each stage took.
    pub took: Stages,
}

/// How long each stage of a pass took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Reading the meaning of the file; 0 when it was known.
    pub parse_us: u64,
    /// Reading what the node is.
    pub facts_us: u64,
    /// Reading what the node has.
    pub observe_us: u64,
    /// Deciding.
    pub plan_us: u64,
    /// Changing.
    pub apply_us: u64,
    /// Looking again after changing, and remembering.
    pub verify_us: u64,
    /// Everything.
    pub total_us: u64,
}

/// A duration in whole microseconds.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
