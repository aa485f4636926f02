//! Sending transactions: one queue an account, nonces in order, each transaction at most once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{SignableTransaction, Transaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bytes, TxKind, keccak256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use futures::future;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::node::{Call, Node, Receipt};
use crate::{Error, Outbox};

/// How patient a [`Sender`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderConfig {
    /// Pause between two questions for a receipt.
    pub poll: Duration,
    /// After this a transaction is submitted again, in case the node's mempool lost it.
    pub resubmit: Duration,
    /// After this waiting ends with [`Error::NotMined`].
    pub timeout: Duration,
    /// Added to the node's gas estimates, percent: state may change before the transaction runs.
    pub gas_margin_percent: u64,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(50),
            resubmit: Duration::from_secs(5),
            timeout: Duration::from_secs(120),
            gas_margin_percent: 25,
        }
    }
}

struct Account {
    signer: PrivateKeySigner,
    /// The next nonce, once known. Held while a transaction is built and submitted, so that
    /// transactions of one account reach the node in nonce order.
    next: Mutex<Option<u64>>,
}

/// Sends transactions of a set of accounts.
///
/// Two transactions of one account are submitted one after the other but mined together; callers
/// that need no order may await many at once.
pub struct Sender {
    node: Arc<dyn Node>,
    chain_id: u64,
    accounts: BTreeMap<Address, Account>,
    outbox: Arc<dyn Outbox>,
    config: SenderConfig,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("chain_id", &self.chain_id)
            .field("accounts", &self.accounts.keys())
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender for `signers` on the chain behind `node`.
    ///
    /// # Errors
    /// [`Error::Node`] if the node does not tell its chain id.
    pub async fn new(
        node: Arc<dyn Node>,
        signers: impl IntoIterator<Item = PrivateKeySigner>,
        outbox: Arc<dyn Outbox>,
        config: SenderConfig,
    ) -> Result<Self, Error> {
        let chain_id = node.chain_id().await?;
        let accounts = signers
            .into_iter()
            .map(|signer| {
                (
                    signer.address(),
                    Account {
                        signer,
                        next: Mutex::new(None),
                    },
                )
            })
            .collect();
        Ok(Self {
            node,
            chain_id,
            accounts,
            outbox,
            config,
        })
    }

    /// The node behind it.
    pub fn node(&self) -> &Arc<dyn Node> {
        &self.node
    }

    /// The chain id that transactions are signed for.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The key of `account`.
    ///
    /// # Errors
    /// [`Error::NoSigner`].
    pub fn signer(&self, account: Address) -> Result<&PrivateKeySigner, Error> {
        self.account(account).map(|a| &a.signer)
    }

    /// Asks the node for the next nonce of `account` again, instead of counting on. For a caller
    /// that has nothing on its way, after the chain took back transactions that were mined.
    ///
    /// # Errors
    /// [`Error::NoSigner`].
    pub async fn forget_nonce(&self, account: Address) -> Result<(), Error> {
        *self.account(account)?.next.lock().await = None;
        Ok(())
    }

    /// Sends a call and waits until it is mined.
    ///
    /// After a crash nothing remembers it: use [`Self::send_once`] where doubling would hurt.
    ///
    /// # Errors
    /// [`Error::Reverted`] before sending, [`Error::Failed`] after mining, [`Error::NotMined`], or
    /// the node's.
    pub async fn send(&self, from: Address, call: &Call) -> Result<Receipt, Error> {
        let (hash, raw) = self.sign_and_submit(from, call, None).await?;
        self.settle(from, call, hash, raw).await
    }

    /// Sends a call under `key` at most once, however often this is called and whatever crashes in
    /// between, and waits until it is mined. Keys are the caller's names for one intention each.
    ///
    /// A call that failed on chain stays failed under its key. One whose nonce another transaction
    /// took, so that it can never be mined, is signed anew.
    ///
    /// # Errors
    /// As [`Self::send`], and the outbox's.
    pub async fn send_once(&self, key: &str, from: Address, call: &Call) -> Result<Receipt, Error> {
        let (hash, raw) = match self.remembered(key).await? {
            Some(sent) => sent,
            None => self.sign_and_submit(from, call, Some(key)).await?,
        };
        self.settle(from, call, hash, raw).await
    }

    /// Sends calls of one account in order, without waiting for one before the next, then waits for
    /// all. Calls that depend on an earlier one in the list need their own gas limit.
    ///
    /// # Errors
    /// The first one of [`Self::send`]; earlier calls stay sent.
    pub async fn send_all(&self, from: Address, calls: &[Call]) -> Result<Vec<Receipt>, Error> {
        let mut sent = Vec::with_capacity(calls.len());
        for call in calls {
            sent.push((call, self.sign_and_submit(from, call, None).await?));
        }
        let waits = sent
            .into_iter()
            .map(|(call, (hash, raw))| self.settle(from, call, hash, raw));
        future::try_join_all(waits).await
    }

    fn account(&self, address: Address) -> Result<&Account, Error> {
        self.accounts.get(&address).ok_or(Error::NoSigner(address))
    }

