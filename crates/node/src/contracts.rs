//! The node's hand on the chain: every intention is sent at most once.
//!
//! A transaction has a name of its own in the outbox (`anchor/0x..`, `post/7/0x..`) and is signed
//! once under it. So each method here may be called again after a crash, or twice by mistake, and
//! still happens once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_signer_local::PrivateKeySigner;
use futures::future::try_join_all;
use openledger_chain::{
    Call, Decoder, Deployment, Event, FeeSplit, Genesis, HttpNode, MemoryOutbox, Outbox, Reader,
    Receipt, Sender, SenderConfig, VersionRef, signing,
};
use openledger_datanet::records::Batch;
use openledger_primitives::records::{
    Adapter, DatasetVersion, EpochSettlement, InferenceReceipt, Parameters, TrainingRun, Voucher,
};
use openledger_primitives::{Address, B256, Bytes, Record as _, Wei, keccak256};
use openledger_settlement::CumulativeProof;
use openledger_store::Catalogue;

use crate::base_model::BaseModel;
use crate::wallets::{DevWallets, Role};
use crate::{Error, Result};

/// Deposit of the dev payer: enough for a long afternoon of questions.
const DEV_DEPOSIT: Wei = Wei::new(100 * Wei::OPEN.get());
/// Below this the dev payer deposits again at the next start.
const DEV_DEPOSIT_LOW: Wei = Wei::new(10 * Wei::OPEN.get());
/// Gas of a claim, with room: claims at depth 30 measure below 80,000.
const CLAIM_GAS: u64 = 160_000;
/// Pause between two looks at the chain's clock.
const CLOCK_POLL: Duration = Duration::from_millis(100);

/// The contracts with the keys that may call them.
pub(crate) struct Contracts {
    node: Arc<dyn openledger_chain::Node>,
    sender: Sender,
    reader: Reader,
    deployment: Deployment,
    parameters: Parameters,
}

impl std::fmt::Debug for Contracts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contracts")
            .field("deployment", &self.deployment)
            .finish_non_exhaustive()
    }
}

/// An anchored batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchored {
    pub(crate) batch: u64,
    pub(crate) tx: B256,
}

/// A registered model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered {
    pub(crate) id: u64,
    pub(crate) tx: B256,
}

/// The outbox inside the catalogue: durable before anything leaves the process.
struct CatalogueOutbox(Catalogue);

const OUTBOX: &str = "outbox";

impl Outbox for CatalogueOutbox {
    fn get(&self, key: &str) -> Result<Option<Bytes>, openledger_chain::Error> {
        self.0.get(OUTBOX, key).map_err(outbox_error)
    }

    fn put(&self, key: &str, raw: &Bytes) -> Result<(), openledger_chain::Error> {
        self.0
            .write(|tx| tx.put(OUTBOX, key, raw))
            .map_err(outbox_error)
    }

    fn remove(&self, key: &str) -> Result<(), openledger_chain::Error> {
        self.0
            .write(|tx| tx.remove(OUTBOX, key))
            .map_err(outbox_error)
    }
}

fn outbox_error(error: openledger_store::Error) -> openledger_chain::Error {
    openledger_chain::Error::Outbox {
        context: "the catalogue".into(),
        source: std::io::Error::other(error),
    }
}

impl Contracts {
    /// Deploys the contracts where they are missing, and funds the roles that need it.
    pub(crate) async fn open(
        rpc: &str,
        wallets: &DevWallets,
        catalogue: &Catalogue,
    ) -> Result<Self> {
        let node: Arc<dyn openledger_chain::Node> = Arc::new(HttpNode::new(rpc)?);
        let outbox: Arc<dyn Outbox> = Arc::new(CatalogueOutbox(catalogue.clone()));
        let signers = Role::ALL.map(|role| wallets.role(role));
        let sender =
            Sender::new(Arc::clone(&node), signers, outbox, SenderConfig::default()).await?;
        let genesis = Genesis::dev(
            wallets.address(Role::Governor),
            wallets.address(Role::Treasury),
            &[wallets.address(Role::Operator)],
            wallets.address(Role::Guardian),
        );
        let deployer = wallets.address(Role::Deployer);
        let deployment = openledger_chain::deploy(&sender, deployer, 0, &genesis).await?;
        let reader = Reader::new(Arc::clone(&node), deployment);
        let parameters = reader.parameters().await?;
        let contracts = Self {
            node,
            sender,
            reader,
            deployment,
            parameters,
        };
        contracts.fund(wallets, genesis.settler_bond).await?;
        Ok(contracts)
    }

