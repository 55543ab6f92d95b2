//! One watch for each kind: lists, then follows; when the server has forgotten where it was, lists again.

use crate::Options;
use crate::note::with_causes;
use crate::objects::{Key, Kind, Object};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, Config, DefaultBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// What a watch has to say.
pub(super) enum Event {
    /// All objects of the kind; there are no others.
    All(Kind, Vec<(Key, u64, Object)>),
    /// An object is there, or has changed.
    Put(Kind, Key, u64, Box<Object>),
    /// An object is gone.
    Gone(Kind, Key, u64),
    /// The cluster has no such kind, and so no object of it; it is looked for again.
    Absent(Kind),
    /// The watch broke, and is tried again.
    Failed {
        /// Of these objects.
        kind: Kind,
        /// What happened.
        why: String,
    },
}

/// How the server is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long it may be silent.
    pub(super) idle: Duration,
    /// How often a kind is looked for that it does not have.
    pub(super) absent: Duration,
}

/// So often in a row a server has to say that it does not have a kind: one that begins says so of what it is about to have.
const ABSENT_TIMES: u32 = 2;

/// Starts what the options ask for; the kinds that have to be listed before anything can be said.
pub(super) fn start(client: &Client, options: &Options, pace: Pace, sender: &Sender<Event>) -> Vec<Kind> {
    let start = Start { client, pace, sender };
    let mut kinds = Vec::new();
    if options.services {
        kinds.push(start.typed::<Service>(Kind::Service));
        kinds.push(start.typed::<EndpointSlice>(Kind::Slice));
    }
    // Egress policies choose nodes by their labels.
    if options.nodes || options.egress {
        kinds.push(start.typed::<Node>(Kind::Node));
    }
    if options.egress {
        kinds.push(start.typed::<Namespace>(Kind::Namespace));
        kinds.push(start.typed::<Pod>(Kind::Pod));
        kinds.push(start.policies(Kind::GatewayPolicy));
        kinds.push(start.policies(Kind::NatPolicy));
    }
    kinds
}

struct Start<'a> {
    client: &'a Client,
    pace: Pace,
    sender: &'a Sender<Event>,
}

impl Start<'_> {
    fn typed<K>(&self, kind: Kind) -> Kind
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Into<Object> + 'static,
    {
        let api = Api::<K>::all(self.client.clone());
        tokio::spawn(watch(api, kind, |_, object: K| object.into(), self.pace, self.sender.clone()));
        kind
    }

    /// A kind that the cluster need not have.
    fn policies(&self, kind: Kind) -> Kind {
        let (group, version) = kind.api_version().split_once('/').unwrap_or_default();
        let kind_of = GroupVersionKind::gvk(group, version, kind.name());
        let resource = ApiResource::from_gvk_with_plural(&kind_of, kind.plural());
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        tokio::spawn(watch(api, kind, Object::policy, self.pace, self.sender.clone()));
        kind
    }
}

async fn watch<K>(api: Api<K>, kind: Kind, reduce: fn(Kind, K) -> Object, pace: Pace, sender: Sender<Event>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let seconds = u32::try_from(pace.idle.as_secs()).unwrap_or(u32::MAX).max(1);
    let mut stream = std::pin::pin!(watcher(api, Config::default().timeout(seconds)));
    let read = |object: K| (Key::of(kind, object.meta()), version(&object), object);
    let mut listed = Vec::new();
    let (mut backoff, mut absent) = (DefaultBackoff::default(), 0);
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                let (key, version, object) = read(object);
                listed.push((key, version, reduce(kind, object)));
                continue;
            }
            // A list that broke off begins again with `Init`: only a whole one says what is gone.
            Ok(watcher::Event::InitDone) => Event::All(kind, std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(object)) => {
                let (key, version, object) = read(object);
                Event::Put(kind, key, version, Box::new(reduce(kind, object)))
            }
            Ok(watcher::Event::Delete(object)) => {
                let (key, version, _) = read(object);
                Event::Gone(kind, key, version)
            }
            Err(error) => {
                absent = if is_absent(kind, &error) { absent + 1 } else { 0 };
                let (event, pause) = match absent >= ABSENT_TIMES {
                    true => (Event::Absent(kind), pace.absent),
                    false => {
                        (Event::Failed { kind, why: with_causes(&error) }, backoff.next().unwrap_or_default())
                    }
                };
                if sender.send(event).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        absent = 0;
        backoff.reset();
        if sender.send(event).await.is_err() {
            return;
        }
    }
}

/// Whether the server says that it knows no such kind.
fn is_absent(kind: Kind, error: &watcher::Error) -> bool {
    let is_optional = matches!(kind, Kind::GatewayPolicy | Kind::NatPolicy);
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return false };
    is_optional && status.code == 404
}

/// Numbers that grow, as Kubernetes promises of its own objects; 0 for one that says nothing.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
