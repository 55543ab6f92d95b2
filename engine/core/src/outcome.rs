//! What came of a change, and how a resource stands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Applied,
    /// It is not done, and trying again later makes sense.
    Failed(String),
    /// It was not tried, because something that it needs failed.
    Skipped(String),
    /// Something else holds the key; it was left alone.
    Conflict(String),
}

/// How a resource stands, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// As desired.
    Ready,
    /// Wanted, and waiting for something that is not there yet.
    Pending,
    /// The last attempt failed; it will be tried again.
    Failed,
    /// Someone else holds the key.
    Conflict,
}

impl Phase {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Conflict => "conflict",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How a resource stands, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// In one word.
    pub phase: Phase,
    /// Why; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Status {
    /// As desired.
    #[must_use]
    pub fn ready() -> Self {
        Self { phase: Phase::Ready, message: String::new() }
    }

    /// A phase with its reason.
    pub fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self { phase, message: message.into() }
    }
}
