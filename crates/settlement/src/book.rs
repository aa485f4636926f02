//! One model's epoch: its inferences are entered one by one, then its gradient pot is shared.

use openledger_primitives::{
    Address, B256, Bps, Mode, Record, Wei,
    records::{Parameters, digest_u32},
};

use crate::{
    Channel, Error, Inference, Line, Model, Quality, Unpaid,
    epoch::ModelOutcome,
    gradient::{NetScore, pay_by_score, pay_equally},
    span::pay_spans,
    threshold::{Threshold, quantile},
};

/// The wallets of an epoch that no model decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pools {
    pub(crate) stakers: Address,
    pub(crate) treasury: Address,
}

/// A model and what its inferences have summed to so far.
#[derive(Debug)]
pub(crate) struct Book<'a> {
    model: &'a Model,
    /// Rows that head a cluster, in order, and the net score of each.
    heads: Vec<u32>,
    net: Vec<NetScore>,
    /// Net scores of the decoy rows.
    decoys: Vec<NetScore>,
    inferences: u64,
    pot: Wei,
}

impl<'a> Book<'a> {
    pub(crate) fn new(model: &'a Model) -> Result<Self, Error> {
        let heads = model.heads()?;
        let net = vec![NetScore::default(); heads.len()];
        Ok(Self {
            model,
            heads,
            net,
            decoys: Vec::new(),
            inferences: 0,
            pot: Wei::ZERO,
        })
    }

    pub(crate) const fn commons(&self) -> Address {
        self.model.commons
    }

    /// Checks one inference against its receipt and the model, nets its scores, and writes the
    /// lines that are due at once: the roles' shares and the span channel.
    pub(crate) fn enter(
        &mut self,
        inference: &Inference,
        receipt: B256,
        span_share: Bps,
        pools: Pools,
        lines: &mut Vec<Line>,
    ) -> Result<(), Error> {
        self.check(inference, receipt)?;
        let parts = self.model.split.parts(Wei::new(inference.receipt.fee))?;
        for (channel, earner, amount) in [
            (
                Channel::Operator,
                inference.receipt.operator,
                parts.operator,
            ),
            (Channel::ModelOwner, self.model.owner, parts.model_owner),
            (Channel::Stakers, pools.stakers, parts.stakers),
            (Channel::Treasury, pools.treasury, parts.treasury),
        ] {
            self.write(lines, Some(receipt), channel, None, earner, amount)?;
        }

        let span_budget = span_share.of(parts.contributors)?;
        let cover = self.clusters(inference, receipt)?;
        let spans = pay_spans(span_budget, &inference.surprisals, &cover)?;
        for (row, amount) in spans.paid {
            let owner = self.owner(row);
            self.write(
                lines,
                Some(receipt),
                Channel::Span,
                Some(row),
                owner,
                amount,
            )?;
        }
        let uncovered = Channel::Commons(Unpaid::Uncovered);
        self.write(
            lines,
            Some(receipt),
            uncovered,
            None,
            self.model.commons,
            spans.uncovered,
        )?;

        let weight = parts.contributors.checked_sub(span_budget)?;
        self.pot = self.pot.checked_add(weight)?;
        for (net, &head) in self.net.iter_mut().zip(&self.heads) {
            let score = usize::try_from(head)
                .ok()
                .and_then(|head| inference.scores.get(head));
            net.add(weight, score.copied().unwrap_or_default())?;
        }
        for (net, &score) in self.decoys.iter_mut().zip(&inference.decoys) {
            net.add(weight, score)?;
        }
        Ok(())
    }

