//! Sending transactions: one queue an account, nonces in order, each transaction at most once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy_consensus::Transaction;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_primitives::Address;
use alloy_signer_local::PrivateKeySigner;
use futures::future;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::node::{Call, Fees, Node, Receipt};
use crate::replace::Offer;
use crate::version::{Version, envelope, unsigned};
use crate::{Error, Outbox, Replacement};

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
    /// When and how far fees are raised; `None` leaves them as they were first.
    pub replacement: Option<Replacement>,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(50),
            resubmit: Duration::from_secs(5),
            timeout: Duration::from_secs(120),
            gas_margin_percent: 25,
            replacement: None,
        }
    }
}

/// A transaction on its way: versions of one nonce, the newest last, of which one can be mined.
struct Sent {
    nonce: u64,
    versions: Vec<Version>,
}

impl Sent {
    fn newest(&self) -> &Version {
        self.versions.last().expect("made with one version")
    }
}

struct Account {
    signer: PrivateKeySigner,
    /// The next nonce, once known. Held while a transaction is built and submitted, so that
    /// transactions of one account reach the node in nonce order.
    next: Mutex<Option<u64>>,
}

/// Whether a mempool refused what has no blobs because blobs wait: geth and reth in turn.
fn wants_blobs(message: &str) -> bool {
    message.contains("already reserved") || message.contains("conflicts with existing transaction")
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
        let sent = self.sign_and_submit(from, call, None).await?;
        self.settle(from, call, None, sent).await
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
        let sent = match self.remembered(key).await? {
            Some(sent) => sent,
            None => self.sign_and_submit(from, call, Some(key)).await?,
        };
        self.settle(from, call, Some(key), sent).await
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
            .map(|(call, sent)| self.settle(from, call, None, sent));
        future::try_join_all(waits).await
    }

    /// Gets `account` out of a nonce at which a transaction waits that nobody remembers: replaces
    /// it by an empty transfer to the account itself, and waits until one of the two is mined. Does
    /// nothing where none waits. Mempools let blobs be replaced by blobs alone: where one says so,
    /// the transfer carries `blobs`.
    ///
    /// # Errors
    /// [`Error::NotMined`], [`Error::Refused`] where the limit on fees is too low for a replacement,
    /// or the node's.
    pub async fn free_nonce(
        &self,
        account: Address,
        blobs: Option<Arc<BlobTransactionSidecarEip7594>>,
    ) -> Result<(), Error> {
        let signer = &self.account(account)?.signer;
        let rule = self.config.replacement.unwrap_or_default();
        let nonce = self.node.nonce(account, false).await?;
        if self.node.nonce(account, true).await? <= nonce {
            return Ok(());
        }
        let mut nothing = Call {
            to: Some(account),
            ..Call::default()
        };
        let mut offer = self.offer(&nothing).await?;
        let version = loop {
            let tx = unsigned(&nothing, self.chain_id, nonce, 21_000, offer)?;
            let version = Version::sign(tx, signer)?;
            match self.node.submit(version.raw.clone()).await {
                Ok(_) => break version,
                Err(Error::Refused { message, .. }) if message.contains("nonce too low") => {
                    return Ok(());
                }
                Err(Error::Refused { message, .. })
                    if nothing.blobs.is_none() && blobs.is_some() && wants_blobs(&message) =>
                {
                    nothing.blobs.clone_from(&blobs);
                    offer = self.offer(&nothing).await?;
                }
                // What waits is not known, so neither is what it pays.
                Err(Error::Refused { method, message }) if message.contains("underpriced") => {
                    let doubled = Offer {
                        fees: Fees {
                            max_fee: offer.fees.max_fee.saturating_mul(2),
                            max_priority_fee: offer.fees.max_priority_fee.saturating_mul(2),
                        },
                        blob_fee: offer.blob_fee.map(|fee| fee.saturating_mul(2)),
                    };
                    let raised = rule.raised(offer, doubled);
                    offer = raised.ok_or(Error::Refused { method, message })?;
                }
                Err(error) => return Err(error),
            }
        };
        tracing::warn!(%account, nonce, hash = %version.hash, "an unknown transaction waits; replacing it");
        let begun = Instant::now();
        while self.node.nonce(account, false).await? <= nonce {
            if begun.elapsed() >= self.config.timeout {
                return Err(Error::NotMined {
                    hash: version.hash,
                    seconds: self.config.timeout.as_secs(),
                });
            }
            sleep(self.config.poll).await;
        }
        Ok(())
    }

    fn account(&self, address: Address) -> Result<&Account, Error> {
        self.accounts.get(&address).ok_or(Error::NoSigner(address))
    }

    /// The transaction that the outbox holds under `key`, back in the mempool or mined. One that
    /// can never be mined is forgotten.
    async fn remembered(&self, key: &str) -> Result<Option<Sent>, Error> {
        let mut versions = Vec::new();
        while let Some(raw) = self.outbox.get(&version_key(key, versions.len()))? {
            versions.push(Version::read(key, raw)?);
        }
        let Some(first) = versions.first() else {
            return Ok(None);
        };
        let nonce = first.tx.nonce();
        let sent = Sent { nonce, versions };
        if self.revive(key, &sent).await? {
            return Ok(Some(sent));
        }
        for index in (0..sent.versions.len()).rev() {
            self.outbox.remove(&version_key(key, index))?;
        }
        Ok(None)
    }

    async fn sign_and_submit(
        &self,
        from: Address,
        call: &Call,
        key: Option<&str>,
    ) -> Result<Sent, Error> {
        let account = self.account(from)?;
        let gas_limit = match call.gas {
            Some(gas) => gas,
            None => {
                let gas = self.node.estimate(from, call).await?;
                let margin = gas.saturating_mul(self.config.gas_margin_percent) / 100;
                gas.saturating_add(margin)
            }
        };
        let offer = self.offer(call).await?;

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
            let tx = unsigned(call, self.chain_id, nonce, gas_limit, offer)?;
            let version = Version::sign(tx, &account.signer)?;
            if let Some(key) = key {
                self.outbox.put(key, &version.raw)?;
            }
            match self.node.submit(version.raw.clone()).await {
                Ok(_) => {
                    *next = Some(nonce.saturating_add(1));
                    tracing::debug!(hash = %version.hash, %from, nonce, "transaction submitted");
                    return Ok(Sent {
                        nonce,
                        versions: vec![version],
                    });
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

    /// What the node wants for this call now, within the limit.
    async fn offer(&self, call: &Call) -> Result<Offer, Error> {
        let blob_fee = match call.blobs {
            // It rises by at most an eighth a block.
            Some(_) => Some(self.node.blob_fee().await?.saturating_mul(2)),
            None => None,
        };
        let offer = Offer {
            fees: self.node.fees().await?,
            blob_fee,
        };
        let rule = self.config.replacement;
        Ok(rule.map_or(offer, |rule| rule.capped(offer)))
    }

    /// Puts a transaction of the outbox back into the mempool unless it is mined; whether it is
    /// mined or can be. It cannot if another transaction took its nonce.
    async fn revive(&self, key: &str, sent: &Sent) -> Result<bool, Error> {
        let newest = sent.newest();
        let bad = |reason: String| Error::BadOutboxEntry {
            key: key.to_owned(),
            reason,
        };
        let signed = envelope(key, &newest.raw)?;
        let account = signed.recover_signer().map_err(|e| bad(e.to_string()))?;
        if self.mined(sent).await?.is_some() {
            return Ok(true);
        }
        if sent.nonce >= self.node.nonce(account, false).await? {
            self.node.submit(newest.raw.clone()).await?;
            return Ok(true);
        }
        // Mined between the two questions, or lost. Nodes behind one URL may differ by a block, and
        // a wrong answer here would send twice: wait before giving the transaction up.
        let begun = Instant::now();
        while begun.elapsed() < self.config.resubmit {
            sleep(self.config.poll).await;
            if self.mined(sent).await?.is_some() {
                return Ok(true);
            }
        }
        tracing::warn!(hash = %newest.hash, %account, nonce = sent.nonce, key, "nonce taken by another transaction, signing anew");
        Ok(false)
    }

    /// The receipt of whichever version is mined.
    async fn mined(&self, sent: &Sent) -> Result<Option<Receipt>, Error> {
        for version in sent.versions.iter().rev() {
            if let Some(receipt) = self.node.receipt(version.hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    /// Adds a version that pays more, if this is the transaction that those after it wait for, and
    /// if it may.
    async fn replace(
        &self,
        from: Address,
        call: &Call,
        key: Option<&str>,
        sent: &mut Sent,
        rule: Replacement,
    ) -> Result<(), Error> {
        if self.node.nonce(from, false).await? != sent.nonce {
            return Ok(());
        }
        let old = sent.newest().offer();
        let Some(offer) = rule.raised(old, self.offer(call).await?) else {
            tracing::warn!(hash = %sent.newest().hash, ?old, "not mined, and paying more is not allowed");
            return Ok(());
        };
        let tx = sent.newest().offering(offer)?;
        let version = Version::sign(tx, &self.account(from)?.signer)?;
        let (hash, raw) = (version.hash, version.raw.clone());
        if let Some(key) = key {
            self.outbox
                .put(&version_key(key, sent.versions.len()), &raw)?;
        }
        // Known from here on, because the bytes may arrive whatever the answer is.
        sent.versions.push(version);
        tracing::info!(%hash, nonce = sent.nonce, ?offer, "not mined; paying more");
        self.node.submit(raw).await.map(|_| ())
    }

    async fn settle(
        &self,
        from: Address,
        call: &Call,
        key: Option<&str>,
        mut sent: Sent,
    ) -> Result<Receipt, Error> {
        let begun = Instant::now();
        let mut submitted = begun;
        let mut raised = begun;
        let receipt = loop {
            if let Some(receipt) = self.mined(&sent).await? {
                break receipt;
            }
            if begun.elapsed() >= self.config.timeout {
                // If the node lost it for good, later transactions must not wait behind its nonce.
                *self.account(from)?.next.lock().await = None;
                return Err(Error::NotMined {
                    hash: sent.newest().hash,
                    seconds: self.config.timeout.as_secs(),
                });
            }
            if let Some(rule) = self.config.replacement
                && raised.elapsed() >= rule.after
            {
                raised = Instant::now();
                if let Err(error) = self.replace(from, call, key, &mut sent, rule).await {
                    tracing::debug!(%error, nonce = sent.nonce, "replacing");
                }
            }
            if submitted.elapsed() >= self.config.resubmit {
                submitted = Instant::now();
                let newest = sent.newest();
                if let Err(error) = self.node.submit(newest.raw.clone()).await {
                    tracing::debug!(hash = %newest.hash, %error, "resubmitting");
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
        Err(Error::Failed {
            hash: receipt.tx,
            reason,
        })
    }
}

/// Where the outbox keeps a version of a transaction; the first under the caller's key itself.
fn version_key(key: &str, index: usize) -> String {
    match index {
        0 => key.to_owned(),
        index => format!("{key}#{index}"),
    }
}
