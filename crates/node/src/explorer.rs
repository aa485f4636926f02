//! Blocks and transactions in words: every call and log of our contracts as a sentence.

use alloy_consensus::Transaction as _;
use alloy_rpc_types_eth::Log;
use openledger_chain::Decoder;
use openledger_chain::bindings::{
    AccessManager, ContributionAnchor, DatanetRegistry, InferenceSettlement, ModelRegistry,
    OpenMinter, ProtocolParameters,
};
use openledger_chain::predeploys;
use openledger_primitives::{Address, B256, Wei};
use openledger_rollup::block::ExecutedBlock;

use crate::view::{BlockView, ChainView, EventView, TransactionView};
use crate::{Node, Result};

impl Node {
    /// The newest blocks below `before`, newest first.
    ///
    /// # Errors
    /// If the chain cannot be read.
    pub fn blocks(&self, before: Option<u64>, limit: usize) -> Result<Vec<BlockView>> {
        let blocks = self.chain().recent(before, limit)?;
        blocks.iter().map(|block| self.block_view(block)).collect()
    }

    /// A block.
    ///
    /// # Errors
    /// If the chain cannot be read.
    pub fn block(&self, number: u64) -> Result<Option<BlockView>> {
        self.chain()
            .block(number)?
            .map(|block| self.block_view(&block))
            .transpose()
    }

    /// A transaction that a block holds.
    ///
    /// # Errors
    /// If the chain cannot be read.
    pub fn transaction(&self, hash: B256) -> Result<Option<TransactionView>> {
        let Some(found) = self.chain().included(hash)? else {
            return Ok(None);
        };
        self.transaction_view(&found.block, found.index).map(Some)
    }

    pub(crate) fn chain_view(&self) -> Result<ChainView> {
        let head = self.chain().head()?;
        let totals = self.chain().totals()?;
        Ok(ChainView {
            id: self.chain_id(),
            head: head.number,
            head_hash: head.seal(),
            timestamp: head.timestamp,
            txs: totals.transactions,
            gas_used: u64::try_from(totals.gas_used).unwrap_or(u64::MAX),
            rpc_url: self.rpc_url(),
        })
    }

    fn block_view(&self, executed: &ExecutedBlock) -> Result<BlockView> {
        let header = &executed.block.header;
        Ok(BlockView {
            number: header.number,
            hash: executed.block.hash(),
            parent: header.parent_hash,
            state_root: header.state_root,
            timestamp: header.timestamp,
            gas_used: header.gas_used,
            gas_limit: header.gas_limit,
            base_fee: header.base_fee_per_gas.unwrap_or_default(),
            transactions: (0..executed.block.transactions.len())
                .map(|index| self.transaction_view(executed, index))
                .collect::<Result<_>>()?,
        })
    }

    fn transaction_view(&self, executed: &ExecutedBlock, index: usize) -> Result<TransactionView> {
        let block = &executed.block;
        let tx = &block.transactions[index];
        let receipt = &executed.receipts[index];
        let gas_before = index
            .checked_sub(1)
            .map_or(0, |i| executed.receipts[i].cumulative_gas_used());
        let first_log: usize = executed.receipts[..index]
            .iter()
            .map(|receipt| receipt.logs().len())
            .sum();
        let envelope = tx.envelope();
        let mut decoder = Decoder::new(*self.contracts().deployment());
        let events = receipt
            .logs()
            .iter()
            .enumerate()
            .map(|(position, log)| {
                let log = Log {
                    inner: log.clone(),
                    block_hash: Some(block.hash()),
                    block_number: Some(block.number()),
                    block_timestamp: Some(block.header.timestamp),
                    transaction_hash: Some(tx.hash()),
                    transaction_index: Some(index as u64),
                    log_index: Some((first_log + position) as u64),
                    removed: false,
                };
                self.event_view(&mut decoder, &log)
            })
            .collect::<Result<Vec<_>>>()?;
        let to = envelope.to();
        Ok(TransactionView {
            hash: tx.hash(),
            block: block.number(),
            from: tx.sender(),
            to,
            from_name: self.label(tx.sender())?,
            to_name: to.map(|to| self.label(to)).transpose()?.flatten(),
            value: Wei::try_from(envelope.value())?,
            gas_used: receipt.cumulative_gas_used() - gas_before,
            success: receipt.status(),
            system: index == 0 && tx.is_deposit(),
            action: self.action(to, envelope.input()),
            events,
            input: envelope.input().to_string(),
        })
    }

    fn event_view(&self, decoder: &mut Decoder, log: &Log) -> Result<EventView> {
        // A foreign contract's log, or one of ours that is newer than this program, stays raw.
        let sentence = match decoder.decode(log) {
            Ok(Some(located)) => located.event.to_string(),
            Ok(None) | Err(_) => "an event of another contract".to_owned(),
        };
        Ok(EventView {
            address: log.address(),
            contract: self.label(log.address())?,
            sentence,
            topics: log.topics().to_vec(),
            data: log.data().data.to_string(),
        })
    }

    /// Name of an address that this node knows: a contract, a role, a contributor.
    fn label(&self, address: Address) -> Result<Option<String>> {
        if let Some(name) = self.contracts().deployment().name_of(address) {
            return Ok(Some(name.to_owned()));
        }
        Ok(self.name_of(address)?.map(|doc| doc.name))
    }

    /// What a transaction does, from its calldata.
    fn action(&self, to: Option<Address>, input: &[u8]) -> String {
        let Some(to) = to else {
            return "creates a contract".to_owned();
        };
        let Some(selector) = input.first_chunk::<4>() else {
            return "sends OPEN".to_owned();
        };
        if to == predeploys::L1_BLOCK {
            return "takes note of the layer 1".to_owned();
        }
        if to == predeploys::OPEN_MINTER {
            let name = OpenMinter::OpenMinterCalls::name_by_selector(*selector);
            return format!("OpenMinter.{}", name.unwrap_or("?"));
        }
        let Some(contract) = self.contracts().deployment().name_of(to) else {
            return format!("calls 0x{}", hex::encode(selector));
        };
        let name = match contract {
            "AccessManager" => AccessManager::AccessManagerCalls::name_by_selector(*selector),
            "ProtocolParameters" => {
                ProtocolParameters::ProtocolParametersCalls::name_by_selector(*selector)
            }
            "InferenceSettlement" => {
                InferenceSettlement::InferenceSettlementCalls::name_by_selector(*selector)
            }
            "DatanetRegistry" => DatanetRegistry::DatanetRegistryCalls::name_by_selector(*selector),
            "ContributionAnchor" => {
                ContributionAnchor::ContributionAnchorCalls::name_by_selector(*selector)
            }
            "ModelRegistry" => ModelRegistry::ModelRegistryCalls::name_by_selector(*selector),
            _ => None,
        };
        match name {
            Some(name) => format!("{contract}.{name}"),
            None => format!("{contract}.0x{}", hex::encode(selector)),
        }
    }
}
