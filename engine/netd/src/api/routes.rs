//! The requests of the API and their answers.

use super::CAPTURE_HEADER;
use super::deadline::Deadline;
use super::peer::{Peer, Verb, may};
use crate::commands::decap::DecapTraffic;
use crate::egress::EgressReport;
use crate::engine::Request;
use crate::explain::{Explanation, Packet, PacketError};
use crate::kinds::service::tables::FrontendTable;
use crate::kinds::service::{KeptFlows, ServiceTraffic};
use crate::reconcile::Preview;
use crate::recorder::{Captures, Order, Piece};
use crate::report::{FormatVersion, HistoryEntry, Report};
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::stream;
use netd_core::render::{self, Colour, Limits};
use netd_state::Store;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// A plan of the largest file takes seconds, behind a pass that is under way.
const READ_MAX: Duration = Duration::from_secs(60);

/// The largest bring-up takes tens of seconds; the work goes on when nobody waits any more.
const WRITE_MAX: Duration = Duration::from_secs(150);

/// What requests are answered from.
pub struct Shared {
    /// The report of the last pass.
    pub reports: watch::Receiver<Arc<Report>>,
    /// To the engine.
    pub requests: mpsc::Sender<Request>,
    /// For the history.
    pub store: Arc<Store>,
    /// Reads what went through the load balancer, or says why it cannot.
    pub traffic: ReadTraffic,
    /// Reads which flows are kept on their backends; what sent nothing for the duration counts as silent.
    pub flows: ReadFlows,
    /// Reads what was taken out of tunnels, where anything is, or says why it cannot.
    pub decap: ReadDecap,
    /// Adds what the translating programs say to a report of egress policies, or says why it cannot.
    pub translation: ReadTranslation,
    /// Reads the tables of a service, or says why it cannot.
    pub tables: ReadTables,
    /// Says what becomes of a packet.
    pub explain: Explain,
    /// What is recorded.
    pub captures: Arc<Captures>,
}

/// Reads what went through the load balancer.
pub type ReadTraffic = Arc<dyn Fn() -> Result<Vec<ServiceTraffic>, String> + Send + Sync>;

/// Reads what was taken out of tunnels.
pub type ReadDecap = Arc<dyn Fn() -> Result<Option<DecapTraffic>, String> + Send + Sync>;

/// Adds to a report of egress policies how their addresses are used.
pub type ReadTranslation = Arc<dyn Fn(&mut EgressReport) -> Result<(), String> + Send + Sync>;

/// Reads the Maglev tables that the maps hold for a service, by frontend.
pub type ReadTables = Arc<dyn Fn(&str) -> Result<BTreeMap<String, FrontendTable>, String> + Send + Sync>;

/// Runs the loaded program on a packet that comes in by a device, or by the one that is likely.
pub type Explain = Arc<dyn Fn(Packet, Option<String>) -> Explained + Send + Sync>;

/// The answer to come.
pub type Explained = Pin<Box<dyn Future<Output = Result<Explanation, String>> + Send>>;

/// Reads which flows are kept on their backends.
pub type ReadFlows = Arc<dyn Fn(Duration) -> Result<Vec<KeptFlows>, String> + Send + Sync>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/plan", get(plan))
        .route("/v1/addresses", get(addresses))
        .route("/v1/history", get(history))
        .route("/v1/history/{number}", get(accepted))
        .route("/v1/services", get(services))
        .route("/v1/flows", get(flows))
        .route("/v1/decap", get(decap))
        .route("/v1/egress", get(egress))
        .route("/v1/maglev/{service}", get(maglev))
        .route("/v1/explain", post(explain))
        .route("/v1/records", get(records).post(record))
        .route("/v1/records/{id}/stop", post(stop_record))
        .route("/v1/apply", post(apply))
        .route("/v1/teardown", post(teardown))
        .fallback(|| async { Refused(StatusCode::NOT_FOUND, "there is nothing by this name".into()) })
        .method_not_allowed_fallback(|| async {
            Refused(StatusCode::METHOD_NOT_ALLOWED, "this is not asked with this method".into())
        })
        .with_state(shared)
}

/// Why a request was not answered as asked.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl Refused {
    fn internal(why: impl ToString) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
    }
}

/// What the framework refuses is an object like every other error.
macro_rules! refused_as_json {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Refused {
            fn from(rejection: $rejection) -> Self {
                Self(rejection.status(), rejection.body_text())
            }
        }
    )*};
}

refused_as_json!(JsonRejection, PathRejection, QueryRejection);