    /// The payer's deposit and the settler's bond.
    async fn fund(&self, wallets: &DevWallets, settler_bond: Wei) -> Result<()> {
        let payer = wallets.address(Role::Payer);
        let info = self.reader.payer(payer).await?;
        if info.balance() < DEV_DEPOSIT_LOW {
            // Named by what was there before, so that each top-up happens once.
            let key = format!("deposit/{payer}/{}", info.deposited);
            self.sender
                .send_once(&key, payer, &self.deployment.deposit(DEV_DEPOSIT))
                .await?;
        }
        let operator = wallets.address(Role::Operator);
        let bond = self.reader.settler_bond(operator).await?;
        if bond < settler_bond {
            let key = format!("bond/{operator}/{bond}");
            let missing = settler_bond.checked_sub(bond)?;
            self.sender
                .send_once(&key, operator, &self.deployment.bond(missing))
                .await?;
        }
        Ok(())
    }

    pub(crate) const fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    pub(crate) const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) const fn anchor_address(&self) -> Address {
        self.deployment.anchor
    }

    // --- Datanets ---

    /// Creates a Datanet; `schema` names it, so that the same one is not made twice.
    pub(crate) async fn create_datanet(
        &self,
        curator: &PrivateKeySigner,
        name: &str,
        licence: &str,
        policy: B256,
        schema: &str,
    ) -> Result<u64> {
        let fee = Wei::new(self.parameters.datanetFee);
        let call = self
            .deployment
            .create_datanet(name, licence, policy, schema, fee);
        let key = format!("datanet/{}", keccak256(schema));
        let receipt = self
            .sender
            .send_once(&key, curator.address(), &call)
            .await?;
        self.find(&receipt, |event| match event {
            Event::DatanetCreated(created) => Some(created.datanet),
            _ => None,
        })
    }

    pub(crate) async fn commons_of(&self, datanet: u64) -> Result<Address> {
        Ok(self.reader.commons(datanet).await?)
    }

    /// Makes sure that the curator's free bond covers `leaves` more contributions.
    pub(crate) async fn ensure_bond(&self, curator: &PrivateKeySigner, leaves: u64) -> Result<()> {
        let account = curator.address();
        let needed = Wei::new(self.parameters.contributionBond).mul_u64(leaves)?;
        let (total, locked) = self.reader.contribution_bond(account).await?;
        let free = total.checked_sub(locked)?;
        if free < needed {
            let call = self
                .deployment
                .deposit_contribution_bond(needed.checked_sub(free)?);
            let key = format!("contribution-bond/{account}/{total}/{needed}");
            self.sender.send_once(&key, account, &call).await?;
        }
        Ok(())
    }

    /// Commits to a batch's contents; returns the block that holds the commitment.
    pub(crate) async fn commit(&self, curator: &PrivateKeySigner, commitment: B256) -> Result<u64> {
        let key = format!("commit/{commitment}");
        let call = self.deployment.commit(commitment);
        self.sender
            .send_once(&key, curator.address(), &call)
            .await?;
        let (block, _) = self.reader.commitment(commitment).await?;
        block.ok_or_else(|| Error::not_found("commitment", commitment))
    }

    /// Anchors a signed batch.
    pub(crate) async fn anchor(
        &self,
        curator: &PrivateKeySigner,
        datanet: u64,
        batch: &Batch,
        commitment: B256,
        da_ref: B256,
        salt: B256,
    ) -> Result<Anchored> {
        let call = self.deployment.anchor(
            datanet,
            batch.root(),
            batch.contents.root(),
            batch.signed.len() as u64,
            batch.bytes(),
            da_ref,
            salt,
        );
        let key = format!("anchor/{commitment}");
        let receipt = self
            .sender
            .send_once(&key, curator.address(), &call)
            .await?;
        let batch = self.find(&receipt, |event| match event {
            Event::Anchored(anchored) => Some(anchored.batch),
            _ => None,
        })?;
        Ok(Anchored {
            batch,
            tx: receipt.tx,
        })
    }

    /// Publishes a version; returns the transaction.
    pub(crate) async fn publish_version(
        &self,
        curator: &PrivateKeySigner,
        version: &DatasetVersion,
    ) -> Result<B256> {
        let call = self.deployment.publish_version(version);
        let key = format!("version/{}", version.digest());
        Ok(self
            .sender
            .send_once(&key, curator.address(), &call)
            .await?
            .tx)
    }

    /// Releases the bonds of batches whose challenge window is over.
    pub(crate) async fn release_bonds(
        &self,
        curator: &PrivateKeySigner,
        batches: &[u64],
    ) -> Result<()> {
        let now = self.node.head().await?.timestamp;
        for &number in batches {
            let batch = self.reader.batch(number).await?;
            if !batch.finalised && batch.challenge_until < now {
                let key = format!("finalise-batch/{number}");
                let call = self.deployment.finalise_batch(number);
                self.sender
                    .send_once(&key, curator.address(), &call)
                    .await?;
            }
        }
        Ok(())
    }

    // --- models ---

    /// Registers the base if it is not yet, for the model owner.
    pub(crate) async fn register_base(
        &self,
        wallets: &DevWallets,
        base: &BaseModel,
    ) -> Result<Registered> {
        let owner = wallets.address(Role::ModelOwner);
        let fee = Wei::new(self.parameters.registrationFee);
        let (root, tokenizer) = (base.weights_root, base.tokenizer_root);
        let call = self
            .deployment
            .register_base(root, tokenizer, &base.name, fee);
        let key = format!("base/{root}");
        let receipt = self.sender.send_once(&key, owner, &call).await?;
        let id = self.model_id(root).await?;
        Ok(Registered { id, tx: receipt.tx })
    }

    /// Registers an adapter with its lineage.
    pub(crate) async fn register_adapter(
        &self,
        wallets: &DevWallets,
        base: &BaseModel,
        adapter: &Adapter,
        run: &TrainingRun,
        (datanet, number): (u64, u64),
    ) -> Result<Registered> {
        let base = self.register_base(wallets, base).await?;
        let call = self.deployment.register_adapter(
            base.id,
            adapter,
            run,
            &[VersionRef { datanet, number }],
            &FeeSplit::of(&self.parameters),
            Wei::new(self.parameters.registrationFee),
        );
        let digest = adapter.digest();
        let key = format!("adapter/{digest}");
        let owner = wallets.address(Role::ModelOwner);
        let receipt = self.sender.send_once(&key, owner, &call).await?;
        let id = self.model_id(digest).await?;
        Ok(Registered { id, tx: receipt.tx })
    }

    async fn model_id(&self, digest: B256) -> Result<u64> {
        let id = self.reader.model_id(digest).await?;
        id.ok_or_else(|| Error::not_found("registered model", digest))
    }

    // --- money ---

    /// What a payer has deposited, less what it took back. Settled debits are not subtracted.
    pub(crate) async fn deposit_of(&self, payer: Address) -> Result<Wei> {
        Ok(self.reader.payer(payer).await?.balance())
    }

    /// Deposits for anybody, from the dev faucet.
    pub(crate) async fn deposit_for(
        &self,
        wallets: &DevWallets,
        payer: Address,
        amount: Wei,
    ) -> Result<()> {
        let call = self.deployment.deposit_for(payer, amount);
        self.sender
            .send(wallets.address(Role::Faucet), &call)
            .await?;
        Ok(())
    }

    pub(crate) fn sign_voucher(
        &self,
        key: &PrivateKeySigner,
        voucher: &Voucher,
    ) -> Result<Vec<u8>> {
        Ok(signing::sign(key, voucher, &self.deployment.settlement_domain())?.to_vec())
    }

    pub(crate) fn voucher_signer(&self, voucher: &Voucher, signature: &[u8]) -> Result<Address> {
        signing::recover(voucher, &self.deployment.settlement_domain(), signature).map_err(
            |error| Error::BadVoucher {
                code: "bad_signature",
                message: error.to_string(),
            },
        )
    }

    pub(crate) fn sign_receipt(
        &self,
        key: &PrivateKeySigner,
        receipt: &InferenceReceipt,
    ) -> Result<Vec<u8>> {
        Ok(signing::sign(key, receipt, &self.deployment.settlement_domain())?.to_vec())
    }

    pub(crate) fn receipt_signer(
        &self,
        receipt: &InferenceReceipt,
        signature: &[u8],
    ) -> Result<Address> {
        Ok(signing::recover(
            receipt,
            &self.deployment.settlement_domain(),
            signature,
        )?)
    }

    /// Posts an epoch; returns the transaction.
    pub(crate) async fn post(
        &self,
        operator: &PrivateKeySigner,
        settlement: &EpochSettlement,
    ) -> Result<B256> {
        let key = format!("post/{}/{}", settlement.epoch, settlement.digest());
        let call = self.deployment.post(settlement);
        Ok(self
            .sender
            .send_once(&key, operator.address(), &call)
            .await?
            .tx)
    }

    /// Waits until the chain's clock has passed an epoch's window, then makes it final.
    pub(crate) async fn finalise(&self, operator: &PrivateKeySigner, epoch: u64) -> Result<()> {
        if self.reader.final_epoch().await? >= epoch {
            return Ok(());
        }
        let until = self.reader.posting(epoch).await?.challenge_until;
        while self.node.head().await?.timestamp <= until {
            tokio::time::sleep(CLOCK_POLL).await;
        }
        let key = format!("finalise/{epoch}");
        let call = self.deployment.finalise_epoch();
        self.sender
            .send_once(&key, operator.address(), &call)
            .await?;
        Ok(())
    }

    pub(crate) async fn claimed_of(&self, earner: Address) -> Result<Wei> {
        Ok(self.reader.claimed(earner).await?)
    }

    /// Claims for every proof: by the earner's own key where there is one, by the faucet for
    /// contracts such as a Datanet's commons. Returns what each was paid, and the transaction.
    pub(crate) async fn claim_all(
        &self,
        wallets: &DevWallets,
        proofs: &[CumulativeProof],
        signers: &[Option<PrivateKeySigner>],
    ) -> Result<Vec<(Address, Wei, B256)>> {
        let before: BTreeMap<Address, Wei> = try_join_all(proofs.iter().map(|proof| async {
            Ok::<_, Error>((proof.account, self.claimed_of(proof.account).await?))
        }))
        .await?
        .into_iter()
        .collect();
        let own: Vec<PrivateKeySigner> = signers.iter().flatten().cloned().collect();
        self.lend_gas(wallets, &own).await?;
        // Claims need no outbox: the contract pays the difference to what it paid before.
        let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
        let config = SenderConfig::default();
        let earners = Sender::new(Arc::clone(&self.node), own, outbox, config).await?;
        let faucet = wallets.address(Role::Faucet);
        try_join_all(proofs.iter().zip(signers).map(|(proof, signer)| {
            let call = self
                .deployment
                .claim(
                    proof.account,
                    proof.cumulative.get(),
                    proof.index,
                    &proof.siblings,
                )
                .with_gas(CLAIM_GAS);
            let earners = &earners;
            let paid_before = before.get(&proof.account).copied().unwrap_or_default();
            async move {
                let receipt = match signer {
                    Some(signer) => earners.send(signer.address(), &call).await?,
                    None => self.sender.send(faucet, &call).await?,
                };
                Ok((
                    proof.account,
                    proof.cumulative.checked_sub(paid_before)?,
                    receipt.tx,
                ))
            }
        }))
        .await
    }

    /// Gives every wallet that could not pay for its claim the gas for it.
    async fn lend_gas(&self, wallets: &DevWallets, signers: &[PrivateKeySigner]) -> Result<()> {
        let fees = self.node.fees().await?;
        // Twice what one claim can cost, so that a rising base fee does not strand anybody.
        let enough = Wei::new(fees.max_fee).mul_u64(CLAIM_GAS)?.mul_u64(2)?;
        let balances = try_join_all(
            signers
                .iter()
                .map(|signer| self.node.balance(signer.address(), None)),
        )
        .await?;
        let calls: Vec<Call> = signers
            .iter()
            .zip(balances)
            .filter(|(_, balance)| *balance < enough)
            .map(|(signer, _)| {
                Call::new(signer.address(), Bytes::new())
                    .with_value(enough)
                    .with_gas(21_000)
            })
            .collect();
        self.sender
            .send_all(wallets.address(Role::Faucet), &calls)
            .await?;
        Ok(())
    }

    /// Our events in a receipt, the first that `pick` wants.
    fn find<T>(&self, receipt: &Receipt, pick: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let mut decoder = Decoder::new(self.deployment);
        for log in &receipt.logs {
            if let Some(located) = decoder.decode(log)?
                && let Some(found) = pick(&located.event)
            {
                return Ok(found);
            }
        }
        Err(Error::not_found("event in transaction", receipt.tx))
    }

    /// The chain's own account of the money, rebuilt from logs and compared with the balances.
    pub(crate) async fn audit(&self) -> Result<crate::Audit> {
        crate::audit::run(Arc::clone(&self.node), self.deployment).await
    }
}
