//! Records for tests: of routes, told apart by their number and by how often they were written.

use netd_state::{Record, RecordKey};

/// What is remembered of a route that was written for the `generation`th time.
pub fn record(generation: u64) -> Record {
    Record {
        spec: serde_json::json!({ "via": "10.0.0.1", "metric": generation }).to_string(),
        generation,
        status: "ready".into(),
        message: String::new(),
        since_unix_ms: 1_700_000_000_000,
    }
}

/// The key of the route of this number.
pub fn key(number: usize) -> RecordKey {
    RecordKey { kind: "route".into(), key: format!("10.{}.{}.0/24", number / 256, number % 256) }
}