type Answer = Result<Response, Refused>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    #[serde(default)]
    verbose: bool,
}

async fn status(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Answer {
    check(peer, Verb::Read)?;
    let Query(query) = query?;
    let report = Arc::clone(&shared.reports.borrow());
    let mut value = serde_json::to_value(&*report).map_err(Refused::internal)?;
    if query.verbose {
        let resources = ask(&shared, READ_MAX, Request::Resources).await?;
        if let Some(object) = value.as_object_mut() {
            object.insert("resources".into(), serde_json::to_value(resources).map_err(Refused::internal)?);
        }
    }
    Ok(Json(value).into_response())
}

/// How a plan is written as text.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Text {
    Plain,
    Colour,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    text: Option<Text>,
}

async fn plan(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<PlanQuery>, QueryRejection>,
) -> Answer {
    check(peer, Verb::Read)?;
    let Query(query) = query?;
    let Preview { plan, brakes, sha256, doubts } = match ask(&shared, READ_MAX, Request::Plan).await? {
        Ok(preview) => preview,
        Err(why) => return Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, why)),
    };
    let value = match query.text {
        None => json!({
            "version": FormatVersion::default(),
            "config_sha256": sha256,
            "warnings": doubts,
            "plan": render::json(&plan, &brakes),
        }),
        Some(text) => {
            let colour = match text {
                Text::Plain => Colour::Never,
                Text::Colour => Colour::Always,
            };
            let text = render::text(&plan, &brakes, colour, Limits::SCREEN);
            json!({
                "version": FormatVersion::default(),
                "config_sha256": sha256,
                "warnings": doubts,
                "unread": plan.unread,
                "id": plan.id(),
                "is_empty": plan.is_empty(),
                "is_held_back": !brakes.is_empty(),
                "text": text,
            })
        }
    };
    Ok(Json(value).into_response())
}

async fn addresses(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Read)?;
    match ask(&shared, READ_MAX, Request::Addresses).await? {
        Ok(addresses) => Ok(Json(addresses).into_response()),
        Err(why) => Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, why)),
    }
}

async fn history(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Read)?;
    let in_force = shared.reports.borrow().config.in_force.as_ref().map(|now| now.number);
    Ok(Json(HistoryEntry::mark(shared.store.history(), in_force)).into_response())
}

async fn services(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Read)?;
    let read = Arc::clone(&shared.traffic);
    Ok(Json(aside(move || read()).await?.map_err(Refused::internal)?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowsQuery {
    idle_ms: u64,
}

async fn flows(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<FlowsQuery>, QueryRejection>,
) -> Answer {
    check(peer, Verb::Read)?;
    let Query(FlowsQuery { idle_ms }) = query?;
    let read = Arc::clone(&shared.flows);
    Ok(Json(aside(move || read(Duration::from_millis(idle_ms))).await?.map_err(Refused::internal)?)
        .into_response())
}

async fn decap(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Read)?;
    let read = Arc::clone(&shared.decap);
    Ok(Json(aside(move || read()).await?.map_err(Refused::internal)?).into_response())
}

async fn egress(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Read)?;
    let mut report = match ask(&shared, READ_MAX, Request::Egress).await? {
        Ok(report) => report,
        Err(why) => return Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, why)),
    };
    let read = Arc::clone(&shared.translation);
    Ok(Json(aside(move || read(&mut report).map(|()| report)).await?.map_err(Refused::internal)?)
        .into_response())
}

async fn maglev(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    service: Result<Path<String>, PathRejection>,
) -> Answer {
    check(peer, Verb::Read)?;
    let Path(service) = service?;
    let read = Arc::clone(&shared.tables);
    Ok(Json(aside(move || read(&service)).await?.map_err(Refused::internal)?).into_response())
}

/// The packet as a person writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainBody {
    packet: String,
    #[serde(default)]
    device: Option<String>,
}

/// The packet is counted, and for a moment in the records of flows: whoever only may look may not ask this.
async fn explain(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<ExplainBody>, JsonRejection>,
) -> Answer {
    check(peer, Verb::Write)?;
    let Json(ExplainBody { packet, device }) = body?;
    let refused = |why: String| Refused(StatusCode::UNPROCESSABLE_ENTITY, why);
    let packet: Packet = packet.parse().map_err(|error: PacketError| refused(error.to_string()))?;
    let mut answer = (shared.explain)(packet, device).await.map_err(refused)?;
    if answer.may_have_policy(&packet) {
        let (from, to) = (packet.source.ip(), packet.destination.ip());
        let owner = ask(&shared, READ_MAX, |told| Request::EgressOf(from, to, told)).await;
        answer.tell_policy(owner.unwrap_or_else(|Refused(_, why)| Err(why)));
    }
    Ok(Json(json!({ "text": answer.text(), "explanation": answer })).into_response())
}

