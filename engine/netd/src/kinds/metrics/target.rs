//! The listener of this process: says whether it is there, starts it, ends it.

use super::{MetricsSpec, NAME};
use crate::facts::Facts;
use crate::metrics::{Listener, Page};
use crate::target::Target;
use async_trait::async_trait;
use netd_core::{Action, Observation, Outcome, Spec, Step};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// The target of listeners: those that this process has.
pub struct MetricsTarget {
    page: Arc<Page>,
    listeners: Vec<Listener>,
}

impl MetricsTarget {
    /// A target without listeners; those that it makes answer with the page.
    #[must_use]
    pub fn new(page: Arc<Page>) -> Self {
        Self { page, listeners: Vec::new() }
    }
}

#[async_trait]
impl Target for MetricsTarget {
    async fn observe(&mut self, _facts: &Facts) -> Result<Observation, String> {
        self.listeners.retain(Listener::is_up);
        let mut observation = Observation::default();
        for listener in &self.listeners {
            let spec = MetricsSpec { listen: listener.address() };
            if !spec.listen.ip().is_loopback() {
                let note = "whoever reaches this address reads the numbers: there is no password";
                observation.notes.insert(spec.key(), note.into());
            }
            observation.owned.insert(spec.key(), Arc::new(spec));
        }
        Ok(observation)
    }

    async fn apply(&mut self, steps: &[Step], _facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for step in steps {
            outcomes.push(match &step.action {
                Action::Create { to } => self.start(to.as_ref()).await,
                Action::Update { from, to } => match self.end(from.as_ref()).await {
                    Outcome::Applied => self.start(to.as_ref()).await,
                    other => other,
                },
                Action::Delete { from } => self.end(from.as_ref()).await,
            });
        }
        outcomes
    }
}

impl MetricsTarget {
    async fn start(&mut self, spec: &dyn Spec) -> Outcome {
        let Some(&MetricsSpec { listen }) = spec.as_any().downcast_ref() else { return not_one() };
        if self.listeners.iter().any(|one| one.address() == listen && one.is_up()) {
            return Outcome::Applied;
        }
        let started = match Listener::start(listen, Arc::clone(&self.page)).await {
            // Another address with the port of one of ours: that one is to go, and is in the way.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.has_port(listen.port()) => {
                self.end_where(|address| address.port() == listen.port()).await;
                Listener::start(listen, Arc::clone(&self.page)).await
            }
            started => started,
        };
        match started {
            Ok(listener) => {
                self.listeners.push(listener);
                Outcome::Applied
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Outcome::Failed("another program listens on this address".into())
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                Outcome::Failed("this machine does not have this address".into())
            }
            Err(error) => Outcome::Failed(format!("cannot listen: {error}")),
        }
    }

    async fn end(&mut self, spec: &dyn Spec) -> Outcome {
        let Some(&MetricsSpec { listen }) = spec.as_any().downcast_ref() else { return not_one() };
        self.end_where(|address| address == listen).await;
        Outcome::Applied
    }

    async fn end_where(&mut self, is_doomed: impl Fn(SocketAddr) -> bool) {
        for listener in self.listeners.extract_if(.., |one| is_doomed(one.address())).collect::<Vec<_>>() {
            listener.end().await;
        }
    }

    fn has_port(&self, port: u16) -> bool {
        self.listeners.iter().any(|one| one.address().port() == port)
    }
}

fn not_one() -> Outcome {
    Outcome::Failed(format!("not a resource of kind {NAME}"))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
