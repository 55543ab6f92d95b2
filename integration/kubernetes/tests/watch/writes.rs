//! What clients write: leases, events, the status of a service and annotations of a node, with the server's own rules about
//! who may change what was read, and whose field it is.

use super::{Api, refusal};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch, post};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Who has written a field stands here, in place of the server's own books.
const OWNER: &str = "test/owner";

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", post(create_lease))
        .route(
            "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}",
            get(lease).put(replace_lease),
        )
        .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(create_event))
        .route("/api/v1/namespaces/{namespace}/services/{name}/status", patch(service_status))
        .route("/api/v1/nodes/{name}", patch(node))
}

fn create(api: &Api, resource: &'static str, namespace: &str, body: &Bytes) -> Response {
    if let Some(failing) = api.ask(resource) {
        return failing;
    }
    let object: Value = serde_json::from_slice(body).unwrap();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    if object["metadata"]["namespace"].as_str().is_some_and(|said| said != namespace) {
        return refusal(400, "BadRequest");
    }
    if api.object(resource, namespace, &name).is_some() {
        return refusal(409, "AlreadyExists");
    }
    api.put(resource, namespace, &name, object);
    (StatusCode::CREATED, axum::Json(api.object(resource, namespace, &name).unwrap())).into_response()
}

async fn create_lease(State(api): State<Api>, Path(namespace): Path<String>, body: Bytes) -> Response {
    create(&api, "leases", &namespace, &body)
}

/// What is called so may not be written to, whoever asks.
const FORBIDDEN: &str = "forbidden";

async fn create_event(State(api): State<Api>, Path(namespace): Path<String>, body: Bytes) -> Response {
    if namespace == FORBIDDEN {
        return refusal(403, "Forbidden");
    }
    create(&api, "events", &namespace, &body)
}

async fn lease(State(api): State<Api>, Path((namespace, name)): Path<(String, String)>) -> Response {
    if let Some(failing) = api.ask("leases") {
        return failing;
    }
    match api.object("leases", &namespace, &name) {
        Some(lease) => axum::Json(lease).into_response(),
        None => refusal(404, "NotFound"),
    }
}

async fn replace_lease(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    if let Some(failing) = api.ask("leases") {
        return failing;
    }
    let object: Value = serde_json::from_slice(&body).unwrap();
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    match api.object("leases", &namespace, &name) {
        None => refusal(404, "NotFound"),
        Some(now) if version(&now) != version(&object) => refusal(409, "Conflict"),
        Some(_) => {
            api.put("leases", &namespace, &name, object);
            axum::Json(api.object("leases", &namespace, &name)).into_response()
        }
    }
}

/// What is applied, and by whom; `None` where it is no apply patch.
fn applied(headers: &HeaderMap, query: &BTreeMap<String, String>, body: &Bytes) -> Option<(Value, String)> {
    let is_apply = headers.get("content-type").is_some_and(|kind| kind == "application/apply-patch+yaml");
    let manager = query.get("fieldManager").cloned().filter(|_| is_apply);
    let body = serde_json::from_slice(body).unwrap();
    manager.map(|manager| (body, manager))
}

/// Whether a field that has a value may be given another one by this manager.
fn is_foreign(object: &Value, has: &Value, wants: &Value, manager: &str) -> bool {
    !has.is_null() && has != wants && object["metadata"]["annotations"][OWNER] != json!(manager)
}

async fn service_status(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(failing) = api.ask("services") {
        return failing;
    }
    let Some((given, manager)) = applied(&headers, &query, &body) else {
        return refusal(415, "UnsupportedMediaType");
    };
    if namespace == FORBIDDEN {
        return refusal(403, "Forbidden");
    }
    let Some(mut service) = api.object("services", &namespace, &name) else {
        return refusal(404, "NotFound");
    };
    let uid = &given["metadata"]["uid"];
    let (has, wants) =
        (&service["status"]["loadBalancer"]["ingress"], &given["status"]["loadBalancer"]["ingress"]);
    // Who applies nothing takes back what is his.
    if wants.is_null() && is_foreign(&service, has, wants, &manager) {
        return axum::Json(service).into_response();
    }
    let is_other = !uid.is_null() && *uid != service["metadata"]["uid"];
    if is_other || is_foreign(&service, has, wants, &manager) || query.contains_key("force") {
        return refusal(409, "Conflict");
    }
    service["status"]["loadBalancer"]["ingress"] = wants.clone();
    service["metadata"]["annotations"][OWNER] = manager.into();
    api.put("services", &namespace, &name, service);
    axum::Json(api.object("services", &namespace, &name)).into_response()
}

async fn node(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(failing) = api.ask("nodes") {
        return failing;
    }
    let Some((given, manager)) = applied(&headers, &query, &body) else {
        return refusal(415, "UnsupportedMediaType");
    };
    let Some(mut node) = api.object("nodes", "", &name) else { return refusal(403, "Forbidden") };
    for (key, value) in given["metadata"]["annotations"].as_object().unwrap() {
        if is_foreign(&node, &node["metadata"]["annotations"][key], value, &manager) {
            return refusal(409, "Conflict");
        }
        node["metadata"]["annotations"][key] = value.clone();
    }
    node["metadata"]["annotations"][OWNER] = manager.into();
    api.put("nodes", "", &name, node);
    axum::Json(api.object("nodes", "", &name)).into_response()
}
