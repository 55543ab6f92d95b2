//! The node's facts with the verdicts of the moment.

use super::board::Board;
use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::kinds::service::{ServiceTraffic, state_word, traffic};
use crate::reconcile::ReadFacts;
use async_trait::async_trait;
use netd_bpf::Maps;
use netd_schema::BackendState;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Which backends the datapath holds for unhealthy: service, address, port. Or why that cannot be read.
pub type Seed = Box<dyn Fn() -> Result<BTreeSet<(String, IpAddr, u16)>, String> + Send>;

/// Reads facts, and adds what is known of the backends' health.
pub struct WithVerdicts {
    reader: Box<dyn ReadFacts>,
    board: Arc<Board>,
    seed: Seed,
}

impl WithVerdicts {
    /// With verdicts from this board, which is told once what the datapath was like.
    #[must_use]
    pub fn new(reader: Box<dyn ReadFacts>, board: Arc<Board>, seed: Seed) -> Self {
        Self { reader, board, seed }
    }
}

#[async_trait]
impl ReadFacts for WithVerdicts {
    async fn read(&mut self) -> Result<Facts, String> {
        if !self.board.is_seeded() {
            match (self.seed)() {
                Ok(carried) => self.board.seed(carried),
                // Nor can services be changed then; it is tried again with the next pass.
                Err(why) => tracing::debug!(why, "which backends are out of force is not known yet"),
            }
        }
        let mut facts = self.reader.read().await?;
        facts.health = Arc::new(self.board.verdicts());
        Ok(facts)
    }

    fn touched(&mut self) {
        self.reader.touched();
    }

    fn forget(&mut self) {
        self.reader.forget();
    }
}

/// Reads the backends that the datapath holds for unhealthy from the maps that are pinned below a folder.
#[must_use]
pub fn seed(bpf_dir: PathBuf) -> Seed {
    Box::new(move || {
        let read = |maps: Option<&mut dyn Maps>| maps.map_or(Ok(Vec::new()), |maps| traffic(maps));
        Balancer::new(bpf_dir.clone()).with_maps(read)?.map(|traffic| quarantined(&traffic))
    })
}

fn quarantined(traffic: &[ServiceTraffic]) -> BTreeSet<(String, IpAddr, u16)> {
    let word = state_word(BackendState::Quarantined);
    let of = |service: &ServiceTraffic| {
        let name = service.service.clone();
        let backends = service.backends.iter().filter(|backend| backend.state == word);
        backends.map(move |backend| (name.clone(), backend.address, backend.port)).collect::<Vec<_>>()
    };
    traffic.iter().flat_map(of).collect()
}
