//! The API: HTTP and JSON on the unix socket of the instance.
//!
//! | request | answer | who may |
//! |---|---|---|
//! | `GET /v1/status` | the last [`Report`](crate::report::Report); `?verbose=true` adds `resources` | readers |
//! | `GET /v1/plan` | what would be done now; `?text=plain` or `?text=colour` as a person reads it | readers |
//! | `GET /v1/history`, `GET /v1/history/N` | the accepted files, marked which is in force; the text of one | readers |
//! | `GET /v1/services` | packets and bytes of each service and backend | readers |
//! | `GET /v1/flows?idle_ms=N` | flows that a record keeps on a backend; those that sent nothing for so long apart | readers |
//! | `GET /v1/egress` | the egress policies in force, their gateways and addresses | readers |
//! | `GET /v1/decap` | what was taken out of tunnels, null where nothing is | readers |
//! | `GET /v1/maglev/SERVICE` | the tables that the maps hold for a service, by frontend | readers |
//! | `POST /v1/explain` | `{"packet": "tcp A:P > B:P", "device": "eth0"}`: what becomes of it, as `text` and as `explanation` | writers |
//! | `GET /v1/records` | the captures that are under way, and the last that were | readers |
//! | `POST /v1/records` | `{"filters": ["any 0 192.0.2.10 80 TCP"]}`: the file as it is written, its id in `netd-capture` | writers |
//! | `POST /v1/records/ID/stop` | that capture ends | writers |
//! | `POST /v1/apply` | `{"allow": "PLAN"}` or `{}`: a pass now, and its report | writers |
//! | `POST /v1/teardown` | everything owned is removed; the report | writers |
//!
//! Writers are root and the user netd runs as; readers are those and the members of the group netd-admin. Each
//! connection carries one request and has a deadline. Every error is `{"error": "why"}` with a fitting status.

mod client;
mod deadline;
mod peer;
mod routes;
mod server;

/// The header of an answer that says which capture it is.
const CAPTURE_HEADER: &str = "netd-capture";

pub use client::{Client, ClientError};
pub use routes::{Explain, Explained, ReadDecap, ReadFlows, ReadTables, ReadTraffic, Shared};
pub use server::{Server, serve};
