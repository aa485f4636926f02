//! Checks a transaction against the chain's rules and the head's state.

use super::{PoolConfig, PoolError};
use crate::{block::Transaction, fees, spec::ChainSpec, state::View};
use alloy_consensus::{Header, Transaction as _};
use alloy_eips::Typed2718;
use alloy_evm::FromRecoveredTx;
use alloy_op_evm::OpTx;
use alloy_primitives::{KECCAK256_EMPTY, U256};
use op_alloy_consensus::OpTxEnvelope;
use op_revm::L1BlockInfo;
use revm::{context_interface::cfg::gas::calculate_initial_tx_gas_for_tx, primitives::eip3860};

/// What transactions are checked against: the head.
#[derive(Debug)]
pub struct Admission<'a> {
    /// The rules.
    pub spec: &'a ChainSpec,
    /// The head.
    pub head: &'a Header,
    /// The state after the head.
    pub state: &'a View,
    /// What the layer 1 charges for; nothing on Ethereum.
    pub l1: Option<&'a L1BlockInfo>,
    /// [`super::Pool::epoch`] from before the state was opened.
    pub epoch: u64,
}

/// The sender's account and what the transaction may cost it.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) nonce: u64,
    pub(super) balance: U256,
    pub(super) cost: U256,
}

/// Nonces a sender may be ahead of the chain.
const MAX_NONCE_GAP: u64 = 1 << 16;

impl Admission<'_> {
    pub(super) fn check(
        &self,
        config: &PoolConfig,
        tx: &Transaction,
    ) -> Result<Account, PoolError> {
        self.check_shape(config, tx)?;
        let sender = tx.sender();
        let read = |e: crate::error::Error| PoolError::State(e.to_string());
        let account = self
            .state
            .account(sender)
            .map_err(read)?
            .unwrap_or_default();
        let nonce = tx.envelope().nonce();
        if nonce < account.nonce {
            return Err(PoolError::NonceTooLow {
                address: sender,
                tx: nonce,
                state: account.nonce,
            });
        }
        if nonce - account.nonce > MAX_NONCE_GAP {
            return Err(PoolError::NonceTooHigh {
                address: sender,
                tx: nonce,
                state: account.nonce,
            });
        }
        if account.code_hash != KECCAK256_EMPTY {
            let code = self.state.code(sender).map_err(read)?;
            // A delegated account (EIP-7702) may send; any other code may not (EIP-3607).
            if !code.starts_with(&[0xef, 0x01, 0x00]) {
                return Err(PoolError::SenderHasCode(sender));
            }
        }
        let envelope = tx.envelope();
        let gas = U256::from(envelope.gas_limit());
        let cost = |info| fees::l1_cost(self.spec, self.head, info, &tx.encoded, gas);
        let l1 = self.l1.map_or(U256::ZERO, cost);
        let cost = U256::from(envelope.max_fee_per_gas())
            .saturating_mul(gas)
            .saturating_add(envelope.value())
            .saturating_add(l1);
        Ok(Account {
            nonce: account.nonce,
            balance: account.balance,
            cost,
        })
    }

    /// What can be checked without state.
    fn check_shape(&self, config: &PoolConfig, tx: &Transaction) -> Result<(), PoolError> {
        let envelope = tx.envelope();
        let size = tx.encoded.len();
        if size > config.max_transaction_bytes {
            return Err(PoolError::Oversized {
                size,
                limit: config.max_transaction_bytes,
            });
        }
        if tx.is_deposit() || envelope.is_eip4844() {
            return Err(PoolError::Type);
        }
        match envelope.chain_id() {
            None => return Err(PoolError::Unprotected),
            Some(have) if have != self.spec.chain_id => {
                return Err(PoolError::ChainId {
                    have,
                    want: self.spec.chain_id,
                });
            }
            Some(_) => {}
        }
        if let OpTxEnvelope::Eip7702(tx) = envelope
            && tx.tx().authorization_list.is_empty()
        {
            return Err(PoolError::EmptyAuthorizations);
        }
        let limit = eip3860::MAX_INITCODE_SIZE;
        if envelope.is_create() && envelope.input().len() > limit {
            return Err(PoolError::InitCode {
                size: envelope.input().len(),
                limit,
            });
        }
        if envelope.gas_limit() > self.head.gas_limit {
            return Err(PoolError::GasLimit);
        }
        let have = envelope.gas_limit();
        if let Some(cap) = self.spec.transaction_gas_cap(self.head.timestamp)
            && have > cap
        {
            return Err(PoolError::GasCap { have, cap });
        }
        let tip = envelope
            .max_priority_fee_per_gas()
            .unwrap_or_else(|| envelope.max_fee_per_gas());
        if tip > envelope.max_fee_per_gas() {
            return Err(PoolError::TipAboveFeeCap);
        }
        if tip < config.min_priority_fee {
            return Err(PoolError::TipTooLow {
                have: tip,
                want: config.min_priority_fee,
            });
        }
        let rules = *self.spec.evm_env(self.head).spec_id();
        let env = OpTx::from_recovered_tx(envelope, tx.sender());
        let gas = calculate_initial_tx_gas_for_tx(&env, rules.into_eth_spec());
        if have < gas.initial_total_gas {
            return Err(PoolError::IntrinsicGas {
                have,
                want: gas.initial_total_gas,
            });
        }
        if have < gas.floor_gas {
            return Err(PoolError::FloorGas {
                have,
                want: gas.floor_gas,
            });
        }
        Ok(())
    }
}
