//! The money recomputed from the chain alone: no file of this node is read.

use std::fmt;
use std::sync::Arc;

use openledger_chain::money::{Flow, recompute};
use openledger_chain::{Deployment, Follower, HttpNode, Node, Reader};
use openledger_primitives::{Address, Wei};
use serde::Serialize;

use crate::wallets::{DevWallets, Role};
use crate::{Error, Result};

/// The chain's own account of all money.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Chain id.
    pub chain_id: u64,
    /// Last block that was read.
    pub block: u64,
    /// Events of our contracts.
    pub events: u64,
    /// Posted epochs.
    pub epochs: u64,
    /// Wallets that were paid.
    pub earners: u64,
    /// Where every deposited wei is.
    pub flow: Flow,
    /// Bonds in the contracts.
    pub bonds: Wei,
    /// Burned.
    pub burned: Wei,
    /// Paid to earners, by wallet, highest first.
    pub claimed: Vec<(Address, Wei)>,
    /// Whether the logs explain the contracts' balances to the wei.
    pub balanced: bool,
    /// What does not balance.
    pub problem: Option<String>,
}

/// Audits the dev network behind the JSON-RPC at `rpc`.
///
/// # Errors
/// If the chain cannot be read, or is not a dev network: elsewhere the deployer is unknown.
pub async fn audit(rpc: &str) -> Result<Audit> {
    let node: Arc<dyn Node> = Arc::new(HttpNode::new(rpc)?);
    let chain_id = node.chain_id().await?;
    let deployer = DevWallets::new(chain_id)?.address(Role::Deployer);
    let deployment = Deployment::expected(chain_id, deployer, 0);
    if node.code(deployment.settlement).await?.is_empty() {
        return Err(Error::not_found(
            "InferenceSettlement contract at",
            deployment.settlement,
        ));
    }
    run(node, deployment).await
}

pub(crate) async fn run(node: Arc<dyn Node>, deployment: Deployment) -> Result<Audit> {
    let mut follower = Follower::new(Arc::clone(&node), deployment, 0);
    let events = follower.catch_up().await?;
    let block = follower.next_block().saturating_sub(1);
    let ledger = recompute(&events)?;
    let reader = Reader::new(node, deployment);
    let problem = ledger
        .verify(&reader, block)
        .await
        .err()
        .map(|error| error.to_string());
    let bonds = Wei::total(
        ledger
            .settler_bonds
            .values()
            .chain(ledger.contribution_bonds.values())
            .copied(),
    )?;
    let mut claimed: Vec<(Address, Wei)> = ledger
        .claimed
        .iter()
        .map(|(address, wei)| (*address, *wei))
        .collect();
    claimed.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    Ok(Audit {
        chain_id: deployment.chain_id,
        block,
        events: events.len() as u64,
        epochs: ledger.epochs.len() as u64,
        earners: claimed.len() as u64,
        flow: ledger.flow()?,
        bonds,
        burned: ledger.burned,
        claimed,
        balanced: problem.is_none(),
        problem,
    })
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "chain {} up to block {}: {} events, {} epochs, {} wallets paid",
            self.chain_id, self.block, self.events, self.epochs, self.earners
        )?;
        writeln!(
            f,
            "in   deposited by payers  {:>28} OPEN",
            self.flow.deposited.open()
        )?;
        for (what, amount) in [
            ("claimed by earners", self.flow.claimed),
            ("claimable", self.flow.claimable),
            ("in the challenge window", self.flow.pending),
            ("not spent", self.flow.unspent),
            ("taken back by payers", self.flow.withdrawn),
        ] {
            writeln!(f, "out  {what:<24} {:>24} OPEN", amount.open())?;
        }
        writeln!(
            f,
            "     bonds held {} OPEN, burned {} OPEN",
            self.bonds.open(),
            self.burned.open()
        )?;
        match &self.problem {
            None => writeln!(
                f,
                "in = out, and the contracts hold exactly what their logs say"
            ),
            Some(problem) => writeln!(f, "DOES NOT BALANCE: {problem}"),
        }
    }
}
