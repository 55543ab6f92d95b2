//! Events about what of an object is not in the file: each once an hour at most, and never many at once.

use super::said::Said;
use super::{MANAGER, Refusal, why};
use crate::note::Note;
use crate::objects::Kind;
use crate::run::Metrics;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a server keeps an event, unless it is told otherwise: what is still so is said again.
const SAY_AGAIN: Duration = Duration::from_secs(3600);

/// When one that was there already is looked at again: it may go sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// So many events may be written at once.
const BURST: u32 = 25;

/// How long it takes until one more may be.
const REFILL: Duration = Duration::from_secs(5);

/// The API refuses longer ones.
const NOTE_BYTES_MAX: usize = 1024;

/// Who says what is new.
pub(super) struct Events {
    client: kube::Client,
    /// Which of the adapters it is.
    identity: String,
    metrics: Arc<Metrics>,
    /// What was said, and when it is said again.
    said: BTreeMap<Note, Instant>,
    allowance: Allowance,
}

impl Events {
    pub(super) fn new(client: kube::Client, identity: String, metrics: Arc<Metrics>) -> Self {
        Self { client, identity, metrics, said: BTreeMap::new(), allowance: Allowance::full(Instant::now()) }
    }

    /// Says what is new, and what was said long ago; `further` is about services besides what the file says.
    pub(super) async fn pass(&mut self, said: &Said, further: Vec<Note>) -> Result<(), Refusal> {
        let mut notes = said.notes.clone();
        for note in further {
            let service = said.services.iter().find(|(key, _)| Kind::Service.object(key) == note.object);
            notes.insert(note, service.and_then(|(_, service)| service.uid.clone()));
        }
        let now = Instant::now();
        self.said.retain(|note, again| notes.contains_key(note) && *again > now);
        let mut done = Ok(());
        for (note, uid) in notes {
            if self.said.contains_key(&note) {
                continue;
            }
            if !self.allowance.take(Instant::now()) {
                break;
            }
            let mut again = SAY_AGAIN;
            if let Some(event) = event(&note, uid, &self.identity, Timestamp::now()) {
                match self.write(&event).await {
                    Ok(true) => {}
                    // It may be nearly an hour old: it is said again when that one is gone.
                    Ok(false) => again = LOOK_AGAIN,
                    // A namespace that is going, or whose webhook is gone, takes no events, and the others do.
                    Err(kube::Error::Api(status)) if !matches!(status.code, 401 | 429) => {
                        done = Err(why(&kube::Error::Api(status)));
                    }
                    Err(error) => return Err(why(&error)),
                }
            }
            self.said.insert(note, Instant::now() + again);
        }
        done
    }

    /// Whether it was not there yet.
    async fn write(&self, event: &Event) -> Result<bool, kube::Error> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match Api::<Event>::namespaced(self.client.clone(), namespace).create(&params, event).await {
            Ok(_) => {
                self.metrics.event_written();
                Ok(true)
            }
            // Said already, by who spoke before; or the namespace is going.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The event that says it; its name is the same for whoever says it.
fn event(note: &Note, uid: Option<String>, identity: &str, now: Timestamp) -> Option<Event> {
    let kind = Kind::named(note.object.kind)?;
    let digest = Sha256::digest(format!("{note} {}", uid.as_deref().unwrap_or_default()).as_bytes());
    let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Events about objects of the whole cluster are in this namespace.
    let namespace = Some(note.object.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let mut text = note.text.clone();
    while text.len() > NOTE_BYTES_MAX {
        text.pop();
    }
    Some(Event {
        metadata: ObjectMeta {
            name: Some(format!("{MANAGER}-{hash}")),
            namespace: Some(namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("netd.io/kubernetes".to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        action: Some("WriteFile".to_owned()),
        reason: Some("NotInFile".to_owned()),
        type_: Some("Warning".to_owned()),
        note: Some(text),
        regarding: Some(ObjectReference {
            api_version: Some(kind.api_version().to_owned()),
            kind: Some(kind.name().to_owned()),
            name: Some(note.object.name.clone()),
            namespace,
            uid,
            ..ObjectReference::default()
        }),
        ..Event::default()
    })
}

/// How many events may still be written.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn full(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Whether one more may be written now.
    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.since) >= REFILL {
            self.left += 1;
            self.since += REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::note::ObjectRef;

    #[test]
    fn many_at_once_are_a_few_and_then_one_now_and_then() {
        let start = Instant::now();
        let mut allowance = Allowance::full(start);
        let taken = (0..1000).filter(|_| allowance.take(start)).count();
        assert_eq!(taken, BURST as usize);
        assert!(!allowance.take(start + REFILL / 2));
        assert!(allowance.take(start + REFILL) && !allowance.take(start + REFILL));
        let hour = start + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| allowance.take(hour)).count(), BURST as usize);
    }

    #[test]
    fn whoever_says_it_says_it_by_the_same_name_and_about_the_object() {
        let object = ObjectRef { kind: "Node", namespace: String::new(), name: "node-1".to_owned() };
        let note = Note { object, text: "é".repeat(5000) };
        let of = |who: &str| event(&note, None, who, Timestamp::UNIX_EPOCH).unwrap();
        let (one, other) = (of("a"), of("b"));
        assert_eq!(one.metadata.name, other.metadata.name);
        assert_eq!(one.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(one.note.unwrap().len(), NOTE_BYTES_MAX);
        let regarding = one.regarding.unwrap();
        assert_eq!((regarding.api_version.as_deref(), regarding.namespace), (Some("v1"), None));
    }
}
