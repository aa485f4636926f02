//! One answer's attribution, and the record that commits to it.

use alloy_sol_types::SolValue;
use openledger_model::{Adapter, Base};
use openledger_primitives::{
    B256, Bps, Mode, RECORD_VERSION, Record, keccak256,
    merkle::Tree,
    records::{AttributionReport, InferenceReceipt, Parameters},
};
use openledger_suffix_index::Index;
use serde::{Deserialize, Serialize};

use crate::spans::{PaidSpan, admissible, cover};
use crate::{Error, RowSketches, Scores};

/// Everything that attributes the answers of one adapter.
#[derive(Clone, Copy, Debug)]
pub struct Attributor<'a> {
    /// The base model.
    pub base: &'a Base,
    /// The adapter that answers.
    pub adapter: &'a Adapter,
    /// Sketches of its training rows and decoys.
    pub sketches: &'a RowSketches,
    /// Index of its training rows, one document a row, in the same order.
    pub index: &'a Index,
    /// For each training row, the first-committed row of its cluster.
    pub clusters: &'a [u32],
    /// Parameters in force.
    pub parameters: &'a Parameters,
}

/// What the span channel owes a cluster for one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// First-committed row of the cluster.
    pub cluster: u32,
    /// Surprisal of the output tokens that it covers, milli-bits.
    pub millibits: u64,
}

/// Whose data shaped one answer. Integers only; equal for everybody who recomputes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Digest of the receipt.
    pub receipt: B256,
    /// Method ids: [`span_method`], then [`RowSketches::method`].
    pub methods: Vec<B256>,
    /// Digest of the parameters used.
    pub parameters: B256,
    /// The answer's int8 gradient sketch.
    pub query: Vec<i8>,
    /// Admissible spans, by start.
    pub spans: Vec<PaidSpan>,
    /// For each output token the position in `spans` of the span that it pays.
    pub cover: Vec<Option<usize>>,
    /// Surprisal of all output tokens, milli-bits: what the shares are parts of.
    pub total_millibits: u64,
    /// The span channel's shares, by cluster.
    pub shares: Vec<Share>,
    /// Score of each training row, then of each decoy, units of 2^-20.
    pub scores: Vec<i32>,
    /// Training rows among `scores`.
    pub rows: usize,
    /// The decoys' `noiseQuantileBps` quantile for this answer, at least zero. Settlement applies
    /// the quantile of the *epoch's* net scores; this one is for the reader.
    pub noise_floor: i32,
}

/// Method id of span matching: keccak256 of its name.
pub fn span_method() -> B256 {
    keccak256("openledger/span/1")
}

impl Attributor<'_> {
    /// Attributes the answer of `receipt`: spans of `output` in the rows, and the rows' scores for
    /// the gradient of `output` given `prompt`. One backward pass and one scan of the sketches.
    ///
    /// # Errors
    /// [`Error::NotExact`] for an answer of another arithmetic mode, lists that do not fit each
    /// other, or tokens that the model refuses.
    pub fn attribute(
        &self,
        receipt: &InferenceReceipt,
        prompt: &[u32],
        output: &[u32],
        surprisals: &[u32],
    ) -> Result<Attribution, Error> {
        exact(receipt)?;
        let (expected, found) = (output.len(), surprisals.len());
        if expected != found {
            return Err(Error::Surprisals { expected, found });
        }
        let sketches = self.sketches.rows();
        for index in [self.index.documents(), self.clusters.len()] {
            if index != sketches {
                return Err(Error::RowCount { index, sketches });
            }
        }
        let spans = admissible(self.index, output, self.parameters);
        let cover = cover(output.len(), &spans);
        // An answer of nothing has no gradient, and pulls on nobody.
        let query = if output.is_empty() {
            vec![0; self.sketches.dimensions()]
        } else {
            self.sketches
                .query_sketch(self.base, self.adapter, prompt, output)?
        };
        let Scores { rows, decoys } = self.sketches.scores(&query)?;
        Ok(Attribution {
            receipt: receipt.digest(),
            methods: vec![span_method(), self.sketches.method()],
            parameters: self.parameters.digest(),
            shares: self.shares(&spans, &cover, surprisals),
            total_millibits: surprisals.iter().map(|&w| u64::from(w)).sum(),
            noise_floor: noise_floor(&decoys, Bps::new(self.parameters.noiseQuantileBps)?),
            rows: rows.len(),
            scores: [rows, decoys].concat(),
            query,
            spans,
            cover,
        })
    }

    fn shares(
        &self,
        spans: &[PaidSpan],
        cover: &[Option<usize>],
        surprisals: &[u32],
    ) -> Vec<Share> {
        let mut won = std::collections::BTreeMap::<u32, u64>::new();
        for (span, &millibits) in cover.iter().zip(surprisals) {
            if let Some(span) = span {
                let cluster = self.clusters[spans[*span].row as usize];
                *won.entry(cluster).or_default() += u64::from(millibits);
            }
        }
        won.into_iter()
            .map(|(cluster, millibits)| Share { cluster, millibits })
            .collect()
    }
}

impl Attribution {
    /// The attribution of an answer that no adapter gave: nobody's rows took part.
    ///
    /// # Errors
    /// [`Error::NotExact`] for an answer of another arithmetic mode.
    pub fn of_base(
        receipt: &InferenceReceipt,
        surprisals: &[u32],
        parameters: &Parameters,
    ) -> Result<Self, Error> {
        exact(receipt)?;
        Ok(Self {
            receipt: receipt.digest(),
            methods: Vec::new(),
            parameters: parameters.digest(),
            query: Vec::new(),
            spans: Vec::new(),
            cover: vec![None; surprisals.len()],
            total_millibits: surprisals.iter().map(|&w| u64::from(w)).sum(),
            shares: Vec::new(),
            scores: Vec::new(),
            rows: 0,
            noise_floor: 0,
        })
    }

