//! A server that speaks the protocol of the Kubernetes API: lists in pages, watches with bookmarks, 410 Gone, and connections
//! that end. What it does to events is decided by a seed.

#[path = "writes.rs"]
mod writes;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Of what there is one list.
pub const RESOURCES: [(&str, &str, &str); 9] = [
    ("services", "v1", "Service"),
    ("endpointslices", "discovery.k8s.io/v1", "EndpointSlice"),
    ("nodes", "v1", "Node"),
    ("namespaces", "v1", "Namespace"),
    ("pods", "v1", "Pod"),
    ("ciliumegressgatewaypolicies", "cilium.io/v2", "CiliumEgressGatewayPolicy"),
    ("ciliumegressnatpolicies", "cilium.io/v2alpha1", "CiliumEgressNATPolicy"),
    ("leases", "coordination.k8s.io/v1", "Lease"),
    ("events", "events.k8s.io/v1", "Event"),
];

/// Pages are small, so that every list has several.
const PAGE: usize = 3;

/// An event of a watch.
#[derive(Clone)]
struct Event {
    version: u64,
    resource: &'static str,
    kind: &'static str,
    object: Value,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    objects: BTreeMap<(&'static str, String, String), Value>,
    events: Vec<Event>,
    /// Events up to this version are forgotten.
    compacted: u64,
    /// What requests for a resource are answered with, instead.
    failing: BTreeMap<&'static str, u16>,
    /// Whether no list gets further than its first page.
    expiring: bool,
    /// How often the resource was asked for or written by its name.
    asked: BTreeMap<&'static str, usize>,
    /// How often a request was answered so, by resource.
    failed: BTreeMap<&'static str, usize>,
    /// Each time one more, all watches end.
    epoch: u64,
}

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub struct Api {
    cluster: Arc<Mutex<Cluster>>,
    changed: watch::Sender<u64>,
    seed: u64,
    /// So many objects are on a page of a list.
    page: usize,
    pub url: String,
}

/// The next of a row of numbers that a seed decides (xorshift).
pub fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

impl Api {
    /// An empty cluster. With a seed of 0 events come once and in their order.
    pub async fn start(seed: u64) -> Self {
        Self::begin(seed, PAGE).await
    }

    /// An empty cluster with pages of this size, where events come once and in their order.
    #[allow(dead_code, reason = "tests have small pages")]
    pub async fn start_with_pages(page: usize) -> Self {
        Self::begin(0, page).await
    }

    async fn begin(seed: u64, page: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Self { cluster: Arc::default(), changed: watch::Sender::new(0), seed, page, url };
        let router = Router::new()
            .route("/api/v1/{resource}", get(answer))
            .route("/apis/{group}/{version}/{resource}", get(answer_of_group))
            .merge(writes::routes())
            .with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        api
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }

