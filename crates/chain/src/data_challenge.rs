//! Demanding the data behind a batch on the layer 1, and showing it there.

use alloy_primitives::{Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};

use crate::Error;
use crate::bindings::DataAvailabilityChallenge::{
    ChallengeStatusChanged, bondSizeCall, challengeCall, getChallengeStatusCall, resolveCall,
};
use crate::layer1::{Layer1, view};
use crate::node::{Call, Node, wei};

/// Number of the contract's status for what is demanded and can still be shown.
const ACTIVE: u8 = 1;

/// Data that somebody wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Block of the layer 1 whose inbox holds the commitment.
    pub l1_block: u64,
    /// The commitment: a zero byte and a keccak256.
    pub commitment: Bytes,
}

impl Layer1 {
    /// Demands the data behind a commitment, with the bond that the contract wants for it.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn demand(&self, node: &dyn Node, demand: &Demand) -> Result<Call, Error> {
        let at = self.data_availability_challenge;
        let bond = view(node, at, bondSizeCall {}).await?;
        let call = challengeCall {
            challengedBlockNumber: U256::from(demand.l1_block),
            challengedCommitment: demand.commitment.clone(),
        };
        Ok(Call::new(at, call.abi_encode()).with_value(wei("bondSize", bond)?))
    }

    /// Shows the data. Nodes read it from the transaction itself, so it must be sent by a wallet and
    /// not through a contract.
    #[must_use]
    pub fn show(&self, demand: &Demand, data: Bytes) -> Call {
        let call = resolveCall {
            challengedBlockNumber: U256::from(demand.l1_block),
            challengedCommitment: demand.commitment.clone(),
            resolveData: data,
        };
        Call::new(self.data_availability_challenge, call.abi_encode())
    }

    /// What was demanded in blocks `from..=to`.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn demanded(
        &self,
        node: &dyn Node,
        from: u64,
        to: u64,
    ) -> Result<Vec<Demand>, Error> {
        let at = self.data_availability_challenge;
        let mut demands = Vec::new();
        for log in node.logs(&[at], from, to).await? {
            let Ok(event) = ChallengeStatusChanged::decode_log(&log.inner) else {
                continue;
            };
            if event.status == ACTIVE {
                demands.push(Demand {
                    // The contract takes no block above the newest.
                    l1_block: event.challengedBlockNumber.saturating_to(),
                    commitment: event.challengedCommitment.clone(),
                });
            }
        }
        Ok(demands)
    }

    /// Whether data is demanded and can still be shown.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn is_open(&self, node: &dyn Node, demand: &Demand) -> Result<bool, Error> {
        let asked = getChallengeStatusCall {
            challengedBlockNumber: U256::from(demand.l1_block),
            challengedCommitment: demand.commitment.clone(),
        };
        Ok(view(node, self.data_availability_challenge, asked).await? == ACTIVE)
    }
}