    /// Shares the gradient pot and says where the floor goes next.
    pub(crate) fn close(
        self,
        parameters: &Parameters,
        threshold: &Threshold,
        quality_floor_micro: i64,
        lines: &mut Vec<Line>,
    ) -> Result<ModelOutcome, Error> {
        let average = |net: &[NetScore]| -> Result<Vec<i64>, Error> {
            net.iter().map(|net| net.average(self.pot)).collect()
        };
        let averages = average(&self.net)?;
        let noise = quantile(
            &average(&self.decoys)?,
            Bps::new(parameters.noiseQuantileBps)?,
        );
        // A negative floor would pay rows that did harm.
        let noise = u32::try_from(noise.unwrap_or_default().max(0)).unwrap_or(u32::MAX);
        let floor = self.model.floor.max(noise);

        let audited = match self.model.quality {
            Quality::Unaudited => true,
            Quality::Lds(micro) => micro >= quality_floor_micro,
        };
        let (channel, pay) = if audited {
            (
                Channel::Gradient,
                pay_by_score(self.pot, &averages, floor, parameters.lambda)?,
            )
        } else {
            (Channel::Equal, pay_equally(self.pot, self.heads.len())?)
        };
        let mut paid_clusters = 0u64;
        for (&row, &amount) in self.heads.iter().zip(&pay.paid) {
            paid_clusters = paid_clusters.saturating_add(u64::from(!amount.is_zero()));
            self.write(lines, None, channel, Some(row), self.owner(row), amount)?;
        }
        let rest = Channel::Commons(Unpaid::Unattributed);
        self.write(
            lines,
            None,
            rest,
            None,
            self.model.commons,
            pay.unattributed,
        )?;

        Ok(ModelOutcome {
            adapter: self.model.adapter,
            inferences: self.inferences,
            pot: self.pot,
            noise_floor: noise,
            floor,
            by_score: audited,
            scores: self.heads.iter().copied().zip(averages).collect(),
            paid_clusters,
            // Equal shares say nothing about the floor.
            next_floor: if audited {
                threshold.next(self.model.floor, paid_clusters, self.inferences)
            } else {
                self.model.floor
            },
        })
    }

    fn check(&mut self, inference: &Inference, receipt: B256) -> Result<(), Error> {
        let record = &inference.receipt;
        let charged = Wei::new(record.fee);
        let due = self
            .model
            .prices
            .fee(record.promptTokens, record.outputTokens)?;
        if charged != due {
            return Err(Error::WrongFee {
                receipt,
                charged,
                due,
            });
        }
        if self.inferences == 0 {
            self.decoys = vec![NetScore::default(); inference.decoys.len()];
        }
        self.inferences = self
            .inferences
            .checked_add(1)
            .ok_or(Error::OutOfRange { what: "inferences" })?;
        let outputs = usize::try_from(record.outputTokens).map_err(|_| Error::OutOfRange {
            what: "output tokens",
        })?;
        for (what, found, expected) in [
            ("surprisals", inference.surprisals.len(), outputs),
            ("covered tokens", inference.cover.len(), outputs),
            ("row scores", inference.scores.len(), self.model.rows.len()),
            ("decoy scores", inference.decoys.len(), self.decoys.len()),
        ] {
            if found != expected {
                return Err(Error::Length {
                    receipt,
                    what,
                    found,
                    expected,
                });
            }
        }
        let found = digest_u32(&inference.surprisals);
        if found != record.surprisals {
            return Err(Error::WrongSurprisals {
                receipt,
                expected: record.surprisals,
                found,
            });
        }
        Ok(())
    }

    /// The cover by cluster instead of by row.
    fn clusters(&self, inference: &Inference, receipt: B256) -> Result<Vec<Option<u32>>, Error> {
        let rows = &self.model.rows;
        let cluster = |row: u32| {
            let found = usize::try_from(row).ok().and_then(|row| rows.get(row));
            found.map(|row| row.cluster).ok_or(Error::UnknownRow {
                receipt,
                adapter: self.model.adapter,
                row,
                rows: rows.len(),
            })
        };
        inference
            .cover
            .iter()
            .map(|row| row.map(cluster).transpose())
            .collect()
    }

    fn owner(&self, row: u32) -> Address {
        let found = usize::try_from(row)
            .ok()
            .and_then(|row| self.model.rows.get(row));
        found.map(|row| row.owner).unwrap_or_default()
    }

    fn write(
        &self,
        lines: &mut Vec<Line>,
        receipt: Option<B256>,
        channel: Channel,
        row: Option<u32>,
        earner: Address,
        amount: Wei,
    ) -> Result<(), Error> {
        if amount.is_zero() {
            return Ok(());
        }
        let adapter = self.model.adapter;
        if earner == Address::ZERO {
            return Err(Error::NoWallet {
                role: channel.role().code(),
                adapter,
            });
        }
        lines.push(Line {
            adapter,
            receipt,
            channel,
            row,
            earner,
            amount,
        });
        Ok(())
    }
}

/// The digest of an inference's receipt, if the receipt is for `chain_id` and of an exact answer.
pub(crate) fn receipt_digest(inference: &Inference, chain_id: u64) -> Result<B256, Error> {
    let receipt = inference.receipt.digest();
    let found = inference.receipt.chainId;
    if found != chain_id {
        return Err(Error::WrongChain {
            receipt,
            expected: chain_id,
            found,
        });
    }
    if !Mode::is_exact(inference.receipt.mode) {
        return Err(Error::NotExact {
            receipt,
            found: inference.receipt.mode,
        });
    }
    Ok(receipt)
}