    /// The transaction that the outbox holds under `key`, back in the mempool or mined. One that
    /// can never be mined is forgotten.
    async fn remembered(&self, key: &str) -> Result<Option<(B256, Bytes)>, Error> {
        let Some(raw) = self.outbox.get(key)? else {
            return Ok(None);
        };
        match self.resubmit(key, &raw).await? {
            Some(hash) => Ok(Some((hash, raw))),
            None => {
                self.outbox.remove(key)?;
                Ok(None)
            }
        }
    }

    async fn sign_and_submit(
        &self,
        from: Address,
        call: &Call,
        key: Option<&str>,
    ) -> Result<(B256, Bytes), Error> {
        let account = self.account(from)?;
        let gas_limit = match call.gas {
            Some(gas) => gas,
            None => {
                let gas = self.node.estimate(from, call).await?;
                let margin = gas.saturating_mul(self.config.gas_margin_percent) / 100;
                gas.saturating_add(margin)
            }
        };
        let fees = self.node.fees().await?;

        let mut next = account.next.lock().await;
        if let Some(key) = key
            && let Some(sent) = self.remembered(key).await?
        {
            // Another caller with the same key was quicker.
            return Ok(sent);
        }
        let mut stale = false;
        loop {
            let pending = self.node.nonce(from, true).await?;
            let nonce = if stale {
                pending
            } else {
                next.map_or(pending, |n| n.max(pending))
            };
            let tx = TxEip1559 {
                chain_id: self.chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: fees.max_fee,
                max_priority_fee_per_gas: fees.max_priority_fee,
                to: call.to.map_or(TxKind::Create, TxKind::Call),
                value: call.value.into(),
                input: call.data.clone(),
                ..TxEip1559::default()
            };
            let raw = sign(tx, &account.signer)?;
            if let Some(key) = key {
                self.outbox.put(key, &raw)?;
            }
            match self.node.submit(raw.clone()).await {
                Ok(hash) => {
                    *next = Some(nonce.saturating_add(1));
                    tracing::debug!(%hash, %from, nonce, "transaction submitted");
                    return Ok((hash, raw));
                }
                // The node's count moved on: another program uses the account.
                Err(Error::Refused { message, .. })
                    if !stale && message.contains("nonce too low") =>
                {
                    stale = true;
                }
                Err(error) => {
                    // What the node judged and refused can never run, so the key is free again.
                    // After any other error the bytes may have arrived: they stay.
                    if let (Some(key), Error::Refused { .. }) = (key, &error) {
                        self.outbox.remove(key)?;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Puts a transaction of the outbox back into the mempool unless it is mined, and gives its
    /// hash; `None` if it can never be mined, because another transaction took its nonce.
    async fn resubmit(&self, key: &str, raw: &Bytes) -> Result<Option<B256>, Error> {
        let bad = |reason: String| Error::BadOutboxEntry {
            key: key.to_owned(),
            reason,
        };
        let tx = TxEnvelope::decode_2718(&mut raw.as_ref()).map_err(|e| bad(e.to_string()))?;
        let account = tx.recover_signer().map_err(|e| bad(e.to_string()))?;
        let hash = keccak256(raw);
        if self.node.receipt(hash).await?.is_some() {
            return Ok(Some(hash));
        }
        if tx.nonce() >= self.node.nonce(account, false).await? {
            return self.node.submit(raw.clone()).await.map(Some);
        }
        // Mined between the two questions, or lost. Nodes behind one URL may differ by a block, and
        // a wrong answer here would send twice: wait before giving the transaction up.
        let begun = Instant::now();
        while begun.elapsed() < self.config.resubmit {
            sleep(self.config.poll).await;
            if self.node.receipt(hash).await?.is_some() {
                return Ok(Some(hash));
            }
        }
        tracing::warn!(%hash, %account, nonce = tx.nonce(), key, "nonce taken by another transaction, signing anew");
        Ok(None)
    }

    async fn settle(
        &self,
        from: Address,
        call: &Call,
        hash: B256,
        raw: Bytes,
    ) -> Result<Receipt, Error> {
        let begun = Instant::now();
        let mut submitted = begun;
        let receipt = loop {
            if let Some(receipt) = self.node.receipt(hash).await? {
                break receipt;
            }
            if begun.elapsed() >= self.config.timeout {
                // If the node lost it for good, later transactions must not wait behind its nonce.
                *self.account(from)?.next.lock().await = None;
                return Err(Error::NotMined {
                    hash,
                    seconds: self.config.timeout.as_secs(),
                });
            }
            if submitted.elapsed() >= self.config.resubmit {
                submitted = Instant::now();
                if let Err(error) = self.node.submit(raw.clone()).await {
                    tracing::debug!(%hash, %error, "resubmitting");
                }
            }
            sleep(self.config.poll).await;
        };
        if receipt.success {
            return Ok(receipt);
        }
        // The receipt does not say why; the same call on the newest state mostly does.
        let reason = match self.node.call(Some(from), call).await {
            Err(Error::Reverted { reason }) => reason,
            _ => format!(
                "reverted in block {} using {} gas",
                receipt.block, receipt.gas_used
            ),
        };
        Err(Error::Failed { hash, reason })
    }
}

/// The signed transaction in its network encoding (EIP-2718).
fn sign(tx: TxEip1559, signer: &PrivateKeySigner) -> Result<Bytes, Error> {
    let signature = signer
        .sign_hash_sync(&tx.signature_hash())
        .map_err(|e| Error::Signing(e.to_string()))?;
    Ok(TxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into())
}
