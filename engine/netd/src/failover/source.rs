//! The node's facts with what is known of the gateways.

use super::Board;
use crate::facts::Facts;
use crate::reconcile::ReadFacts;
use async_trait::async_trait;
use std::sync::Arc;

/// Reads facts, and adds what is known of the gateways.
pub struct WithSeen {
    reader: Box<dyn ReadFacts>,
    board: Arc<Board>,
}

impl WithSeen {
    /// With what is on this board.
    #[must_use]
    pub fn new(reader: Box<dyn ReadFacts>, board: Arc<Board>) -> Self {
        Self { reader, board }
    }
}

#[async_trait]
impl ReadFacts for WithSeen {
    async fn read(&mut self) -> Result<Facts, String> {
        let mut facts = self.reader.read().await?;
        facts.gateways = self.board.seen();
        Ok(facts)
    }

    fn touched(&mut self) {
        self.reader.touched();
    }

    fn forget(&mut self) {
        self.reader.forget();
    }
}
