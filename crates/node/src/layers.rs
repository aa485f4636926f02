//! Both layers in one view: heads, batches, claims, and OPEN on its way between them.

use alloy_rpc_types_eth::{Filter, Log};
use alloy_sol_types::SolEvent;
use openledger_chain::HttpNode;
use openledger_chain::bindings::{L2ToL1MessagePasser, OpenMinter};
use openledger_chain::layer1::GameStatus;
use openledger_chain::predeploys::{MESSAGE_PASSER, OPEN_MINTER};
use openledger_da::certificate::Certificate;
use openledger_da::{CertificateKind, Commitment};
use openledger_primitives::Wei;

use crate::rollup::more;
use crate::rollup::watch::{self, Metric};
use crate::view::{BatchView, DataView, DepositView, Layer1View, RollupView, WithdrawalView};
use crate::{Error, Node, Result};

impl DataView {
    /// Reads a commitment as it stands in the inbox.
    #[must_use]
    pub fn read(commitment: &[u8]) -> Self {
        match Commitment::decode(commitment) {
            Ok(Commitment::Keccak(digest)) => Self::Digest { digest },
            Ok(Commitment::Certificate(certified))
                if certified.kind() == CertificateKind::Development =>
            {
                match Certificate::decode(certified.bytes()) {
                    Ok(certificate) => Self::of_certificate(&certificate),
                    Err(_) => Self::Foreign,
                }
            }
            Ok(Commitment::Certificate(_)) | Err(_) => Self::Foreign,
        }
    }

    fn of_certificate(certificate: &Certificate) -> Self {
        let signed = certificate.signers();
        Self::Certificate {
            kzg_commitment: certificate.commitment().to_bytes().to_vec().into(),
            payload_digest: certificate.payload_digest(),
            payload_bytes: certificate.payload_len(),
            reference_block: certificate.reference_block(),
            committee: certificate.committee(),
            signers: (0..u64::BITS).filter(|n| signed >> n & 1 == 1).collect(),
        }
    }
}

/// Blocks looked back for deposits and withdrawals.
const LOOK_BACK: u64 = 50_000;
/// Most of each that are shown.
const SHOWN: usize = 20;

impl Node {
    /// The rollup as it is now.
    ///
    /// # Errors
    /// When the chain cannot be read, or the node is stopping.
    pub async fn rollup(&self) -> Result<RollupView> {
        let (mut view, covered) = {
            let running = self.running();
            let rollup = &running.as_ref().ok_or(Error::ShuttingDown)?.rollup;
            let heads = rollup.layer2().status().heads();
            let labels = self.chain().labels()?;
            let proposer = rollup.proposals();
            let covered = proposer.last_block;
            let view = RollupView {
                head: labels.head,
                safe: labels.safe,
                finalized: labels.finalized,
                l1: Layer1View {
                    url: rollup.layer1().url(),
                    head: heads.l1_head.number,
                    finalized: heads.l1_finalized.number,
                    derived: heads.derived_from.number,
                    contracts: rollup.network().layer1,
                },
                da_url: rollup.da_url(),
                resets: heads.resets,
                batches: rollup.batches(),
                proposer,
                challenger: rollup.challenges(),
                deposits: Vec::new(),
                withdrawals: Vec::new(),
                trouble: heads.trouble,
            };
            (view, covered)
        };
        view.deposits = self.deposits(view.head)?;
        view.withdrawals = self.withdrawals(&view, covered).await?;
        Ok(view)
    }

    /// The batch with a block in it, of those that the batcher remembers: the newest since the node
    /// started.
    ///
    /// # Errors
    /// When the chain cannot be read, or the node is stopping.
    pub fn batch(&self, block: u64) -> Result<Option<BatchView>> {
        let running = self.running();
        let rollup = &running.as_ref().ok_or(Error::ShuttingDown)?.rollup;
        let batches = rollup.batches();
        // The newest first: a batch that the layer 1 took back was sent again.
        let mut newest = batches.recent.into_iter().rev();
        let Some(sent) = newest.find(|sent| (sent.first..=sent.last).contains(&block)) else {
            return Ok(None);
        };
        let commitment = sent.commitment.as_ref();
        let url =
            |commitment| format!("{}/get/{commitment}", rollup.da_url().trim_end_matches('/'));
        Ok(Some(BatchView {
            safe: self.chain().labels()?.safe >= sent.last,
            data: commitment.map(|commitment| DataView::read(commitment)),
            payload_url: commitment.map(url),
            sent,
        }))
    }

