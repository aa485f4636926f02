//! Showing on the layer 1 what is demanded of the batcher's data there.
//!
//! In a network whose commitments are hashes, data that is demanded and not shown in time is left out
//! of the chain, also by those who have it. The batcher put it into data availability, so it is the
//! batcher that shows it; anybody else who has it may.

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::Decodable2718;
use openledger_chain::{Call, Demand, Receipt};
use openledger_derivation::{DataAvailability, MAX_SHOWN_BYTES, inbox_commitment};
use openledger_primitives::{B256, keccak256};

use super::batching::Batcher;
use super::more;
use crate::{Error, Result};

/// L1 blocks that are looked at again: a reorg may have brought a demand into one.
const AGAIN: u64 = 64;
/// L1 blocks whose logs are asked for at once.
const AT_ONCE: u64 = 500;

/// What is demanded of this batcher and not shown yet.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// The L1 block looked at last.
    seen: u64,
    /// Each with how often showing it has failed on the layer 1.
    open: Vec<(Demand, u32)>,
}

impl Batcher {
    /// Shows what can be shown of what is demanded, if the layer 1 has moved on. What goes wrong is
    /// told and tried again with the next block: batches go on.
    pub(super) fn show_demanded(&self, demands: &mut Demands) {
        if let Err(error) = self.try_show(demands) {
            tracing::warn!(%error, "data that is demanded is not shown yet");
            self.note(|done| done.trouble = Some(error.to_string()));
        }
    }

    fn try_show(&self, demands: &mut Demands) -> Result<()> {
        let Some(rules) = self.rollup.challenging() else {
            return Ok(());
        };
        let node = &**self.sender.node();
        let head = self.runtime.block_on(node.head())?.number;
        if head == demands.seen {
            return Ok(());
        }
        // What was demanded before can no longer be shown.
        let oldest = head.saturating_sub(rules.resolve_window);
        let mut from = demands.seen.saturating_sub(AGAIN).max(oldest);
        while from <= head {
            let to = head.min(from.saturating_add(AT_ONCE - 1));
            let found = self.layer1.demanded(node, from, to);
            for demand in self.runtime.block_on(found)? {
                // Anybody can demand anything, and showing it costs more than comes back.
                let known = demands.open.iter().any(|(known, _)| *known == demand);
                if !known && self.is_ours(&demand)? {
                    demands.open.push((demand, 0));
                }
            }
            from = to.saturating_add(1);
        }
        demands.seen = head;
        let mut trouble = None;
        let mut open = Vec::new();
        let mut answers = Vec::new();
        for (demand, failed) in &demands.open {
            match self.runtime.block_on(self.layer1.is_open(node, demand)) {
                Ok(false) => continue,
                Ok(true) => match self.answer(demand) {
                    // A name is used once: what failed on the layer 1 is sent again under another.
                    Ok((key, call)) => answers.push((open.len(), format!("{key}/{failed}"), call)),
                    Err(error) => trouble = Some(error),
                },
                Err(error) => trouble = Some(error.into()),
            }
            open.push((demand.clone(), *failed));
        }
        let sending = answers.iter().map(|(index, key, call)| async move {
            (*index, self.sender.send_once(key, self.account, call).await)
        });
        for (index, sent) in self.runtime.block_on(futures::future::join_all(sending)) {
            match sent {
                Ok(receipt) => self.shown(&receipt),
                Err(error) => {
                    if let (openledger_chain::Error::Failed { .. }, Some(failed)) =
                        (&error, open.get_mut(index))
                    {
                        failed.1 = failed.1.saturating_add(1);
                    }
                    trouble = Some(error.into());
                }
            }
        }
        demands.open = open;
        trouble.map_or(Ok(()), Err)
    }

    fn shown(&self, receipt: &Receipt) {
        tracing::info!(l1 = receipt.block, "data shown");
        self.note(|done| {
            done.shown += 1;
            done.l1_gas += receipt.gas_used;
            done.l1_fee = more(done.l1_fee, receipt.fee);
        });
    }

    /// The transaction that shows what is demanded, and its name.
    fn answer(&self, demand: &Demand) -> Result<(String, Call)> {
        let data = self.da.get(&demand.commitment, demand.l1_block);
        let data = data.map_err(|error| Error::Conflict(error.to_string()))?;
        if data.len() > MAX_SHOWN_BYTES {
            return Err(Error::Conflict(format!(
                "{} bytes, more than can be shown",
                data.len()
            )));
        }
        let hash: B256 = keccak256(&demand.commitment);
        let key = format!("show/{}/{hash}", demand.l1_block);
        Ok((key, self.layer1.show(demand, data)))
    }

    /// Whether a batch of this account has the commitment.
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
