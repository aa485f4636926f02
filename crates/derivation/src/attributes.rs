//! What the next block is made of. Sequencer and verifier ask the same code, so they agree.

use crate::{
    config::RollupConfig,
    error::{Error, Result},
    l1::{L1, Reader},
    l1_info,
    types::{Attributes, BlockId, FEE_RECIPIENT, L2Head},
};
use alloc::vec::Vec;

/// Builds the attributes of the block on `parent` in the epoch of `origin`, without transactions
/// of a batch.
///
/// Spec: derivation, "Deriving payload attributes".
pub(crate) fn build<S: L1>(
    config: &RollupConfig,
    l1: &mut Reader<S>,
    parent: &L2Head,
    origin: BlockId,
) -> Result<Attributes> {
    let timestamp = parent.timestamp.saturating_add(config.block_time());
    config.check_fork(timestamp)?;
    let header = l1.by_hash(origin.hash)?;
    let bad = || Error::BadOrigin {
        parent: parent.l1_origin,
        origin,
        timestamp,
        origin_timestamp: header.block.timestamp,
    };
    if header.block.number != origin.number || timestamp < header.block.timestamp {
        return Err(bad());
    }
    let mut system = parent.system_config;
    let mut deposits = Vec::new();
    let sequence_number = if origin == parent.l1_origin {
        parent.sequence_number + 1
    } else {
        if header.block.parent_hash != parent.l1_origin.hash {
            return Err(bad());
        }
        let events = l1.events(&header)?;
        for update in &events.updates {
            system.apply(update);
        }
        deposits.clone_from(&events.deposits);
        0
    };
    let mut transactions = Vec::with_capacity(1 + deposits.len());
    transactions.push(l1_info::deposit(config, &system, &header, sequence_number));
    transactions.append(&mut deposits);
    let mut gas_limit = system.gas_limit;
    if let Some(upgrade) = config.upgrade(timestamp)? {
        transactions.extend(upgrade.transactions.iter().cloned());
        gas_limit = gas_limit.saturating_add(upgrade.gas);
    }
    Ok(Attributes {
        parent: *parent,
        timestamp,
        prev_randao: header.prev_randao,
        fee_recipient: FEE_RECIPIENT,
        parent_beacon_block_root: header.parent_beacon_block_root.unwrap_or_default(),
        transactions,
        no_tx_pool: true,
        gas_limit,
        eip_1559_params: system.eip_1559_params,
        min_base_fee: config.is_jovian().then_some(system.min_base_fee),
        l1_origin: origin,
        sequence_number,
        derived_from: origin,
        is_last_in_span: true,
    })
}

/// What the sequencer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginChoice {
    /// Build on this L1 block.
    Build {
        /// The epoch of the block.
        origin: BlockId,
        /// Whether the block must be empty, since L2 time ran too far ahead of the origin.
        no_tx_pool: bool,
    },
    /// L2 time ran too far ahead and the next L1 block is not there: no block can be built whose
    /// validity is certain.
    Wait,
}

/// The sequencer's side: which L1 block to build on, and what with.
#[derive(Debug)]
pub struct AttributesBuilder<S> {
    config: RollupConfig,
    l1: Reader<S>,
}

impl<S: L1> AttributesBuilder<S> {
    /// A builder on a layer 1.
    pub fn new(config: RollupConfig, l1: S) -> Self {
        Self {
            l1: Reader::new(l1, config.clone()),
            config,
        }
    }

    /// The layer 1.
    pub const fn l1(&self) -> &S {
        &self.l1.source
    }

    /// Chooses the L1 origin of the block on `parent`: the next one as soon as L2 time reaches it
    /// and `confirmations` blocks are on top of it, else the parent's.
    ///
    /// Spec: derivation, "L2 chain: sequencing", and batch queue rules on `max_sequencer_drift`.
    ///
    /// # Errors
    ///
    /// [`Error::Reorged`] when the parent's origin is not canonical any more; [`Error::L1`].
    pub fn next_origin(&mut self, parent: &L2Head, confirmations: u64) -> Result<OriginChoice> {
        let current = self.l1.check_canonical(parent.l1_origin)?.block;
        let timestamp = parent.timestamp.saturating_add(self.config.block_time());
        let drifted = timestamp
            > current
                .timestamp
                .saturating_add(self.config.max_sequencer_drift());
        let next = self
            .l1
            .by_number(current.number + 1)?
            .map(|header| header.block);
        if let Some(next) = next
            && next.parent_hash != current.hash
        {
            return Err(Error::Reorged {
                origin: parent.l1_origin,
                canonical: Some(next.parent_hash),
            });
        }
        let Some(next) = next else {
            return Ok(if drifted {
                OriginChoice::Wait
            } else {
                OriginChoice::Build {
                    origin: current.id(),
                    no_tx_pool: false,
                }
            });
        };
        let confirmed = drifted
            || confirmations == 0
            || self
                .l1
                .by_number(next.number.saturating_add(confirmations))?
                .is_some();
        if timestamp >= next.timestamp && confirmed {
            let drift = next
                .timestamp
                .saturating_add(self.config.max_sequencer_drift());
            return Ok(OriginChoice::Build {
                origin: next.id(),
                no_tx_pool: timestamp > drift,
            });
        }
        Ok(OriginChoice::Build {
            origin: current.id(),
            no_tx_pool: drifted,
        })
    }

    /// The attributes of the block on `parent` in the epoch of `origin`, which is the parent's or
    /// the one after. `no_tx_pool` is false unless L2 time is too far ahead of the origin, or the
    /// block is the first of a fork.
    ///
    /// # Errors
    ///
    /// [`Error::BadOrigin`] for another origin, [`Error::UnknownFork`], [`Error::UnknownUpgrade`], and what reading the
    /// layer 1 brings.
    pub fn next_attributes(&mut self, parent: &L2Head, origin: BlockId) -> Result<Attributes> {
        let mut attributes = build(&self.config, &mut self.l1, parent, origin)?;
        let header = self.l1.by_hash(origin.hash)?;
        let drift = header
            .block
            .timestamp
            .saturating_add(self.config.max_sequencer_drift());
        attributes.no_tx_pool =
            attributes.timestamp > drift || self.config.is_first_in_karst(attributes.timestamp);
        Ok(attributes)
    }
}
