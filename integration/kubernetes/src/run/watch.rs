//! One watch for each kind: lists, then follows; when the server has forgotten where it was, lists again.

use crate::Options;
use crate::note::plain;
use crate::objects::{Key, Kind, Object};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Config, DefaultBackoff};
use kube::runtime::{WatchStreamExt as _, watcher::watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::error::Error;
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
    /// The watch broke, and is tried again.
    Failed {
        /// Of these objects.
        kind: Kind,
        /// What happened.
        why: String,
    },
}

/// Starts what the options ask for; the kinds that have to be listed before anything can be said.
pub(super) fn start(client: &Client, options: &Options, idle: Duration, sender: &Sender<Event>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if options.services {
        let services = Api::<Service>::all(client.clone());
        tokio::spawn(watch(
            services,
            Kind::Service,
            |service: &Service| &service.metadata,
            idle,
            sender.clone(),
        ));
        let slices = Api::<EndpointSlice>::all(client.clone());
        tokio::spawn(watch(
            slices,
            Kind::Slice,
            |slice: &EndpointSlice| &slice.metadata,
            idle,
            sender.clone(),
        ));
        kinds.extend([Kind::Service, Kind::Slice]);
    }
    if options.nodes {
        let nodes = Api::<Node>::all(client.clone());
        tokio::spawn(watch(nodes, Kind::Node, |node: &Node| &node.metadata, idle, sender.clone()));
        kinds.push(Kind::Node);
    }
    kinds
}

type MetaOf<K> = fn(&K) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

async fn watch<K>(api: Api<K>, kind: Kind, meta: MetaOf<K>, idle: Duration, sender: Sender<Event>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Into<Object> + 'static,
{
    let seconds = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX).max(1);
    let config = Config::default().timeout(seconds);
    let mut stream = std::pin::pin!(watcher(api, config).backoff(DefaultBackoff::default()));
    let read = |object: K| (Key::of(kind, meta(&object)), version(&object), object);
    let mut listed = Vec::new();
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                let (key, version, object) = read(object);
                listed.push((key, version, object.into()));
                continue;
            }
            // A list that broke off begins again with `Init`: only a whole one says what is gone.
            Ok(watcher::Event::InitDone) => Event::All(kind, std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(object)) => {
                let (key, version, object) = read(object);
                Event::Put(kind, key, version, Box::new(object.into()))
            }
            Ok(watcher::Event::Delete(object)) => {
                let (key, version, _) = read(object);
                Event::Gone(kind, key, version)
            }
            Err(error) => Event::Failed { kind, why: why(&error) },
        };
        if sender.send(event).await.is_err() {
            return;
        }
    }
}

/// Numbers that grow, as Kubernetes promises of its own objects; 0 for one that says nothing.
fn version<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The error and its causes, on one line.
fn why(error: &watcher::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    plain(&text)
}