    /// Scores of the training rows.
    pub fn row_scores(&self) -> &[i32] {
        &self.scores[..self.rows]
    }

    /// Scores of the decoys.
    pub fn decoy_scores(&self) -> &[i32] {
        &self.scores[self.rows..]
    }

    /// For each output token, the row that it pays: what settlement takes.
    pub fn cover_rows(&self) -> Vec<Option<u32>> {
        self.cover
            .iter()
            .map(|span| span.map(|span| self.spans[span].row))
            .collect()
    }

    /// Digest of the query sketch: keccak256 of its bytes.
    pub fn query_digest(&self) -> B256 {
        let bytes: Vec<u8> = self.query.iter().map(|byte| byte.cast_unsigned()).collect();
        keccak256(bytes)
    }

    /// Leaf data: `abi.encode(uint32 start, uint32 len, uint32 row, uint32 offset)`.
    pub fn spans_tree(&self) -> Tree {
        Tree::from_data(
            self.spans
                .iter()
                .map(|s| (s.start, s.len, s.row, s.offset).abi_encode()),
        )
    }

    /// Leaf data: `abi.encode(uint64 row, int32 score)`; decoys count on after the rows.
    pub fn scores_tree(&self) -> Tree {
        let scores = self.scores.iter().zip(0u64..);
        Tree::from_data(scores.map(|(&score, row)| (row, score).abi_encode()))
    }

    /// Leaf data: `abi.encode(uint32 cluster, uint64 millibits)`.
    pub fn shares_tree(&self) -> Tree {
        Tree::from_data(
            self.shares
                .iter()
                .map(|s| (s.cluster, s.millibits).abi_encode()),
        )
    }

    /// The record that commits to all of this.
    pub fn record(&self, chain_id: u64) -> AttributionReport {
        AttributionReport {
            version: RECORD_VERSION,
            chainId: chain_id,
            receipt: self.receipt,
            methods: self.methods.clone(),
            querySketch: self.query_digest(),
            spansRoot: self.spans_tree().root(),
            scoresRoot: self.scores_tree().root(),
            sharesRoot: self.shares_tree().root(),
            parameters: self.parameters,
            mode: Mode::Exact.into(),
        }
    }
}

/// Scores are compared bit for bit, so what they are about must be reproducible too.
fn exact(receipt: &InferenceReceipt) -> Result<(), Error> {
    if Mode::is_exact(receipt.mode) {
        Ok(())
    } else {
        Err(Error::NotExact {
            found: receipt.mode,
        })
    }
}

/// The nearest-rank quantile of one answer's decoy scores, at least zero.
fn noise_floor(decoys: &[i32], share: Bps) -> i32 {
    let mut sorted = decoys.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * usize::from(share.get()))
        .div_ceil(10_000)
        .max(1)
        - 1;
    sorted.get(rank).copied().unwrap_or_default().max(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn attribution() -> Attribution {
        let span = |start, row| PaidSpan {
            start,
            len: 3,
            row,
            offset: 5,
            occurrences: 1,
            millibits: 9,
        };
        Attribution {
            receipt: B256::repeat_byte(1),
            methods: vec![span_method(), B256::repeat_byte(2)],
            parameters: Parameters::default().digest(),
            query: vec![1, -1, 127],
            spans: vec![span(0, 4), span(5, 2)],
            cover: vec![
                Some(0),
                Some(0),
                Some(0),
                None,
                None,
                Some(1),
                Some(1),
                Some(1),
            ],
            total_millibits: 800,
            shares: vec![Share {
                cluster: 2,
                millibits: 300,
            }],
            scores: vec![5, -6, 7, 8, 9, 1],
            rows: 5,
            noise_floor: 1,
        }
    }

    #[test]
    fn the_record_binds_every_part() {
        let record = attribution().record(7);
        let changed = |change: &dyn Fn(&mut Attribution)| {
            let mut other = attribution();
            change(&mut other);
            other.record(7).digest() != record.digest()
        };
        assert!(changed(&|a| a.receipt = B256::ZERO));
        assert!(changed(&|a| a.methods.clear()));
        assert!(changed(&|a| a.query[0] = 2));
        assert!(changed(&|a| a.spans[1].row = 3));
        assert!(changed(&|a| a.shares[0].millibits = 301));
        assert!(changed(&|a| a.scores[1] = -7));
        assert!(changed(&|a| a.scores[5] = 2));
        assert_ne!(attribution().record(8).digest(), record.digest());
        let rows = [4, 4, 4, 0, 0, 2, 2, 2].map(|row| (row != 0).then_some(row));
        assert_eq!(attribution().cover_rows(), rows);
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&attribution()).unwrap();
        assert_eq!(
            serde_json::from_str::<Attribution>(&json).unwrap(),
            attribution()
        );
    }

    #[test]
    fn a_negative_floor_is_zero() {
        let share = Bps::new(9_500).unwrap();
        assert_eq!(noise_floor(&[-5, -9], share), 0);
        assert_eq!(noise_floor(&[], share), 0);
        assert_eq!(noise_floor(&[3, 1, 2], share), 3);
    }
}