async fn records(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Read)?;
    let captures = Arc::clone(&shared.captures);
    Ok(Json(aside(move || captures.standing()).await?).into_response())
}

/// Answers with the file as it is written, for as long as the capture is under way. Frames are what users of services
/// send each other: whoever only may look may not ask this.
async fn record(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Extension(deadline): Extension<Deadline>,
    body: Result<Json<Order>, JsonRejection>,
) -> Answer {
    check(peer, Verb::Write)?;
    let Json(order) = body?;
    let captures = Arc::clone(&shared.captures);
    // A grace period may be waited for, and a pass that has the maps.
    let begun = aside(move || captures.begin(order)).await?;
    let (id, pieces) = begun.map_err(|why| Refused(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    deadline.lift();
    let bytes = stream::unfold(pieces, |mut pieces| async move {
        match pieces.recv().await? {
            Piece::Bytes(bytes, _) => Some((Ok::<_, Infallible>(bytes), pieces)),
            Piece::Next | Piece::End => None,
        }
    });
    Ok(([(CAPTURE_HEADER, id.to_string())], Body::from_stream(bytes)).into_response())
}

/// Why a client wants no more, if it is not because somebody told it so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopBody {
    #[serde(default)]
    why: Option<String>,
}

async fn stop_record(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    id: Result<Path<u64>, PathRejection>,
    body: Result<Json<StopBody>, JsonRejection>,
) -> Answer {
    check(peer, Verb::Write)?;
    let (Path(id), Json(StopBody { why })) = (id?, body?);
    let captures = Arc::clone(&shared.captures);
    match aside(move || captures.stop(id, why.as_deref())).await? {
        true => Ok(Json(json!({})).into_response()),
        false => Err(Refused(StatusCode::NOT_FOUND, format!("no capture {id} is under way"))),
    }
}

async fn accepted(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    number: Result<Path<u64>, PathRejection>,
) -> Answer {
    check(peer, Verb::Read)?;
    let Path(number) = number?;
    let store = Arc::clone(&shared.store);
    match aside(move || store.accepted_text(number)).await?.map_err(Refused::internal)? {
        Some(text) => Ok(text.into_response()),
        None => Err(Refused(StatusCode::NOT_FOUND, format!("the history has no number {number}"))),
    }
}

/// A word that is not known is refused: a misspelt one would otherwise apply, and not as meant.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ApplyBody {
    #[serde(default)]
    allow: Option<String>,
}

async fn apply(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    body: Result<Json<ApplyBody>, JsonRejection>,
) -> Answer {
    check(peer, Verb::Write)?;
    let Json(body) = body?;
    let report = ask(&shared, WRITE_MAX, |to| Request::Apply(body.allow, to)).await?;
    Ok(Json(&*report).into_response())
}

async fn teardown(State(shared): State<Arc<Shared>>, Extension(peer): Extension<Peer>) -> Answer {
    check(peer, Verb::Write)?;
    let report = ask(&shared, WRITE_MAX, Request::TearDown).await?;
    Ok(Json(&*report).into_response())
}

fn check(peer: Peer, verb: Verb) -> Result<(), Refused> {
    let own = rustix::process::geteuid().as_raw();
    if may(peer, verb, own) {
        return Ok(());
    }
    tracing::warn!(uid = peer.uid, ?verb, "refused a client");
    let why = match verb {
        Verb::Read => "only root, netd's own user and members of netd-admin may ask this",
        Verb::Write => "only root and netd's own user may ask this",
    };
    Err(Refused(StatusCode::FORBIDDEN, why.into()))
}

/// Does what may take a while without keeping others from being answered.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(Refused::internal)
}

/// Asks the engine and waits for its answer.
async fn ask<T>(
    shared: &Shared,
    limit: Duration,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Refused> {
    let (to, answer) = oneshot::channel();
    let asked = async {
        shared.requests.send(request(to)).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Refused(StatusCode::SERVICE_UNAVAILABLE, "netd is stopping".into())),
        Err(_) => {
            let why = format!("no answer within {} s; a pass is still under way", limit.as_secs());
            Err(Refused(StatusCode::GATEWAY_TIMEOUT, why))
        }
    }
}