    /// The numbers of the rollup, as its roles tell them when each runs alone; none once the node
    /// has stopped.
    pub(crate) fn layer_metrics(&self) -> Result<Vec<Metric>> {
        let running = self.running();
        let Some(running) = running.as_ref() else {
            return Ok(Vec::new());
        };
        let rollup = &running.rollup;
        let heads = rollup.layer2().status().heads();
        let labels = self.chain().labels()?;
        let (mut claims, against) = (rollup.proposals(), rollup.challenges());
        // One process is both sides.
        claims.wrong += against.wrong;
        claims.challenged += against.challenged;
        claims.moves += against.moves;
        claims.resolved += against.resolved;
        claims.l1_gas += against.l1_gas;
        claims.l1_fee = more(claims.l1_fee, against.l1_fee);
        let mut metrics = watch::of_heads(&heads, labels.head, labels.finalized);
        metrics.extend(watch::of_batches(&rollup.batches()));
        metrics.extend(watch::of_claims(&claims));
        Ok(metrics)
    }

    fn recent_logs<E: SolEvent>(
        &self,
        address: openledger_primitives::Address,
        head: u64,
    ) -> Result<Vec<(Log, E)>> {
        let filter = Filter::new()
            .address(address)
            .event_signature(E::SIGNATURE_HASH)
            .from_block(head.saturating_sub(LOOK_BACK));
        let logs = self.chain().logs(&filter)?;
        let decoded = logs.into_iter().rev().take(SHOWN).filter_map(|log| {
            let event = E::decode_log_data(log.data()).ok()?;
            Some((log, event))
        });
        Ok(decoded.collect())
    }

    fn deposits(&self, head: u64) -> Result<Vec<DepositView>> {
        let logs = self.recent_logs::<OpenMinter::Minted>(OPEN_MINTER, head)?;
        let view = |(log, event): (Log, OpenMinter::Minted)| {
            Ok(DepositView {
                from: event.from,
                to: event.to,
                amount: Wei::try_from(event.amount)?,
                block: log.block_number.unwrap_or_default(),
                tx: log.transaction_hash.unwrap_or_default(),
            })
        };
        logs.into_iter().map(view).collect()
    }

    async fn withdrawals(
        &self,
        view: &RollupView,
        covered: Option<u64>,
    ) -> Result<Vec<WithdrawalView>> {
        let left = self.recent_logs::<OpenMinter::Withdrawn>(OPEN_MINTER, view.head)?;
        let passed =
            self.recent_logs::<L2ToL1MessagePasser::MessagePassed>(MESSAGE_PASSER, view.head)?;
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let at = view.l1.contracts;
        let l1 = HttpNode::new(&view.l1.url)?;
        // A claim of this node's proposer that has fallen covers nothing; the newest one decides.
        let covered = match covered {
            Some(number) => number,
            None => {
                let count = at.game_count(&l1).await?;
                match count.checked_sub(1) {
                    None => 0,
                    Some(last) => {
                        let game = at.game(&l1, last).await?;
                        if game.status == GameStatus::ChallengerWins {
                            0
                        } else {
                            game.number
                        }
                    }
                }
            }
        };
        let mut views = Vec::new();
        for (log, event) in left {
            let tx = log.transaction_hash.unwrap_or_default();
            let message = passed
                .iter()
                .find(|(other, _)| other.transaction_hash == Some(tx));
            let Some((_, message)) = message else {
                continue;
            };
            let block = log.block_number.unwrap_or_default();
            let state = at.withdrawal(&l1, message.withdrawalHash).await?;
            let status = if state.finalized {
                "finalized"
            } else if state.ready_at.is_some() {
                "proven"
            } else if covered >= block {
                "provable"
            } else {
                "waiting"
            };
            views.push(WithdrawalView {
                hash: message.withdrawalHash,
                to: event.to,
                amount: Wei::try_from(event.amount)?,
                block,
                tx,
                status,
                ready_at: state.ready_at,
            });
        }
        Ok(views)
    }
}
