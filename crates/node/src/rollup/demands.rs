//! Showing on the layer 1 what is demanded of the batcher's data there.
//!
//! In a network whose commitments are hashes, data that is demanded and not shown in time is left out
//! of the chain, also by those who have it. The batcher put it into data availability, so it is the
//! batcher that shows it; anybody else who has it may.

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::Decodable2718;
use openledger_chain::Demand;
use openledger_derivation::{DataAvailability, MAX_SHOWN_BYTES, inbox_commitment};
use openledger_primitives::keccak256;

use super::batching::Batcher;
use super::more;
use crate::{Error, Result};

impl Batcher {
    /// Shows what can be shown of what is demanded, if the layer 1 has moved on from block `seen`.
    pub(super) fn show_demanded(&self, seen: &mut u64) -> Result<()> {
        let Some(rules) = self.rollup.challenging() else {
            return Ok(());
        };
        let node = self.sender.node();
        let head = self.runtime.block_on(node.head())?.number;
        if head == *seen {
            return Ok(());
        }
        // What was demanded before can no longer be shown.
        let from = head.saturating_sub(rules.resolve_window);
        let demands = self.layer1.demands(&**node, from, head);
        for demand in self.runtime.block_on(demands)? {
            if let Err(error) = self.answer(&demand) {
                let (block, commitment) = (demand.l1_block, &demand.commitment);
                tracing::warn!(%error, block, %commitment, "data is demanded and not shown");
            }
        }
        *seen = head;
        Ok(())
    }

    fn answer(&self, demand: &Demand) -> Result<()> {
        if !self.is_ours(demand)? {
            return Ok(());
        }
        let data = self.da.get(&demand.commitment, demand.l1_block);
        let data = data.map_err(|error| Error::Conflict(error.to_string()))?;
        if data.len() > MAX_SHOWN_BYTES {
            return Err(Error::Conflict(format!(
                "{} bytes, more than can be shown",
                data.len()
            )));
        }
        let call = self.layer1.show(demand, data);
        let key = format!("show/{}/{}", demand.l1_block, keccak256(&demand.commitment));
        let sent = self.sender.send_once(&key, self.account, &call);
        let receipt = self.runtime.block_on(sent)?;
        tracing::info!(block = demand.l1_block, commitment = %demand.commitment, "data shown");
        self.note(|done| {
            done.shown += 1;
            done.l1_gas += receipt.gas_used;
            done.l1_fee = more(done.l1_fee, receipt.fee);
        });
        Ok(())
    }

    /// Whether a batch of this account has the commitment: anybody can demand anything, and showing
    /// it costs more than comes back.
    fn is_ours(&self, demand: &Demand) -> Result<bool> {
        let block = self.l1.block_by_number(demand.l1_block)?;
        let wanted = inbox_commitment(&demand.commitment);
        let carries = |raw: &[u8]| {
            let Ok(tx) = TxEnvelope::decode_2718_exact(raw) else {
                return false;
            };
            tx.to() == Some(self.rollup.batch_inbox())
                && *tx.input() == wanted
                && tx.recover_signer().is_ok_and(|from| from == self.account)
        };
        Ok(block.is_some_and(|block| block.transactions.iter().any(|raw| carries(raw))))
    }
}
