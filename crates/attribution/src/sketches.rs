//! The sketches of an adapter's training rows and decoys: built once, committed, then queried.

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_sol_types::SolValue;
use openledger_model::{Adapter, Base, Example, Workspace, lora_gradients};
use openledger_primitives::{B256, keccak256, merkle};
use rayon::prelude::*;

use crate::projection::{Projection, dot, quantise, score};
use crate::{Error, SketchSpec, precondition};

/// Called with (gradients done, gradients to do) from any thread.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Int8 gradient sketches of the rows that an adapter was tuned on, and of its decoys.
///
/// Decoys are evaluation rows that the adapter was *not* tuned on: their scores show what chance
/// looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSketches {
    spec: SketchSpec,
    /// The preconditioner: `[parameters]`.
    weights: Vec<f32>,
    projection: Projection,
    method: B256,
    rows: usize,
    /// Rows, then decoys: `[rows + decoys, dimensions]`.
    bytes: Vec<i8>,
}

impl RowSketches {
    /// Fits the preconditioner on the rows, then sketches rows and decoys, in parallel.
    ///
    /// One backward pass an example, and one more for each row that the preconditioner is fitted
    /// on. The bytes do not depend on the number of threads or on the batch that a row is in.
    ///
    /// # Errors
    /// A specification out of range, or an example that the model refuses.
    pub fn build(
        base: &Base,
        adapter: &Adapter,
        rows: &[Example],
        decoys: &[Example],
        spec: &SketchSpec,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        spec.validate()?;
        let fitted = precondition::sample(rows.len(), spec.fit_rows).len();
        let total = fitted + rows.len() + decoys.len();
        let count = AtomicUsize::new(0);
        let done = || progress(count.fetch_add(1, Ordering::Relaxed) + 1, total);
        let weights = precondition::fit(base, adapter, rows, spec, &done)?;
        let size = (rows.len() + decoys.len()) * spec.dimensions as usize;
        let mut sketches = Self::assemble(*spec, weights, rows.len(), vec![0; size]);
        let Self {
            weights,
            projection,
            bytes,
            ..
        } = &mut sketches;
        bytes
            .par_chunks_mut(projection.dimensions())
            .zip(rows.par_iter().chain(decoys))
            .enumerate()
            .try_for_each_init(Scratch::default, |scratch, (row, (bytes, example))| {
                scratch
                    .sketch(base, adapter, example, weights, projection, bytes)
                    .map_err(|source| Error::Row {
                        row,
                        source: Box::new(source),
                    })?;
                done();
                Ok::<_, Error>(())
            })?;
        Ok(sketches)
    }

    /// Sketches from what a file holds; `bytes` is `[rows + decoys, dimensions]`.
    pub(crate) fn assemble(
        spec: SketchSpec,
        weights: Vec<f32>,
        rows: usize,
        bytes: Vec<i8>,
    ) -> Self {
        let projection = Projection::new(spec.seed, spec.dimensions, weights.len());
        let label = keccak256("openledger/gradient-sketch/1");
        let fitted: Vec<u8> = weights
            .iter()
            .flat_map(|weight| weight.to_le_bytes())
            .collect();
        let method = keccak256((label, spec.digest(), keccak256(fitted)).abi_encode());
        Self {
            spec,
            weights,
            projection,
            method,
            rows,
            bytes,
        }
    }

    /// The specification.
    pub const fn spec(&self) -> &SketchSpec {
        &self.spec
    }

    /// Number of training rows.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Number of decoys.
    pub fn decoys(&self) -> usize {
        self.bytes.len() / self.dimensions() - self.rows
    }

    /// Dimensions of a sketch.
    pub const fn dimensions(&self) -> usize {
        self.spec.dimensions as usize
    }

    /// The sketch of a training row: `[dimensions]`.
    pub fn row(&self, row: usize) -> Option<&[i8]> {
        (row < self.rows).then(|| &self.bytes[row * self.dimensions()..][..self.dimensions()])
    }

    /// What a report's `methods` names for these scores: the keccak256 of a label, the
    /// specification's digest and the preconditioner's. So a report binds all that a score depends
    /// on beside the model and the row.
    pub const fn method(&self) -> B256 {
        self.method
    }

    /// The preconditioner's weights: `[parameters]`.
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// All sketches, rows then decoys: `[rows + decoys, dimensions]`.
    pub(crate) fn bytes(&self) -> &[i8] {
        &self.bytes
    }

