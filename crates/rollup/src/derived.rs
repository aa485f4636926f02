//! Derived blocks: what L1 says becomes the safe head, whatever the head was.
//!
//! On a sequencer the block is there already and only gets its label. On a verifier it is built.
//! Where a sequencer's block differs from the derived one, the derived one replaces it and all that
//! came after it.

use crate::{
    block::Block,
    chain::ChainHandle,
    engine::{ForkChoice, PayloadAttributes, PayloadStatus},
    error::{Error, Result},
};
use alloy_primitives::B256;
use std::sync::Arc;

/// What became of derived attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Derived {
    /// The chain had this block.
    Agreed(Arc<Block>),
    /// The block was made.
    Built {
        /// The block, now the head.
        block: Arc<Block>,
        /// Blocks of the chain that it took the place of.
        replaced: u64,
    },
    /// No block can be made: a transaction of the batch is invalid. The batch has to be dropped,
    /// and the block is made of deposits alone (Holocene, "Engine Queue").
    Invalid {
        /// Which rule it breaks.
        reason: String,
    },
}

impl ChainHandle {
    /// Makes the block after `parent` that L1 asks for the safe head.
    ///
    /// # Errors
    /// [`Error::Unknown`] when `parent` is not in the chain; whatever the store reports.
    pub fn derive(&self, parent: B256, attributes: &PayloadAttributes) -> Result<Derived> {
        let maker = self.maker();
        let _turn = maker.turn();
        let engine = self.engine();
        let reader = self.reader()?;
        let head = reader.head()?;
        let number = reader.number_of(parent)?.ok_or_else(|| Error::Unknown {
            what: "parent of a derived block",
            id: parent.to_string(),
        })?;
        let present = reader.block(number + 1)?;
        if let Some(block) = present
            && self.is_made_of(&block, attributes)?
        {
            let labelled = ForkChoice {
                head: head.hash(),
                safe: block.hash(),
                finalized: B256::ZERO,
            };
            engine.fork_choice_updated(labelled, None)?;
            return Ok(Derived::Agreed(Arc::new(block)));
        }
        let attributes = PayloadAttributes {
            no_tx_pool: true,
            ..attributes.clone()
        };
        let invalid = |reason| Ok(Derived::Invalid { reason });
        let outcome = engine.fork_choice_updated(ForkChoice::head_only(parent), Some(attributes));
        let outcome = match outcome {
            Err(Error::InvalidAttributes(reason)) => return invalid(reason),
            outcome => outcome?,
        };
        let Some(id) = outcome.payload else {
            return Err(Error::InvalidBlock(format!(
                "the engine answered {:?} to a block it has",
                outcome.status
            )));
        };
        let block = match engine.get_payload(id) {
            Err(
                Error::InvalidBlock(reason)
                | Error::InvalidTransaction(reason)
                | Error::InvalidAttributes(reason),
            ) => return invalid(reason),
            block => block?,
        };
        if let PayloadStatus::Invalid { reason } = engine.new_payload(Arc::clone(&block))? {
            return invalid(reason);
        }
        let next = ForkChoice {
            head: block.hash(),
            safe: block.hash(),
            finalized: B256::ZERO,
        };
        engine.fork_choice_updated(next, None)?;
        Ok(Derived::Built {
            block,
            replaced: head.number - number,
        })
    }

    /// Labels a safe block as finalized: L1 will not take back what it was derived from.
    ///
    /// # Errors
    /// When the block is not a safe one, or the store fails.
    pub fn finalize(&self, hash: B256) -> Result<()> {
        let maker = self.maker();
        let _turn = maker.turn();
        let wanted = ForkChoice {
            finalized: hash,
            ..ForkChoice::head_only(self.head()?.hash())
        };
        self.engine().fork_choice_updated(wanted, None).map(|_| ())
    }

    /// Takes back what L1 took back: the head becomes `head` and the safe head `safe`, both in the
    /// chain.
    ///
    /// # Errors
    /// When one of them is not, when a finalized block would be taken back, or the store fails.
    pub fn go_back(&self, head: B256, safe: B256) -> Result<()> {
        let maker = self.maker();
        let _turn = maker.turn();
        let reader = self.reader()?;
        let finalized = reader.labels()?.finalized;
        let number = reader.number_of(safe)?;
        if number.is_none_or(|number| number < finalized) {
            return Err(Error::InvalidAttributes(format!(
                "the safe head cannot go back to {safe}: block {finalized} is finalized"
            )));
        }
        let wanted = ForkChoice {
            head,
            safe,
            finalized: B256::ZERO,
        };
        self.engine().fork_choice_updated(wanted, None).map(|_| ())
    }

    fn is_made_of(&self, block: &Block, attributes: &PayloadAttributes) -> Result<bool> {
        let header = block.header.inner();
        let extra_data = self.spec().extra_data(
            attributes.timestamp,
            attributes.eip_1559_params,
            attributes.min_base_fee,
        )?;
        let transactions = block.transactions.iter().map(|tx| &tx.encoded);
        Ok(header.timestamp == attributes.timestamp
            && header.mix_hash == attributes.prev_randao
            && header.beneficiary == attributes.suggested_fee_recipient
            && header.parent_beacon_block_root == attributes.parent_beacon_block_root
            && header.gas_limit == attributes.gas_limit
            && header.extra_data == extra_data
            && transactions.eq(&attributes.transactions))
    }
}
