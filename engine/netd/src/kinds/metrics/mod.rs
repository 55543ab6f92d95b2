//! The TCP listener that serves numbers.
//!
//! Key: the address, `127.0.0.1:9471`. Mark of ownership: it is a socket of this process, and goes with it. An update of the
//! address is a listener more and one less. Only a daemon has this kind: a listener of a command would end with it.

mod target;

pub use target::MetricsTarget;

use crate::facts::Facts;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::Config;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "metrics";

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MetricsSpec {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl MetricsSpec {
    /// The key of the resource.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.listen.to_string())
    }
}

impl Described for MetricsSpec {
    fn summary(&self) -> String {
        "/metrics over HTTP".to_owned()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        match self.listen == observed.listen {
            true => Vec::new(),
            false => {
                vec![FieldChange::changed("listen", observed.listen.to_string(), self.listen.to_string())]
            }
        }
    }
}

/// The listener that the file asks for.
///
/// # Errors
///
/// None.
pub fn desired(config: &Config, _facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    if let Some(metrics) = config.metrics {
        let spec = MetricsSpec { listen: metrics.listen };
        desired.table.insert(spec.key(), Arc::new(spec));
    }
    Ok(desired)
}
