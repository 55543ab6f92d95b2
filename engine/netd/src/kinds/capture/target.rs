//! Begins and ends captures of the file, and says how they are.

use super::{CaptureSpec, NAME, Recording};
use crate::facts::Facts;
use crate::recorder::{self, Captures, Named, NamedState};
use crate::target::{Target, spec_of};
use async_trait::async_trait;
use netd_core::{Action, Key, Observation, Outcome, Step};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The target of captures.
pub struct CaptureTarget {
    recording: Recording,
}

impl CaptureTarget {
    /// Of those that are recorded so.
    #[must_use]
    pub fn new(recording: Recording) -> Self {
        Self { recording }
    }
}

#[async_trait]
impl Target for CaptureTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        let named = match &self.recording {
            Recording::Here(captures) => {
                let captures = Arc::clone(captures);
                aside(move || captures.named()).await??
            }
            Recording::Elsewhere(folder) | Recording::Nowhere(folder) => remembered(folder)?,
        };
        Ok(observation(named))
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            let spec: &CaptureSpec = match spec_of(step, NAME) {
                Ok(spec) => spec,
                Err(outcome) => {
                    outcomes.push(outcome);
                    continue;
                }
            };
            let (recording, spec) = (self.recording.clone(), spec.clone());
            let (key, action) = (step.id.key.clone(), step.action.clone());
            // The ends of files are waited for.
            let done = aside(move || apply(&recording, &key, &action, &spec)).await.and_then(|done| done);
            outcomes.push(done.map_or_else(Outcome::Failed, |()| Outcome::Applied));
        }
        outcomes
    }
}

fn apply(recording: &Recording, key: &Key, action: &Action, spec: &CaptureSpec) -> Result<(), String> {
    let name = key.as_str();
    match recording {
        Recording::Here(captures) => match action {
            Action::Create { .. } => begin(captures, name, spec),
            Action::Update { .. } => match captures.named()?.get(name) {
                Some(Named { wanted, state: NamedState::Interrupted }) if *wanted == spec.wanted => {
                    captures.begin_named(name, &spec.wanted)
                }
                _ => captures.end_named(name).and_then(|()| begin(captures, name, spec)),
            },
            Action::Delete { .. } => captures.end_named(name),
        },
        Recording::Elsewhere(folder) | Recording::Nowhere(folder) => match action {
            Action::Create { .. } | Action::Update { .. } => Err("packets are recorded by `netd run`".into()),
            Action::Delete { .. } => recorder::forget(folder, name).map_err(|error| error.to_string()),
        },
    }
}

/// One that is under way, or over, as wanted is as good as begun.
fn begin(captures: &Arc<Captures>, name: &str, spec: &CaptureSpec) -> Result<(), String> {
    match captures.named()?.get(name) {
        Some(Named { wanted, state: NamedState::UnderWay | NamedState::Over(_) })
            if *wanted == spec.wanted =>
        {
            Ok(())
        }
        _ => captures.begin_named(name, &spec.wanted),
    }
}

/// What another process records, or did.
fn remembered(folder: &Path) -> Result<BTreeMap<String, Named>, String> {
    let found = recorder::recall(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let named = |(name, remembered): (String, recorder::Remembered)| {
        let state = remembered.ended.map_or(NamedState::UnderWay, NamedState::Over);
        (name, Named { wanted: remembered.wanted, state })
    };
    Ok(found.into_iter().map(named).collect())
}

fn observation(named: BTreeMap<String, Named>) -> Observation {
    let mut observation = Observation::default();
    for (name, Named { wanted, state }) in named {
        let key = Key::new(name);
        let is_interrupted = state == NamedState::Interrupted;
        if let NamedState::Over(why) = state {
            observation.notes.insert(key.clone(), format!("it is over: {why}"));
        }
        observation.owned.insert(key, Arc::new(CaptureSpec { wanted, is_interrupted }));
    }
    observation
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("a capture was not tended: {error}"))
}