    /// The Merkle tree of the sketches, rows then decoys, behind `Adapter::sketchRoot`: leaf data is
    /// [`sketch_leaf`].
    pub fn tree(&self) -> merkle::Tree {
        let dimensions = self.dimensions();
        let leaves = self.bytes.par_chunks(dimensions).enumerate();
        merkle::Tree::from_leaves(
            leaves
                .map(|(row, bytes)| merkle::leaf(&sketch_leaf(row as u64, bytes)))
                .collect(),
        )
    }

    /// The root of [`Self::tree`].
    pub fn root(&self) -> B256 {
        self.tree().root()
    }

    /// The sketch of a row (or decoy, counted after the rows) and the siblings that prove it under
    /// [`Self::root`].
    pub fn proof(&self, row: usize) -> Option<(&[i8], Vec<B256>)> {
        let bytes = self.bytes.chunks(self.dimensions()).nth(row)?;
        Some((bytes, self.tree().proof(row)?))
    }

    /// Sketches one example with this preconditioner: to query with, or to check a row.
    ///
    /// # Errors
    /// An adapter of another size, or an example that the model refuses.
    pub fn sketch(
        &self,
        base: &Base,
        adapter: &Adapter,
        example: &Example,
    ) -> Result<Vec<i8>, Error> {
        let (expected, found) = (self.weights.len(), adapter.params().len());
        if expected != found {
            return Err(Error::Parameters { expected, found });
        }
        let mut bytes = vec![0; self.dimensions()];
        Scratch::default()
            .sketch(
                base,
                adapter,
                example,
                &self.weights,
                &self.projection,
                &mut bytes,
            )
            .map_err(|source| Error::Query {
                prompt: example.loss_from.min(example.tokens.len()),
                output: example.targets(),
                source: Box::new(source),
            })?;
        Ok(bytes)
    }

    /// The sketch of an answer: of the gradient of the loss of `output` given `prompt`.
    ///
    /// # Errors
    /// An adapter of another size, or tokens that the model refuses.
    pub fn query_sketch(
        &self,
        base: &Base,
        adapter: &Adapter,
        prompt: &[u32],
        output: &[u32],
    ) -> Result<Vec<i8>, Error> {
        let example = Example {
            tokens: [prompt, output].concat(),
            loss_from: prompt.len(),
        };
        self.sketch(base, adapter, &example)
    }

    /// The scores of all rows, then of all decoys, for a query: signed, in units of 2^-20.
    ///
    /// Positive: the row pulled the model towards the answer. Exact integers, at memory speed.
    ///
    /// # Errors
    /// [`Error::Dimensions`] if the query has another length than the rows.
    pub fn scores(&self, query: &[i8]) -> Result<Scores, Error> {
        let (expected, found) = (self.dimensions(), query.len());
        if expected != found {
            return Err(Error::Dimensions { expected, found });
        }
        let mut rows: Vec<i32> = self
            .bytes
            .chunks(expected)
            .map(|row| score(dot(query, row), expected))
            .collect();
        let decoys = rows.split_off(self.rows);
        Ok(Scores { rows, decoys })
    }
}

/// Scores of one query, in units of 2^-20.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// Of each training row.
    pub rows: Vec<i32>,
    /// Of each decoy.
    pub decoys: Vec<i32>,
}

/// Leaf data of a row's sketch: the row index as big-endian `u64`, then the int8 bytes.
pub fn sketch_leaf(row: u64, sketch: &[i8]) -> Vec<u8> {
    let mut data = row.to_be_bytes().to_vec();
    data.extend(sketch.iter().map(|byte| byte.cast_unsigned()));
    data
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    ws: Option<Workspace>,
    gradient: Vec<f32>,
    sums: Vec<f64>,
}

impl Scratch {
    fn sketch(
        &mut self,
        base: &Base,
        adapter: &Adapter,
        example: &Example,
        weights: &[f32],
        projection: &Projection,
        out: &mut [i8],
    ) -> Result<(), openledger_model::Error> {
        let ws = self.ws.get_or_insert_with(Workspace::new);
        self.gradient.resize(projection.parameters(), 0.0);
        self.sums.resize(projection.dimensions(), 0.0);
        lora_gradients(base, adapter, example, &mut self.gradient, ws)?;
        projection.project(&self.gradient, weights, &mut self.sums);
        quantise(&self.sums, out);
        Ok(())
    }
}
