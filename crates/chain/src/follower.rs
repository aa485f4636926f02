//! Following the chain's events from a given block.

use std::sync::Arc;

use crate::event::{Decoder, Located};
use crate::{Deployment, Error, Node};

/// Blocks asked for at once.
const SPAN: u64 = 1_000;

/// Reads the events of one deployment in chain order, block range by block range.
///
/// It keeps no state of its own outside the process: store `next_block` with what you derived from
/// the events, in one write, and go on from there.
#[derive(Clone)]
pub struct Follower {
    node: Arc<dyn Node>,
    decoder: Decoder,
    next_block: u64,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("next_block", &self.next_block)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// Follows `deployment` from its first block on. `from_block` is where the deployment's first
    /// transaction may be, or 0; it must not be later than the first Datanet, whose vaults are
    /// learnt from their creation.
    pub const fn new(node: Arc<dyn Node>, deployment: Deployment, from_block: u64) -> Self {
        Self {
            node,
            decoder: Decoder::new(deployment),
            next_block: from_block,
        }
    }

    /// The first block that was not read yet.
    pub const fn next_block(&self) -> u64 {
        self.next_block
    }

    /// The events of the next blocks, up to `SPAN` of them; empty when there are no new blocks or
    /// nothing happened in them. `next_block` moves only when the whole range was read.
    ///
    /// # Errors
    /// The node's, or [`Error::UnknownLog`].
    pub async fn next(&mut self) -> Result<Vec<Located>, Error> {
        let head = self.node.head().await?.number;
        if self.next_block > head {
            return Ok(Vec::new());
        }
        let to = head.min(self.next_block.saturating_add(SPAN - 1));
        let mut decoder = self.decoder.clone();
        let mut events;
        loop {
            let addresses = decoder.addresses();
            let logs = self.node.logs(&addresses, self.next_block, to).await?;
            events = Vec::with_capacity(logs.len());
            for log in &logs {
                events.extend(decoder.decode(log)?);
            }
            // A vault born in this very range may have logs in it.
            if decoder.addresses().len() == addresses.len() {
                break;
            }
        }
        self.decoder = decoder;
        self.next_block = to.saturating_add(1);
        Ok(events)
    }

    /// All events up to the head at the time of the call.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn catch_up(&mut self) -> Result<Vec<Located>, Error> {
        let head = self.node.head().await?.number;
        let mut events = Vec::new();
        while self.next_block <= head {
            events.extend(self.next().await?);
        }
        Ok(events)
    }
}
