//! Which gateways lived when netd was last here, beside its socket: a node that starts sends packets where it sent them
//! before, until it has heard for itself. After a boot nothing is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More is not a list of gateways.
const BYTES_MAX: u64 = 64 * 1024;

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Carried(PathBuf);

impl Carried {
    pub(super) fn new(runtime_dir: &Path) -> Self {
        Self(runtime_dir.join("gateways.json"))
    }

    /// What was written last; nothing, where that cannot be read.
    pub(super) fn read(&self) -> Option<BTreeMap<String, u32>> {
        let is_small =
            std::fs::metadata(&self.0).is_ok_and(|about| about.len() <= BYTES_MAX && about.is_file());
        let bytes = is_small.then(|| std::fs::read(&self.0).ok()).flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it whole, or not at all.
    pub(super) fn write(&self, alive: &BTreeMap<String, u32>) {
        let written = serde_json::to_vec(alive).map_err(std::io::Error::other).and_then(|bytes| {
            let beside = self.0.with_extension("new");
            std::fs::write(&beside, bytes)?;
            std::fs::rename(&beside, &self.0)
        });
        if let Err(error) = written {
            tracing::debug!(%error, path = %self.0.display(), "which gateways live is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_was_written_is_read_and_rubbish_is_nothing() {
        let dir = tempfile::TempDir::new().unwrap();
        let carried = Carried::new(dir.path());
        assert_eq!(carried.read(), None);
        let alive = BTreeMap::from([("gw-1".to_owned(), 2)]);
        carried.write(&alive);
        assert_eq!(carried.read(), Some(alive));
        std::fs::write(dir.path().join("gateways.json"), "rubbish").unwrap();
        assert_eq!(carried.read(), None);
    }
}