    fn tell(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Makes an object, or changes it.
    pub fn put(&self, resource: &'static str, namespace: &str, name: &str, mut object: Value) {
        let (_, api_version, kind) = RESOURCES.into_iter().find(|(of, _, _)| *of == resource).unwrap();
        let mut cluster = self.lock();
        cluster.version += 1;
        let version = cluster.version;
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        let key = (resource, namespace.to_owned(), name.to_owned());
        let kind = if cluster.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        cluster.events.push(Event { version, resource, kind, object });
        drop(cluster);
        self.tell();
    }

    /// Deletes an object, if it is there.
    pub fn delete(&self, resource: &'static str, namespace: &str, name: &str) {
        let mut cluster = self.lock();
        let key = (resource, namespace.to_owned(), name.to_owned());
        if let Some(mut object) = cluster.objects.remove(&key) {
            cluster.version += 1;
            let version = cluster.version;
            object["metadata"]["resourceVersion"] = version.to_string().into();
            cluster.events.push(Event { version, resource, kind: "DELETED", object });
        }
        drop(cluster);
        self.tell();
    }

    /// The object, if it is there.
    pub fn object(&self, resource: &'static str, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&(resource, namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of the resource.
    pub fn all(&self, resource: &'static str) -> Vec<Value> {
        let cluster = self.lock();
        let of = cluster.objects.iter().filter(|((of, _, _), _)| *of == resource);
        of.map(|(_, object)| object.clone()).collect()
    }

    /// How often the resource was asked for or written by its name.
    pub fn asked(&self, resource: &'static str) -> usize {
        self.lock().asked.get(resource).copied().unwrap_or(0)
    }

    /// Counts a request for the resource; the answer, if it is to fail.
    fn ask(&self, resource: &'static str) -> Option<Response> {
        let mut cluster = self.lock();
        *cluster.asked.entry(resource).or_default() += 1;
        let code = cluster.failing.get(resource).copied();
        code.map(|code| refusal(code, "Failing"))
    }

    /// All objects, as they are.
    pub fn objects(&self) -> Vec<Value> {
        self.lock().objects.values().cloned().collect()
    }

    /// Requests for the resource fail with this status, or no longer.
    pub fn fail(&self, resource: &'static str, status: Option<u16>) {
        let mut cluster = self.lock();
        match status {
            Some(status) => drop(cluster.failing.insert(resource, status)),
            None => drop(cluster.failing.remove(resource)),
        }
    }

    /// No list gets further than its first page, or does again.
    pub fn expire(&self, expiring: bool) {
        self.lock().expiring = expiring;
    }

    /// How often requests for the resource have failed.
    pub fn failed(&self, resource: &'static str) -> usize {
        self.lock().failed.get(resource).copied().unwrap_or(0)
    }

    /// Ends all watches, and with `forget` nobody can go on where he was.
    pub fn cut(&self, forget: bool) {
        let mut cluster = self.lock();
        if forget {
            // A change of nobody's object, so that also those who have seen everything are behind.
            cluster.version += 1;
            cluster.compacted = cluster.version;
        }
        cluster.epoch += 1;
        drop(cluster);
        self.tell();
    }
}

fn status(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason })
}

fn refusal(code: u16, reason: &str) -> Response {
    (StatusCode::from_u16(code).unwrap(), axum::Json(status(code, reason))).into_response()
}

async fn answer(
    State(api): State<Api>,
    Path(resource): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    respond(api, "v1", &resource, &query)
}

async fn answer_of_group(
    State(api): State<Api>,
    Path((group, version, resource)): Path<(String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    respond(api, &format!("{group}/{version}"), &resource, &query)
}

fn respond(api: Api, api_version: &str, resource: &str, query: &BTreeMap<String, String>) -> Response {
    let is_asked = |(of, version, _): &(&str, &str, &str)| *of == resource && *version == api_version;
    let Some((resource, api_version, kind)) = RESOURCES.into_iter().find(is_asked) else {
        return refusal(404, "NotFound");
    };
    let failing = {
        let mut cluster = api.lock();
        let failing = cluster.failing.get(resource).copied();
        if failing.is_some() {
            *cluster.failed.entry(resource).or_default() += 1;
        }
        failing
    };
    if let Some(code) = failing {
        return refusal(code, "Forbidden");
    }
    match query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
        true => follow(api, resource, query),
        false => list(&api, resource, (api_version, kind), query),
    }
}

/// A page of the list. A token is the version of the list and how much of it was sent.
fn list(
    api: &Api,
    resource: &'static str,
    (api_version, kind): (&str, &str),
    query: &BTreeMap<String, String>,
) -> Response {
    let mut cluster = api.lock();
    let token = query.get("continue").and_then(|token| token.split_once(':'));
    let (version, start) = match token {
        None => (cluster.version, 0),
        Some((version, start)) => (version.parse().unwrap(), start.parse().unwrap()),
    };
    // This server remembers one version only.
    if token.is_some() && (cluster.expiring || version != cluster.version) {
        *cluster.failed.entry(resource).or_default() += 1;
        return refusal(410, "Expired");
    }
    let all: Vec<Value> = cluster
        .objects
        .iter()
        .filter(|((of, _, _), _)| *of == resource)
        .map(|(_, object)| object.clone())
        .collect();
    let page: Vec<&Value> = all.iter().skip(start).take(api.page).collect();
    let end = start + page.len();
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if end < all.len() {
        metadata["continue"] = format!("{version}:{end}").into();
    }
    let body = json!({ "kind": format!("{kind}List"), "apiVersion": api_version, "metadata": metadata, "items": page });
    axum::Json(body).into_response()
}

/// A watch: what happened since, and what happens.
fn follow(api: Api, resource: &'static str, query: &BTreeMap<String, String>) -> Response {
    let since: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let epoch = api.lock().epoch;
    let changed = api.changed.subscribe();
    let seed = api.seed.wrapping_add(since).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let watch = Watch { api, resource, since, epoch, changed, seed, is_over: false };
    let body = stream::unfold(watch, |mut watch| async move {
        let bytes = watch.lines().await?;
        Some((Ok::<_, Infallible>(Bytes::from(bytes)), watch))
    });
    Body::from_stream(body).into_response()
}

struct Watch {
    api: Api,
    resource: &'static str,
    since: u64,
    epoch: u64,
    changed: watch::Receiver<u64>,
    seed: u64,
    is_over: bool,
}

impl Watch {
    /// The next lines; `None` when the connection ends.
    async fn lines(&mut self) -> Option<String> {
        loop {
            if self.is_over {
                return None;
            }
            self.changed.borrow_and_update();
            let (events, version, compacted, epoch) = {
                let cluster = self.api.lock();
                let is_mine = |event: &&Event| event.resource == self.resource && event.version > self.since;
                let events: Vec<Event> = cluster.events.iter().filter(is_mine).cloned().collect();
                (events, cluster.version, cluster.compacted, cluster.epoch)
            };
            if self.since < compacted {
                self.is_over = true;
                return Some(line("ERROR", &status(410, "Expired")));
            }
            if epoch != self.epoch {
                return None;
            }
            if !events.is_empty() {
                return Some(self.disturbed(events, version));
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// Some of the events, as the seed has it: several times, or in another order; then maybe a bookmark, or the end. The
    /// last line is the newest version that was sent, so that who goes on from there misses nothing.
    fn disturbed(&mut self, mut events: Vec<Event>, version: u64) -> String {
        if self.api.seed == 0 {
            self.since = version;
            return events.iter().map(|event| line(event.kind, &event.object)).collect();
        }
        let count = 1 + usize::try_from(next(&mut self.seed) % 4).unwrap();
        let is_all = count >= events.len();
        events.truncate(count);
        let last = events.last().cloned().unwrap();
        let mut sent = events.clone();
        for event in events {
            if next(&mut self.seed).is_multiple_of(2) {
                sent.push(event);
            }
        }
        for at in (1..sent.len()).rev() {
            let other = usize::try_from(next(&mut self.seed)).unwrap_or(0) % (at + 1);
            sent.swap(at, other);
        }
        sent.push(last.clone());
        self.since = last.version;
        let mut text: String = sent.iter().map(|event| line(event.kind, &event.object)).collect();
        if is_all && next(&mut self.seed).is_multiple_of(2) {
            self.since = version;
            text.push_str(&line(
                "BOOKMARK",
                &json!({ "metadata": { "resourceVersion": version.to_string() } }),
            ));
        }
        self.is_over = next(&mut self.seed).is_multiple_of(4);
        text
    }
}

fn line(kind: &str, object: &Value) -> String {
    let mut object = object.clone();
    if kind == "BOOKMARK" {
        object["kind"] = "Bookmark".into();
        object["apiVersion"] = "v1".into();
    }
    format!("{}\n", json!({ "type": kind, "object": object }))
}
